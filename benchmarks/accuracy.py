"""The accuracy of the networks on real data: ``python benchmarks/accuracy.py ROW``, one row a run.

Settings were chosen on training images (MNIST: the last 10,000 of the 60,000, CIFAR-10 the last
10,000 of the 50,000, digits: other folds); the test set is used once. Seeds are fixed, so a row gives
the same error again on the same kind of CPU; seconds are those of `fit`, on two workers. Data are
those of ``../shared/data``, or of the folder that SKCNN_DATA names.
"""

import argparse
import importlib
import os
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skcnn import CNNClassifier
from skcnn._model.network import Network
from skcnn._training.schedules import Constant, OneCycle
from skcnn.architectures import lenet5
from skcnn.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Residual,
)

DATA = Path(os.environ.get("SKCNN_DATA", Path(__file__).parents[2] / "shared" / "data"))
N_JOBS = 2
ONE_CYCLE = {"learning_rate": "onecycle", "warmup": 0.2, "random_state": 0, "n_jobs": N_JOBS}


def load(name):
    """Return ``(X_train, y_train, X_test, y_test)``."""
    sys.path.insert(0, str(DATA))
    return importlib.import_module("load").load(name)


def block(filters, pool=False):
    """Return a convolution, its pooling if any, batch normalisation and ReLU."""
    pooling = (MaxPool(),) if pool else ()
    return (Conv(filters, activation="identity"), *pooling, BatchNorm(), Activation("relu"))


def report(name, clf, X, y, X_test, y_test):
    """Fit, and print the test error and the seconds."""
    start = perf_counter()
    clf.fit(X, y)
    seconds = perf_counter() - start
    error = 100 * np.mean(clf.predict(X_test) != y_test)
    print(f"| {name} | {clf.n_iter_} | {error:.2f} | {seconds:.0f} |", flush=True)
    return error


# ------------------------------------------------------------------------------------- MNIST

POOLED = (*block(32, pool=True), *block(64, pool=True), *block(128), Dropout(0.3))
GLOBAL = (
    Conv(32, 5, activation="identity"),
    MaxPool(),
    BatchNorm(),
    Activation("relu"),
    *block(64),
    *block(64, pool=True),
    *block(128),
    GlobalAvgPool(),
)
HANDWRITING = {"shift": 2, "rotate": 10, "zoom": 0.1, "shear": 5}


def mnist():
    """Train on 60,000 images as they are."""
    clf = CNNClassifier(POOLED, max_iter=5, batch_size=128, learning_rate_init=3e-3, **ONE_CYCLE)
    report("MNIST, 60,000 images", clf, *load("mnist"))


def mnist_augmented():
    """Train on 60,000 images, shifted, turned, zoomed and sheared."""
    clf = CNNClassifier(
        GLOBAL,
        solver="adamw",
        weight_decay=0.05,
        max_iter=18,
        batch_size=128,
        learning_rate_init=4e-3,
        augment={"shift": 2, "rotate": 15, "zoom": 0.15, "shear": 10},
        n_test_augment=8,
        **ONE_CYCLE,
    )
    report("MNIST, 60,000 images, augmented", clf, *load("mnist"))


def mnist_first(n, epochs, batch_size):
    X, y, X_test, y_test = load("mnist")
    clf = CNNClassifier(
        POOLED,
        max_iter=epochs,
        batch_size=batch_size,
        learning_rate_init=3e-3,
        augment=HANDWRITING,
        **ONE_CYCLE,
    )
    report(f"MNIST, first {n:,} images, augmented", clf, X[:n], y[:n], X_test, y_test)


def mnist_1000():
    """Train on the first 1,000 images, augmented."""
    mnist_first(1000, 150, 50)


def mnist_300():
    """Train on the first 300 images, augmented."""
    mnist_first(300, 300, 32)


# ---------------------------------------------------------------------------------- CIFAR-10

FOUR = (
    *block(32, pool=True),
    *block(64, pool=True),
    *block(128, pool=True),
    *block(128),
    GlobalAvgPool(),
)
RESIDUAL = (
    *block(32),
    *block(64, pool=True),
    Residual((*block(64), *block(64))),
    *block(128, pool=True),
    Residual((*block(128), *block(128))),
    *block(256, pool=True),
    GlobalMaxPool(),
)
PHOTOS = {"flip": True, "shift": 4}


def photo_classifier(layers, epochs=10):
    """Return a classifier for CIFAR-10."""
    return CNNClassifier(
        layers,
        solver="adamw",
        weight_decay=0.05,
        max_iter=epochs,
        batch_size=128,
        learning_rate_init=5e-3,
        augment=PHOTOS,
        **ONE_CYCLE,
    )


def cifar10():
    """Train a residual network of 190 million operations an image on 50,000 images."""
    clf = photo_classifier(RESIDUAL, epochs=8)
    report("CIFAR-10, residual network, augmented", clf, *load("cifar10"))


def cifar10_quick():
    """Train four convolutions on 50,000 images."""
    clf = photo_classifier(FOUR)
    report("CIFAR-10, four convolutions, augmented", clf, *load("cifar10"))


# ----------------------------------------------------------------------------------- LeNet-5


