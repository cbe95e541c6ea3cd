"""Speed of training and predicting, beside torch, skorch, ONNX Runtime and MLPClassifier.

One command, one process; the contestants run in turn, again and again. A ratio is the median of the
ratios of all turns: what slows the machine down for a while slows down both.

    python benchmarks/speed.py                                    # the kernels OpenBLAS chooses
    OPENBLAS_CORETYPE=Haswell python benchmarks/speed.py          # older kernels

Needs the extra "bench". Prints Markdown. Let nothing else run on the machine meanwhile.
"""

import argparse
import multiprocessing
import os
import platform
import time
import warnings
from datetime import date

import numpy as np
from nets import BATCH, NETS, copy_weights, random_data, torch_module
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from skcnn import CNNClassifier
from skcnn._data.samples import check_samples
from skcnn._engine.blocks import even_slices
from skcnn._training.loop import train_step
from skcnn._training.settings import make_optimizer
from skcnn._training.start import open_session
from skcnn._training.steps import Trainer
from skcnn._workers.pool import open_pool
from skcnn.layers import Conv, MaxPool
from skcnn.layers.base import Workspace

warnings.simplefilter("ignore")


TINY = 1e-30
PARTS = ("training", "workers", "predicting", "overheads")
PAUSE = 0.1  # seconds in which the threads of the contestant before fall asleep
EPOCHS = 3  # of a fit: what is done once a fit, such as to share the images, weighs as in real ones


def in_turn(contestants, repeats):
    """Run each contestant once to warm up, then all in turn; return the seconds of each, an array."""
    for run in contestants.values():
        run()
    seconds = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio(seconds, other_seconds):
    """Return how many times as fast the first were, the median of all turns."""
    return float(np.median(other_seconds / seconds))


def classifier(layers, n_jobs=1, **params):
    """Return a classifier that does what the torch loop does."""
    same = {"alpha": 0, "standardize": False, "batch_size": BATCH, "random_state": 0}
    return CNNClassifier(layers, n_jobs=n_jobs, **same, **params)


def torch_loop(module, X, y, memory_format, epsilon=1e-8):
    """Return ``(epoch, predict, in order)``: functions that train and predict as plainly as torch can."""
    import torch
    from torch.nn.functional import cross_entropy

    module = module.to(memory_format=memory_format)
    images = torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))
    images = images.contiguous(memory_format=memory_format)
    labels = torch.from_numpy(y)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, eps=epsilon)

    def step(part):
        optimizer.zero_grad()
        loss = cross_entropy(module(images[part]), labels[part])
        loss.backward()
        optimizer.step()
        return loss.item()

    def epoch():
        order = torch.randperm(len(images))
        return [step(order[i : i + BATCH]) for i in range(0, len(images), BATCH)]

    def in_order(n_steps):
        return [step(slice(i * BATCH, (i + 1) * BATCH)) for i in range(n_steps)]

    def predict():
        with torch.no_grad():
            return [module(images[i : i + BATCH]).argmax(1) for i in range(0, len(images), BATCH)]

    return epoch, predict, in_order


def check_same_work(name):
    """Return the largest relative difference between our losses and torch's over 20 steps.

    In float64: in float32 roundings grow from step to step, where ReLU and maxima have kinks. With
    next to no epsilon in Adam: theirs is added after a correction that ours, as scikit-learn's, makes
    later, and that alone changes the losses by up to 1e-3.
    """
    import torch

    image_shape, layers, _, _ = NETS[name]
    X, y = random_data(image_shape, 20 * BATCH, seed=1)
    X = X.astype(np.float64)
    clf = classifier(layers, shuffle=False, epsilon=TINY)
    clf.partial_fit(X[:BATCH], y[:BATCH], classes=range(10))
    clf._progress.optimizer = make_optimizer(clf, clf._progress.weights, clf._model.network.n_coefs)
    module = torch_module(layers, image_shape).double()
    copy_weights(clf, module)
    _, _, in_order = torch_loop(module, X, y, torch.contiguous_format, TINY)
    theirs = np.array(in_order(20))
    ours = []
    for i in range(20):
        part = slice(i * BATCH, (i + 1) * BATCH)
        ours.append(clf.partial_fit(X[part], y[part]).loss_)
    return float(np.max(np.abs(ours / theirs - 1)))


def mlp_like(clf, n_features):
    """Return an MLPClassifier with as many weights."""
    n_weights = sum(c.size for c in clf.coefs_) + sum(b.size for b in clf.intercepts_)
    units = max(round((n_weights - 10) / (n_features + 11)), 1)
    return MLPClassifier(units, batch_size=BATCH, max_iter=1, alpha=0)


def skorch_like(module):
    """Return skorch's classifier around the torch module."""
    import torch
    from skorch import NeuralNetClassifier

    return NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=BATCH,
        max_epochs=1,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=True,
    )


