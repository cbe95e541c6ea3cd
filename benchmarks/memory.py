"""Peak memory of `CNNClassifier.fit` and `predict` on 60,000 images of 28x28 bytes, or on large images.

    python benchmarks/memory.py
    SKCNN_DATA=../shared/data python benchmarks/memory.py         # MNIST, from mnist.npz there
    python benchmarks/memory.py --large     # large images and long signals, the default network

Each figure comes from a fresh process. With X in memory it is what is needed over the loaded data;
with X as a memory map, over the interpreter with all imports done, the mapped pages included.
Prints Markdown. Needs a system with /proc for exact figures; elsewhere `getrusage` is used, which
also counts what was needed before.
"""

import argparse
import contextlib
import json
import os
import pickle
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from nets import BATCH, NETS

from skcnn import CNNClassifier

MB = 1e6
BOUNDS = {"in memory": 150, "memory map": 200}  # MB
STATUS = Path("/proc/self/status")

# Shape of an image, number of images, float type, number of classes: batches of up to 10 million values.
LARGE = [
    ("50001", 40, "float32", 2),
    ("50001", 200, "float32", 2),
    ("5000", 200, "float64", 2),
    ("200000", 50, "float32", 2),
    ("1000000", 10, "float32", 2),
    ("16x3000", 200, "float32", 2),
    ("128x128x3", 200, "float64", 10),
    ("224x224", 40, "float32", 2),
    ("224x224", 250, "float32", 10),
    ("300x300", 100, "float64", 5),
    ("500x500x3", 13, "float32", 2),
]
LARGE_BOUND = 300  # MB


def status(name):
    """Return a figure of /proc/self/status in bytes; None where there is none."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 if name in lines else None


def peak_memory():
    """Return the largest resident size so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return status("VmHWM") or largest


def resident_memory():
    """Return the resident size now, in bytes; the largest so far if the system does not tell."""
    return status("VmRSS") or peak_memory()


def reset_peak():
    """Let the largest resident size start again from the present one, where that is possible."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def images_and_labels(n_images):
    """Return images of 28x28 bytes and their labels: MNIST if ``SKCNN_DATA`` has it, or random."""
    folder = os.environ.get("SKCNN_DATA")
    path = Path(folder) / "mnist.npz" if folder else None
    if path and path.exists():
        with np.load(path) as data:
            return "MNIST", data["x_train"][:n_images], data["y_train"][:n_images].astype(int)
    rng = np.random.default_rng(0)
    return "random", rng.integers(0, 256, (n_images, 28, 28), np.uint8), np.arange(n_images) % 10


def classifier(net, n_threads):
    """Return the classifier of a network of the benchmarks, for one epoch."""
    return CNNClassifier(
        NETS[net][1], max_iter=1, batch_size=BATCH, n_jobs=n_threads, random_state=0
    )


def measure(folder, net, source, action, n_threads):
    """Print, as JSON, the bytes that an action needs, in this fresh process."""
    clf = classifier(net, n_threads)
    if action == "predict":
        clf = pickle.loads((folder / f"{net}.pickle").read_bytes()).set_params(n_jobs=n_threads)
    y = np.load(folder / "y.npy")
    interpreter = resident_memory()
    X = np.load(folder / "X.npy", mmap_mode="r" if source == "memory map" else None)
    before = interpreter if source == "memory map" else resident_memory()
    reset_peak()
    if action == "fit":
        clf.fit(X, y)
    else:
        clf.predict(X)
    print(json.dumps({"interpreter": interpreter, "needed": peak_memory() - before}))


def prepare(folder, nets, n_images):
    """Write images, labels and networks trained on a few of them; return the images' name."""
    name, X, y = images_and_labels(n_images)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    for net in nets:
        clf = classifier(net, 1).partial_fit(X[:BATCH], y[:BATCH], classes=np.unique(y))
        (folder / f"{net}.pickle").write_bytes(pickle.dumps(clf))
    return name


def in_fresh_process(folder, *case):
    """Return what `measure` prints for a case."""
    command = [sys.executable, __file__, "--case", str(folder), *map(str, case)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


def measure_large(shape, n_images, dtype, n_classes):
    """Print, as JSON, the bytes that `fit` and `predict` of the default network need over the data."""
    shape = tuple(map(int, shape.split("x")))
    shape = (1, *shape) if len(shape) == 1 else shape
    rng = np.random.default_rng(0)
    X = rng.standard_normal((int(n_images), *shape), dtype=dtype)
    y = np.arange(len(X)) % int(n_classes)
    clf = CNNClassifier(max_iter=1, random_state=0)
    clf.fit(X[: int(n_classes), :, :8], y[: int(n_classes)])  # imports what a fit needs
    needed = []
    for action in (lambda: clf.fit(X, y), lambda: clf.predict(X)):
        before = resident_memory()
        reset_peak()
        action()
        needed.append(peak_memory() - before)
    print(json.dumps(needed))


def large():
    """Print a table of large images and long signals."""
    print(f"# Memory of large images, {date.today()}\n")
    print("| image | images | float type | classes | MB needed to fit | to predict | bound |")
    print("|---|---|---|---|---|---|---|")
    for case in LARGE:
        command = [sys.executable, "-W", "ignore", __file__, "--large-case", *map(str, case)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        fit, predict = (n / MB for n in json.loads(ran.stdout))
        cells = " | ".join(map(str, case))
        print(f"| {cells} | {fit:.0f} | {predict:.0f} | {LARGE_BOUND} |", flush=True)


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=["small", "mnistnet"], choices=list(NETS)[:3])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--images", type=int, default=60000)
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--large-case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.large_case:
        measure_large(*arguments.large_case)
        return
    if arguments.large:
        large()
        return
    if arguments.case:
        folder, net, source, action, n_threads = arguments.case
        measure(Path(folder), net, source, action, int(n_threads))
        return
    with tempfile.TemporaryDirectory() as folder:
        name = prepare(Path(folder), arguments.nets, arguments.images)
        print(f"# Memory, {date.today()}\n")
        print(f"{arguments.images:,} {name} images of 28x28 bytes, ", end="")
        print(f"{arguments.images * 784 / MB:.0f} MB; batch {BATCH}, one epoch; ", end="")
        print(f"Python {platform.python_version()}, NumPy {np.__version__}.\n")
        print("| net | X | threads | action | MB needed | bound | MB of the interpreter |")
        print("|---|---|---|---|---|---|---|")
        cases = [
            (net, source, action, n)
            for net in arguments.nets
            for source in BOUNDS
            for n in arguments.threads
            for action in ("fit", "predict")
        ]
        for net, source, action, n in cases:
            got = in_fresh_process(folder, net, source, action, n)
            needed, interpreter = got["needed"] / MB, got["interpreter"] / MB
            line = f"| {net} | {source} | {n} | {action} | {needed:.0f} | {BOUNDS[source]} "
            print(f"{line}| {interpreter:.0f} |", flush=True)


if __name__ == "__main__":
    main()