class TorchNet:
    """The same network in torch, with the same weights.

    Parameters
    ----------
    clf : CNNClassifier
        Fitted: its weights are copied.
    """

    def __init__(self, clf):
        import torch
        from nets import copy_weights, torch_module

        torch.set_num_threads(N_JOBS)
        self.torch = torch
        self.module = torch_module(clf.layers, clf.image_shape_)
        copy_weights(clf, self.module)
        self.optimizer = torch.optim.Adam(self.module.parameters())
        self.n_steps = 0

    def partial_fit(self, X, y, batch_size, schedule):
        """Train on the images in their order; `schedule` gives the step size."""
        for i in range(0, len(X), batch_size):
            self.optimizer.param_groups[0]["lr"] = schedule.rate(self.n_steps, 0)
            self.n_steps += 1
            self.optimizer.zero_grad()
            logits = self.module(self._maps(X[i : i + batch_size]))
            labels = self.torch.from_numpy(y[i : i + batch_size].astype(np.int64))
            self.torch.nn.functional.cross_entropy(logits, labels).backward()
            self.optimizer.step()

    def predict(self, X):
        """Return the most probable label of each image."""
        with self.torch.no_grad():
            parts = [self.module(self._maps(X[i : i + 1000])) for i in range(0, len(X), 1000)]
        return self.torch.cat(parts).argmax(1).numpy()

    def _maps(self, X):
        maps = X[..., None] if X.ndim == 3 else X
        return self.torch.from_numpy(np.ascontiguousarray(maps.transpose(0, 3, 1, 2)))