def training(name, n_threads, repeats):
    """Return images and seconds of an epoch, see `race`."""
    import torch

    image_shape, layers, n_images, _ = NETS[name]
    X, y = random_data(image_shape, n_images)
    clf = classifier(layers, n_threads).partial_fit(X[:BATCH], y[:BATCH], classes=range(10))
    contestants = {"skcnn": lambda: clf.partial_fit(X, y)}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        module = torch_module(layers, image_shape)
        epoch, _, _ = torch_loop(module, X, y, memory_format)
        contestants[f"torch {memory_format}"] = epoch
    net = skorch_like(torch_module(layers, image_shape)).initialize()
    images = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    contestants["skorch"] = lambda: net.partial_fit(images, y)
    mlp, flat = mlp_like(clf, X[0].size), X.reshape(len(X), -1)
    contestants["MLP"] = lambda: mlp.partial_fit(flat, y, classes=range(10))
    return n_images, race(contestants, n_threads, repeats)


def predicting(name, n_threads, repeats):
    """Return images and seconds of predicting, see `race`."""
    import torch

    image_shape, layers, _, n_images = NETS[name]
    X, y = random_data(image_shape, n_images)
    clf = classifier(layers, n_threads).partial_fit(X[:BATCH], y[:BATCH], classes=range(10))
    contestants = {"skcnn": lambda: clf.predict(X)}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        module = torch_module(layers, image_shape)
        copy_weights(clf, module)
        _, predict, _ = torch_loop(module, X, y, memory_format)
        contestants[f"torch {memory_format}"] = predict
    images = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    net = skorch_like(module).initialize()
    contestants["skorch"] = lambda: net.predict(images)
    session = onnx_session(module, image_shape, n_threads)
    for batch in (64, 128, 500):
        contestants[f"onnx {batch}"] = lambda batch=batch: [
            session.run(None, {"x": images[i : i + batch]})[0].argmax(1)
            for i in range(0, n_images, batch)
        ]
    mlp, flat = mlp_like(clf, X[0].size), X.reshape(len(X), -1)
    mlp.fit(flat[:BATCH], y[:BATCH])
    contestants["MLP"] = lambda: mlp.predict(flat)
    return n_images, race(contestants, n_threads, repeats)


def race(contestants, n_threads, repeats):
    """Return the seconds of all turns by contestant, of torch and ONNX Runtime the better variant."""
    import torch

    torch.set_num_threads(n_threads)
    with threadpool_limits(n_threads, user_api="blas"):
        seconds = in_turn(contestants, repeats)
    best = {}
    for name in sorted(seconds, key=lambda name: np.median(seconds[name])):
        best.setdefault(name.split()[0], seconds[name])
    return best


class Programs:
    """Two other programs, a core each, that train a network with one worker at the same time."""

    def __init__(self, train):
        context = multiprocessing.get_context("fork")
        self.pipes = []
        for core in sorted(os.sched_getaffinity(0))[:2]:
            ours, theirs = context.Pipe()
            arguments = theirs, train, core
            context.Process(target=self._serve, args=arguments, daemon=True).start()
            self.pipes.append(ours)

    @staticmethod
    def _serve(pipe, train, core):
        os.sched_setaffinity(0, {core})
        while pipe.recv():
            start = time.perf_counter()
            train()
            pipe.send(time.perf_counter() - start)

    def run(self):
        """Have both train an epoch; return the seconds of each."""
        for pipe in self.pipes:
            pipe.send(True)
        return [pipe.recv() for pipe in self.pipes]

    def close(self):
        """End them."""
        for pipe in self.pipes:
            pipe.send(False)


def two_workers(name, repeats):
    """Return how many times as fast as one worker two fit, and how many times two programs do.

    What two programs that never wait for each other reach is what the machine gives at that time.
    """
    image_shape, layers, n_images, _ = NETS[name]
    X, y = random_data(image_shape, n_images)
    one, two = (classifier(layers, n, max_iter=EPOCHS) for n in (1, 2))
    programs = Programs(lambda: one.fit(X, y))
    each = []
    runs = {
        "one": lambda: one.fit(X, y),
        "two": lambda: two.fit(X, y),
        "programs": lambda: each.append(programs.run()),
    }
    seconds = in_turn(runs, repeats)
    programs.close()
    rates = (1 / np.array(each[1:])).sum(axis=1)  # the first was to warm up
    return ratio(seconds["two"], seconds["one"]), float(np.median(seconds["one"] * rates))


