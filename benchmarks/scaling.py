"""Seconds of a training epoch and of predicting, against the size of the task and the threads.

    python benchmarks/scaling.py                  # two or three minutes; draws scaling.png
    python benchmarks/scaling.py --quick out.png  # a few seconds, to see that all works

Four series around one network, Conv(f), MaxPool, Conv(2 f), MaxPool, Dense(64), with f = 16 on
28x28 images of bytes: number of images, side of the images, filters f, threads. Prints a Markdown
table. Let nothing else run on the machine meanwhile. Needs Matplotlib.
"""

import argparse
import time
from datetime import date

import matplotlib
import numpy as np
from nets import BATCH
from threadpoolctl import threadpool_info

from skcnn import CNNClassifier
from skcnn.layers import Conv, Dense, MaxPool

matplotlib.use("Agg")

import matplotlib.pyplot as plt

# What a case is made of unless its series varies it.
USUAL = {"images": 10000, "side": 28, "filters": 16, "threads": 1}

# name: (label of the axis, values, what else differs from the usual, exponent of a straight line
# that the seconds should follow)
SERIES = {
    "images": ("images", (10000, 20000, 40000, 60000), {}, 1),
    "side": ("rows and columns of an image", (16, 32, 64), {"images": 4000}, 2),
    "filters": ("filters of the first layer", (8, 16, 32, 64, 128), {"images": 1000}, 2),
    "threads": ("threads", (1, 2), {"filters": 32, "images": 4000}, -1),
}
QUICK = {"images": 20, "side": 10, "filters": 10, "threads": 20}  # so many times fewer images

COLORS = {"training epoch": "#3a7ca5", "predict": "#d98032"}


def cases(quick):
    """Yield ``(series, case)`` for each point of the figure."""
    for name, (_, values, others, _) in SERIES.items():
        for value in values:
            case = USUAL | others | {name: value}
            if quick:
                case["images"] //= QUICK[name]
            yield name, case


def seconds(case, repeats):
    """Return the median seconds of a training epoch and of predicting."""
    f, side = case["filters"], case["side"]
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (case["images"], side, side), np.uint8)
    y = np.arange(len(X)) % 10
    layers = (Conv(f), MaxPool(), Conv(2 * f), MaxPool(), Dense(64))
    clf = CNNClassifier(layers, batch_size=BATCH, n_jobs=case["threads"], random_state=0)
    clf.partial_fit(X[:BATCH], y[:BATCH], classes=range(10))  # warm up
    clf.predict(X[:BATCH])
    runs = {"training epoch": lambda: clf.partial_fit(X, y), "predict": lambda: clf.predict(X)}
    taken = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in taken.items()}


def draw(points, title, path):
    """Draw one panel for each series, with a dotted line of the expected slope."""
    figure, panels = plt.subplots(1, len(SERIES), figsize=(15, 4), layout="constrained")
    for axes, (name, (label, _, _, exponent)) in zip(panels, SERIES.items(), strict=True):
        x = np.array([value for value, _ in points[name]], float)
        for run, color in COLORS.items():
            y = [point[run] for _, point in points[name]]
            axes.plot(x, y, "o-", color=color, label=run)
            expected = y[0] * (x / x[0]) ** exponent
            axes.plot(x, expected, ":", color=color, alpha=0.7)
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.set_xticks(x, [f"{value:,.0f}" for value in x])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        slope = {1: "linear", 2: "quadratic", -1: "shared equally"}[exponent]
        axes.set_title(f"dotted: {slope}", fontsize=10, color="grey")
    panels[0].set_ylabel("seconds")
    panels[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", default="scaling.png", help="of the figure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="far fewer images, one repeat")
    arguments = parser.parse_args()
    kernels = {
        lib["architecture"] for lib in threadpool_info() if lib["internal_api"] == "openblas"
    }
    title = f"NumPy {np.__version__}, OpenBLAS kernels {', '.join(sorted(kernels)) or 'none'}"
    print(f"# Scaling, {date.today()}\n\n{title}; batch {BATCH}, images of bytes.\n")
    print("| series | images | side | filters | threads | epoch, s | predict, s |")
    print("|---|---|---|---|---|---|---|")
    points = {name: [] for name in SERIES}
    for name, case in cases(arguments.quick):
        point = seconds(case, 1 if arguments.quick else arguments.repeats)
        points[name].append((case[name], point))
        sizes = " | ".join(f"{case[key]:,}" for key in USUAL)
        print(
            f"| {name} | {sizes} | {point['training epoch']:.3f} | {point['predict']:.3f} |",
            flush=True,
        )
    draw(points, title, arguments.path)
    print(f"\nFigure: {arguments.path}")


if __name__ == "__main__":
    main()
