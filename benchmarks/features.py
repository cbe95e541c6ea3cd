"""Convolutional features beside pixels, HOG and scattering: the same linear classifier on each.

``python benchmarks/features.py [mnist] [cifar10] [speed]``; all three take about an hour. Error in
percent on the test set, used once; the classifier's regularisation is chosen by cross-validation on
the training images. scikit-image, kymatio and torch are used where they can be imported, the data
of ``../shared/data`` or of the folder that SKCNN_DATA names.
"""

import argparse
import gc
import importlib
import os
import resource
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from accuracy import FOUR, photo_classifier
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skcnn import ConvFeatureExtractor

DATA = Path(os.environ.get("SKCNN_DATA", Path(__file__).parents[2] / "shared" / "data"))
N_JOBS = 2

# Chosen on training images (MNIST: 1,000 and 300 of them against 5,000 others; CIFAR-10: 40,000
# against the other 10,000).
MNIST = ConvFeatureExtractor(
    "kmeans",
    n_filters=300,
    kernel_size=9,
    whiten_epsilon=1,
    activation="crelu",
    pooling="avg",
    pool_size=12,
    pool_stride=4,
    random_state=0,
    n_jobs=N_JOBS,
)
CIFAR = ConvFeatureExtractor(
    "kmeans",
    n_filters=400,
    kernel_size=6,
    padding="valid",
    activation="soft_threshold",
    threshold=0.35,
    pooling="avg",
    pool_grid=2,
    random_state=0,
    n_jobs=N_JOBS,
)


def load(name):
    """Return ``(X_train, y_train, X_test, y_test)``."""
    sys.path.insert(0, str(DATA))
    return importlib.import_module("load").load(name)


class Hog:
    """Histograms of oriented gradients of scikit-image."""

    def __init__(self):
        from skimage.feature import hog

        self.hog = hog

    def __call__(self, X):
        """Return the features of images, one row each."""
        channel_axis = -1 if X.ndim == 4 else None
        size = (4, 4) if X.ndim == 3 else (8, 8)
        return np.stack(
            [
                self.hog(
                    image,
                    orientations=9,
                    pixels_per_cell=size,
                    cells_per_block=(2, 2),
                    channel_axis=channel_axis,
                )
                for image in X
            ]
        ).astype(np.float32)


class Scattering:
    """The scattering transform of kymatio, two scales, eight directions, on grey images."""

    def __init__(self):
        from kymatio.numpy import Scattering2D

        self.make = Scattering2D

    def __call__(self, X):
        """Return the features of images, one row each."""
        if X.ndim == 4:
            X = X.mean(axis=3)
        transform = self.make(J=2, shape=X.shape[1:])
        parts = [
            transform(X[i : i + 500].astype(np.float32) / 255).reshape(len(X[i : i + 500]), -1)
            for i in range(0, len(X), 500)
        ]
        return np.concatenate(parts).astype(np.float32)


def pixels(X):
    """Return the images as rows of float32."""
    return X.reshape(len(X), -1).astype(np.float32)


def fit_classifier(F, y):
    """Return standardised ridge classification; the penalty is chosen by cross-validation.

    Of many images 20,000 choose it, so that their features need not be copied as a whole.
    """
    scaler = StandardScaler(copy=False)
    F = scaler.fit_transform(F)
    n, n_features = F.shape
    if n <= 2000:  # all but one at a time
        classifier = RidgeClassifierCV(alphas=np.logspace(-4, 0, 9) * max(n, n_features))
        return make_pipeline(scaler, classifier.fit(F, y))
    many = n_features > 5000
    shares = np.logspace(-4, -2, 3) if many else np.logspace(-4, 0, 9)
    cv = ShuffleSplit(1, test_size=0.1, random_state=0) if many else KFold(5)
    part = min(n, 20000)
    ridge = RidgeClassifier(solver="cholesky", copy_X=False)
    search = GridSearchCV(ridge, {"alpha": shares * part}, cv=cv, refit=False)
    alpha = search.fit(F[:part], y[:part]).best_params_["alpha"] * n / part
    return make_pipeline(scaler, clone(ridge).set_params(alpha=alpha).fit(F, y))


def error(features, X, y, X_test, y_test, root=False, mirror=False):
    """Return ``(test error in percent, images a second, number of features)``.

    With `root` the classifier sees the square roots of the features, with `mirror` mirrored copies
    of the training images as well.
    """
    if hasattr(features, "fit"):
        features.fit(X, y)
        features = features.transform
    if mirror:
        X, y = np.concatenate([X, X[:, :, ::-1]]), np.concatenate([y, y])
    start = perf_counter()
    F = features(X)
    rate = len(X) / (perf_counter() - start)
    after = FunctionTransformer(np.sqrt if root else None)
    model = fit_classifier(after.transform(F), y)
    del F
    gc.collect()
    wrong = sum(
        np.count_nonzero(model.predict(after.transform(features(X_test[i : i + 2000]))) != labels)
        for i, labels in ((i, y_test[i : i + 2000]) for i in range(0, len(X_test), 2000))
    )
    return 100 * wrong / len(X_test), rate, model.n_features_in_