def onnx_session(module, image_shape, n_threads):
    """Return an ONNX Runtime session of the torch module's network and weights."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from torch import nn

    nodes, weights, last = [], [], "x"

    def add(op, *arrays, **attributes):
        nonlocal last
        names = []
        for array in arrays:
            names.append(f"w{len(weights)}")
            weights.append(numpy_helper.from_array(array.detach().numpy().copy(), names[-1]))
        nodes.append(helper.make_node(op, [last, *names], [f"y{len(nodes)}"], **attributes))
        last = f"y{len(nodes) - 1}"

    for m in module:
        if isinstance(m, nn.Conv2d):
            add("Conv", m.weight.contiguous(), m.bias, pads=[*m.padding, *m.padding])
        elif isinstance(m, nn.Linear):
            add("Gemm", m.weight, m.bias, transB=1)
        elif isinstance(m, nn.MaxPool2d | nn.AvgPool2d):
            op = "MaxPool" if isinstance(m, nn.MaxPool2d) else "AveragePool"
            add(op, kernel_shape=[m.kernel_size] * 2, strides=[m.kernel_size] * 2)
        elif isinstance(m, nn.AdaptiveAvgPool2d):
            add("GlobalAveragePool")
        else:
            add({nn.ReLU: "Relu", nn.Tanh: "Tanh", nn.Flatten: "Flatten"}[type(m)])
    rows, columns, channels = image_shape
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, channels, rows, columns])
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, [None, 10])
    model = helper.make_model(
        helper.make_graph(nodes, "net", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def sgemm_rate():
    """Return the GFLOP/s of one thread of sgemm on 1024 by 1024 matrices."""
    a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    out = np.empty_like(a)
    with threadpool_limits(1, user_api="blas"):
        seconds = np.median(in_turn({"sgemm": lambda: np.matmul(a, a, out=out)}, 15)["sgemm"])
    return 2 * 1024**3 / seconds / 1e9


def convolution_share(side, channels, filters, repeats, n_images=60):
    """Return a 3x3 convolution's GFLOP/s, forward and in both directions, as if done directly."""
    layer, shape = Conv(filters, activation="identity"), (side, side, channels)
    work = Workspace(layer, shape, n_images, np.float32)
    rng = np.random.default_rng(0)
    x = rng.random((side, channels, side, n_images), dtype=np.float32)
    dy = rng.random((side, filters, side, n_images), dtype=np.float32)
    weights = {k: rng.random(s, dtype=np.float32) for k, s in layer.weight_shapes(shape).items()}
    grads = {k: np.empty_like(w) for k, w in weights.items()}

    def both():
        layer.forward(x, weights, work)
        layer.backward(dy, weights, grads, work)

    with open_pool(n_jobs=1):
        runs = {"forward": lambda: layer.forward(x, weights, work), "both": both}
        seconds = in_turn(runs, 3 * repeats)
    flops = 2 * 9 * channels * filters * side**2 * n_images / 1e9
    return flops / np.median(seconds["forward"]), 3 * flops / np.median(seconds["both"])


def multiply_adds(name):
    """Return the multiply-adds of one image forward, all and those of the first layer."""
    image_shape, layers, _, _ = NETS[name]
    counts, shape = [], image_shape
    for layer in layers:
        weights = layer.weight_shapes(shape)
        shape = layer.output_shape(shape)
        if weights:
            per_output = int(np.prod(weights["coef"])) // shape[2]
            counts.append(per_output * int(np.prod(shape)))
    counts.append(int(np.prod(shape)) * 10)
    return sum(counts), counts[0]


def bare_loop(repeats, n_images=12800):
    """Return the share of `fit` that is not the bare loop over batches of the small network."""
    image_shape, layers, _, _ = NETS["small"]
    X, y = random_data(image_shape, n_images)
    X = X.reshape(n_images, -1)
    clf = classifier(layers, max_iter=1).fit(X, y)
    data = X, y, None
    samples = check_samples(clf, data, vars(clf))
    task = open_session(clf, samples, clf._model, clf._progress, 1).task

    def loop():
        with open_pool(n_jobs=1) as pool:
            trainer = Trainer(task, clf._progress.weights, clf._progress.optimizer, pool)
            trainer.order[...] = np.arange(n_images)
            for batch in even_slices(n_images, BATCH):
                train_step(task, clf._progress, trainer, batch)

    seconds = in_turn({"fit": lambda: clf.fit(X, y), "loop": loop}, repeats)
    return ratio(seconds["loop"], seconds["fit"]) - 1


def digits_beside_mlp(repeats):
    """Return seconds of 20 epochs on digits, by our small network and MLPClassifier(100)."""
    X, y = load_digits(return_X_y=True)
    ours = CNNClassifier((Conv(8), MaxPool()), max_iter=20, n_iter_no_change=20)
    mlp = MLPClassifier(100, max_iter=20, n_iter_no_change=20)
    return in_turn({"skcnn": lambda: ours.fit(X, y), "MLP": lambda: mlp.fit(X, y)}, repeats)