def train_beside_torch(layers, X, y, seed, epochs, batch_size, rate):
    """Return ``(clf, net, seconds, torch's seconds)``: same weights, batches and step sizes.

    `X` is standardised float32.
    """
    first = CNNClassifier(layers, standardize=False, random_state=seed, learning_rate_init=1e-30)
    first.partial_fit(X[:1000], y[:1000], classes=np.unique(y))
    net = TorchNet(first)
    clf = CNNClassifier(
        layers,
        standardize=False,
        shuffle=False,
        alpha=0,
        max_iter=epochs,
        batch_size=batch_size,
        learning_rate="onecycle",
        learning_rate_init=rate,
        random_state=seed,
        n_jobs=N_JOBS,
    )
    n_steps = epochs * -(-len(X) // batch_size)
    schedule = OneCycle(rate, n_steps)
    rng = np.random.default_rng(seed)
    seconds = np.zeros(2)
    for _ in range(epochs):
        order = rng.permutation(len(X))
        times = [perf_counter()]
        clf.partial_fit(
            X[order], y[order], **({} if clf.__sklearn_is_fitted__() else {"classes": np.unique(y)})
        )
        times.append(perf_counter())
        net.partial_fit(X[order], y[order], batch_size, schedule)
        times.append(perf_counter())
        seconds += np.diff(times)
    return clf, net, *seconds


def lenet():
    """Train LeNet-5 beside torch, with three seeds."""
    X, y, X_test, y_test = load("mnist")
    center, scale = X.mean(dtype=np.float64), X.std(dtype=np.float64)
    X, X_test = (((images - center) / scale).astype(np.float32) for images in (X, X_test))
    errors = []
    for seed in range(3):
        clf, net, *seconds = train_beside_torch(
            lenet5(padding="same"), X, y, seed, epochs=10, batch_size=128, rate=6e-3
        )
        errors.append([100 * np.mean(model.predict(X_test) != y_test) for model in (clf, net)])
        print(
            f"| LeNet-5, seed {seed}: skcnn, torch | 10 | {errors[-1][0]:.2f}, {errors[-1][1]:.2f} ",
            end="",
        )
        print(f"| {seconds[0]:.0f}, {seconds[1]:.0f} |", flush=True)
    ours, others = np.mean(errors, axis=0)
    print(f"| LeNet-5, mean of three seeds: skcnn, torch | 10 | {ours:.2f}, {others:.2f} | |")


# ------------------------------------------------------------- two hundred digits, by hand


def two_hundred():
    """Tell 0 to 4 from 5 to 9 after 200 images: sigmoids, squared error, gradient descent."""
    X, y, X_test, y_test = load("mnist")
    X, y = X[:200], (y[:200] > 4).astype(int)
    assert np.bincount(y).tolist() == [109, 91]
    network = Network(
        (Conv(3, 5, padding="valid", activation="logistic"), Dense(1, activation="logistic")),
        (28, 28, 1),
    )
    maps = np.moveaxis(X / 255.0, 0, 2)[:, None].copy()
    vector = network.initial_weights(np.random.RandomState(0), np.float64)
    weights, grads = network.views(vector), np.zeros_like(vector)
    works = network.workspaces(len(X), np.float64)

    patches = np.lib.stride_tricks.sliding_window_view(X / 255.0, (5, 5), axis=(1, 2))
    patches = patches.reshape(200, 576, 5, 5)
    filters = weights[0]["coef"][:, :, 0]
    by_hand = np.einsum("npij,fij->nfp", patches, filters) + weights[0]["intercept"][:, None]
    convolved = network.steps[0].forward(maps, weights[0], works[0])  # rows, filters, columns, n
    convolved = convolved.transpose(3, 1, 0, 2).reshape(200, 3, 576)
    assert np.allclose(convolved, 1 / (1 + np.exp(-by_hand)))
    print(f"patches {patches.shape}, after the convolution {convolved.shape}")

    start, losses = perf_counter(), []
    for _ in range(1000):
        outputs = network.forward(maps, weights, works)
        difference = outputs - y
        losses.append(float(np.mean(difference**2) / 2))
        network.backward(difference / len(y), weights, network.views(grads), works)
        vector -= 0.1 * grads
    seconds = perf_counter() - start
    works = network.workspaces(len(X_test), np.float64, learning=False)
    probable = network.forward(np.moveaxis(X_test / 255.0, 0, 2)[:, None], weights, works)
    wrong = 100 * np.mean((probable.ravel() > 0.5) != (y_test > 4))
    assert losses[-1] < losses[len(losses) // 2] < losses[0]
    print(
        f"loss {losses[0]:.4f} at first, {losses[499]:.4f} after 500, {losses[-1]:.4f} after 1,000"
    )
    print(f"| 200 digits, three sigmoid filters, by hand | 1000 | {wrong:.2f} | {seconds:.0f} |")
    clf = CNNClassifier(random_state=0, n_jobs=N_JOBS)
    report("200 digits, CNNClassifier's defaults", clf, X, y, X_test, y_test > 4)


# ------------------------------------------------------------------------------- augmentation


def augmentation():
    """Print what augmentation adds to an epoch of mnistnet, the two in turn."""
    X, y, _, _ = load("mnist")
    layers = (
        Conv(32, padding="valid"),
        MaxPool(),
        Conv(64, padding="valid"),
        MaxPool(),
        Dense(128),
    )
    seconds = {}
    for _ in range(5):
        for name, augment in (("plain", None), ("augmented", HANDWRITING)):
            clf = CNNClassifier(layers, max_iter=1, batch_size=128, augment=augment, n_jobs=N_JOBS)
            start = perf_counter()
            clf.fit(X[:20000], y[:20000])
            seconds.setdefault(name, []).append(perf_counter() - start)
    plain, augmented = (np.median(seconds[name]) for name in ("plain", "augmented"))
    print(f"| augmentation, mnistnet: +{augmented / plain - 1:.1%} | 1 | | {augmented:.2f} |")


# ------------------------------------------------------------------------------------ digits


class TorchClassifier(ClassifierMixin, BaseEstimator):
    """The default network in torch: standardised images, Adam, 100 epochs, for `cross_val_score`."""

    def fit(self, X, y):
        """Train on images of 8x8 pixels, one a row."""
        images = X.reshape(-1, 8, 8)
        self.center, self.scale = images.mean(), images.std()
        scaled = (images - self.center) / self.scale
        first = CNNClassifier(standardize=False, random_state=0, learning_rate_init=1e-30)
        self.net = TorchNet(first.partial_fit(scaled, y, classes=np.unique(y)))
        rng = np.random.default_rng(0)
        for _ in range(100):
            order = rng.permutation(len(X))
            self.net.partial_fit(scaled[order], y[order], 200, Constant(1e-3))
        return self

    def predict(self, X):
        """Return the most probable label of each image."""
        return self.net.predict((X.reshape(-1, 8, 8) - self.center) / self.scale)


def digits():
    """Cross-validate on scikit-learn's digits beside SVC, MLPClassifier and torch."""
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    models = {
        "CNNClassifier, defaults": CNNClassifier(random_state=0),
        "CNNClassifier, augmented": CNNClassifier(
            (*block(32), *block(32), MaxPool(), *block(64), MaxPool(), Dropout(0.2)),
            max_iter=60,
            batch_size=64,
            learning_rate="onecycle",
            learning_rate_init=3e-3,
            warmup=0.2,
            augment={"shift": 1, "rotate": 10, "zoom": 0.1, "shear": 5},
            random_state=0,
        ),
        "SVC(gamma=0.001, C=10)": SVC(gamma=0.001, C=10),
        "StandardScaler, MLPClassifier": make_pipeline(
            StandardScaler(), MLPClassifier(max_iter=500, random_state=0)
        ),
        "the same net in torch, 100 epochs": TorchClassifier(),
    }
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for name, model in models.items():
        start = perf_counter()
        scores = cross_val_score(model, X, y, cv=folds)
        seconds = perf_counter() - start
        print(f"| digits, five folds: {name} | | {100 - 100 * scores.mean():.2f} | {seconds:.0f} |")


ROWS = {
    "mnist": mnist,
    "mnist-augmented": mnist_augmented,
    "mnist-1000": mnist_1000,
    "mnist-300": mnist_300,
    "cifar10": cifar10,
    "cifar10-quick": cifar10_quick,
    "lenet5": lenet,
    "two-hundred": two_hundred,
    "digits": digits,
    "augmentation": augmentation,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=ROWS)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("| data and model | epochs | test error, percent | seconds |")
    print("|---|---|---|---|")
    ROWS[parser.parse_args().row]()