def peers():
    """Return the features to compare with, as far as their libraries can be imported."""
    found = {"pixels": pixels}
    for name, make in (("HOG", Hog), ("scattering", Scattering)):
        try:
            found[name] = make()
        except ImportError as reason:
            print(f"{name} left out: {reason}\n")
    return found


def table(title, sizes, rows, data):
    """Print a Markdown table of errors; `rows` maps a name to features and options of `error`."""
    X, y, X_test, y_test = data
    print(f"## {title}\n")
    print("| features | number | " + " | ".join(f"{n:,} images" for n in sizes) + " | images/s |")
    print("|---|---|" + "---|" * len(sizes) + "---|", flush=True)
    for name, (features, options) in rows.items():
        results = [error(features, X[:n], y[:n], X_test, y_test, **options) for n in sizes]
        errors = " | ".join(f"{wrong:.2f}" for wrong, _, _ in results)
        _, rate, n_features = results[-1]
        print(f"| {name} | {n_features:,} | {errors} | {rate:,.0f} |", flush=True)
    print()


def mnist():
    """Print the errors on MNIST."""
    rows = {name: (features, {}) for name, features in peers().items()}
    rows["skcnn, 300 filters 9x9"] = (MNIST, {"root": True})
    table("MNIST, test error in percent", (300, 1000, 60000), rows, load("mnist"))


def cifar10():
    """Print the errors on CIFAR-10."""
    rows = {name: (features, {}) for name, features in peers().items()}
    rows["skcnn, 400 filters 6x6"] = (CIFAR, {})
    rows["skcnn, 2,000 filters 6x6, mirrored copies"] = (
        clone(CIFAR).set_params(n_filters=2000),
        {"mirror": True},
    )
    cnn = ConvFeatureExtractor(photo_classifier(FOUR), n_jobs=N_JOBS)
    rows["skcnn, 352 filters of a CNNClassifier, four convolutions"] = (cnn, {"mirror": True})
    table("CIFAR-10, test error in percent", (50000,), rows, load("cifar10"))


def medians(functions, repeats=5):
    """Return the median seconds of functions, called in turn."""
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = perf_counter()
            function()
            seconds[name].append(perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def peak():
    """Return the peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed():
    """Print the throughput of many filters on colour images, and of few on grey ones."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60000, 32, 32, 3), dtype=np.uint8)
    features = CIFAR.fit(X[:5000])
    features.set_params(n_jobs=1).transform(X[:500])
    before = peak()
    F = features.transform(X[:20000])
    needed = peak() - before - F.nbytes / 2**20
    del F
    start = perf_counter()
    F = features.set_params(n_jobs=N_JOBS).transform(X)
    seconds = perf_counter() - start
    print("## Speed\n")
    print(
        f"- 400 filters 6x6, whitened, both signs, 2x2 grid, {len(X):,} images of 32x32x3, "
        f"{N_JOBS} workers: {len(X) / seconds:,.0f} images/s; "
        f"a worker needs {needed:,.0f} MB over input and output"
    )
    del F, X
    fixed()


def fixed():
    """Print the speed of the Sobel filters beside SciPy's loop and torch."""
    from scipy.ndimage import correlate

    X = np.random.default_rng(0).random((20000, 28, 28), dtype=np.float32)
    small = X[:500]
    for n_threads in (1, 2):
        features = ConvFeatureExtractor("sobel", n_jobs=n_threads).fit(X)
        bank = features.filters_[..., 0].astype(np.float32)
        functions = {
            "skcnn": lambda features=features: features.transform(X),
            "scipy": lambda bank=bank: [
                correlate(i, f, mode="constant") for i in small for f in bank
            ],
        }
        try:
            functions["torch"] = torch_features(X, bank, n_threads)
        except ImportError as reason:
            print(f"torch left out: {reason}")
        seconds = medians(functions)
        rates = {name: len(X) / value for name, value in seconds.items()}
        rates["scipy"] = len(small) / seconds["scipy"]
        ratios = ", ".join(
            f"{rates['skcnn'] / rates[name]:.2f} times {name}'s"
            for name in rates
            if name != "skcnn"
        )
        print(
            f"- 8 Sobel filters 3x3, ReLU and 2x2 max pooling on 28x28, {n_threads} threads: "
            f"{rates['skcnn']:,.0f} images/s, {ratios} (SciPy: the convolution only)"
        )


def torch_features(X, bank, n_threads):
    """Return a function that computes the same features in torch, in batches of 500."""
    import torch
    from torch.nn.functional import conv2d, max_pool2d

    torch.set_num_threads(n_threads)
    filters, images = torch.from_numpy(bank[:, None]), torch.from_numpy(X[:, None])

    def run():
        with torch.no_grad():
            return torch.cat(
                [
                    max_pool2d(torch.relu(conv2d(images[i : i + 500], filters, padding=1)), 2)
                    for i in range(0, len(images), 500)
                ]
            )

    return run


if __name__ == "__main__":
    parts = {"mnist": mnist, "cifar10": cifar10, "speed": speed}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(parts), choices=[*parts, []])
    for part in parser.parse_args().parts or parts:
        parts[part]()