def single_image(repeats=500):
    """Return the median microseconds of `predict_proba` of one image by the small network."""
    image_shape, layers, _, _ = NETS["small"]
    X, y = random_data(image_shape, BATCH)
    clf = classifier(layers, max_iter=1).fit(X, y)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        clf.predict_proba(X[:1])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e6


def table(title, rows, peers):
    """Print a Markdown table of rates and ratios."""
    print(f"\n## {title}, images a second\n")
    print(
        "| net | threads | skcnn | "
        + " | ".join(peers)
        + " | "
        + " | ".join(f"to {p}" for p in peers)
        + " |"
    )
    print("|---|" + "---|" * (2 + 2 * len(peers)))
    ratios = {peer: [ratio(s["skcnn"], s[peer]) for *_, (_, s) in rows] for peer in peers}
    for row, (name, n_threads, (n_images, seconds)) in enumerate(rows):
        values = [f"{n_images / np.median(seconds[c]):,.0f}" for c in ("skcnn", *peers)]
        values += [f"{ratios[peer][row]:.2f}" for peer in peers]
        print(f"| {name} | {n_threads} | {' | '.join(values)} |", flush=True)
    for peer, values in ratios.items():
        mean, least = np.exp(np.mean(np.log(values))), min(values)
        print(f"\nTo {peer}: geometric mean {mean:.2f}, least {least:.2f}.")


def show_training(cells, repeats, peak):
    """Print what training is compared with: other libraries, and the roof of sgemm."""
    names = list(dict.fromkeys(name for name, _ in cells))
    for name in names:
        difference = check_same_work(name)
        print(f"\nLargest difference of 20 losses from torch's, {name}: {difference:.1e}")
    trained = [(name, n, training(name, n, repeats)) for name, n in cells]
    table("Training", trained, ["torch", "skorch", "MLP"])
    show_roof([(name, *run) for name, n, run in trained if n == 1], peak)


def show_roof(trained, peak):
    """Print the share of sgemm's rate that training by one worker reaches."""
    if trained:
        print("\n## Training against the roof of sgemm\n")
    for name, n_images, seconds in trained:
        forward, first = multiply_adds(name)
        rate = n_images / np.median(seconds["skcnn"])
        share = rate * 2 * (3 * forward - first) / 1e9 / peak
        print(f"- {name}: {share:.0%}")


def show_workers(names, repeats):
    """Print how many times as fast two workers train as one, and what the machine gives."""
    print(f"\n## Two workers beside one, fits of {EPOCHS} epochs\n")
    for name in names:
        workers, programs = two_workers(name, repeats)
        print(f"- {name}: {workers:.2f}, two programs {programs:.2f}", flush=True)


def show_overheads(repeats, peak):
    """Print how near to sgemm convolutions come, and what is added to bare loops."""
    print("\n## Convolutions against sgemm, and overheads\n")
    for side, channels, filters in [(32, 32, 32), (16, 64, 64), (32, 64, 128), (16, 128, 128)]:
        forward, both = convolution_share(side, channels, filters, repeats)
        print(f"- 3x3 convolution, {channels} to {filters} channels on {side}x{side}: ", end="")
        print(f"{forward / peak:.0%} of sgemm forward, {both / peak:.0%} with its gradients")
    print(f"- `fit` over the bare loop, small, 12,800 images: {bare_loop(repeats):+.1%}")
    seconds = digits_beside_mlp(repeats)
    ours, mlp = (np.median(seconds[name]) for name in ("skcnn", "MLP"))
    print(f"- digits, 20 epochs: small {ours:.2f} s, MLP(100) {mlp:.2f} s")
    print(f"- one image through `predict_proba` of small: {single_image():.0f} us")


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    kernels = {
        lib["architecture"] for lib in threadpool_info() if lib["internal_api"] == "openblas"
    }
    peak = sgemm_rate()
    print(f"# Speed, {date.today()}\n\n{platform.processor() or platform.machine()}, ", end="")
    print(f"NumPy {np.__version__}, OpenBLAS kernels {', '.join(sorted(kernels))}, ", end="")
    print(
        f"sgemm {peak:.0f} GFLOP/s on one thread; batch {BATCH}, float32, Adam; medians of ", end=""
    )
    print(f"{arguments.repeats} runs in turn.")
    cells = [(name, n) for name in arguments.nets for n in arguments.threads]
    if "training" in arguments.only:
        show_training(cells, arguments.repeats, peak)
    if "workers" in arguments.only:
        show_workers(arguments.nets, arguments.repeats)
    if "predicting" in arguments.only:
        predicted = [(name, n, predicting(name, n, arguments.repeats)) for name, n in cells]
        table("Predicting", predicted, ["torch", "onnx", "skorch", "MLP"])
    if "overheads" in arguments.only:
        show_overheads(arguments.repeats, peak)


if __name__ == "__main__":
    main()
