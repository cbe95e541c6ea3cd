"""Many fits and predictions in one process: what grows, and what random settings come to.

    python benchmarks/load.py                     # both, in a few minutes
    python benchmarks/load.py --only steady
    python benchmarks/load.py --only settings --fits 5000 --seed 1

"steady" prints resident memory, descriptors and threads after a warm-up and at the end of 30 fits and
100,000 predictions of one image. "settings" trains networks of random layers and settings, sensible
and not. A network must give finite probabilities that sum to 1, or else a `ValueError` that says what
to do; these are counted by their first words. A RuntimeWarning counts as a failure. Long fits use
worker processes; here all fits with two workers do. The exit status is 1 after any failure. Needs
Linux.
"""

import argparse
import gc
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections import Counter

import numpy as np
from memory import resident_memory

from skcnn import CNNClassifier, stop_workers
from skcnn._model import shards
from skcnn._workers import pool as pools
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    MaxPool,
    Residual,
)

MB = 1e6
MOST_GROWTH = 5  # MB
# What the messages of errors say of what to do.
REMEDY = re.compile(
    r"must .* (Got|must)|needs .* Got|lower |set |choose |leave |pass |use |scale ", re.S | re.I
)
LAYERS = (
    Conv(4),
    Conv(8, 5, stride=2, activation="tanh"),
    Conv(6, 3, padding="valid", activation="gelu"),
    Conv(2, 1, dilation=2),
    MaxPool(),
    AvgPool(3, stride=1),
    GlobalAvgPool(),
    BatchNorm(),
    Dropout(0.3),
    Activation("silu"),
    Dense(16),
    Dense(5, activation="logistic"),
    Residual((MaxPool(3, stride=1, padding="same"),)),
    Residual((BatchNorm(), Activation("relu"))),
)


def double(images, rng):
    """Augment by a factor, as a function of a user's might."""
    return images * rng.uniform(0.5, 2)


# Values of each parameter, of which each network draws one; the first one mostly.
CHOICES = {
    "solver": ["adam", "sgd", "adamw", "rmsprop", "lbfgs"],
    "learning_rate": ["constant", "invscaling", "adaptive", "cosine", "onecycle"],
    "learning_rate_init": [1e-3, 1e-5, 1e-2, 0.1, 1.0, 100.0],
    "warmup": [None, 0.0, 0.5],
    "batch_size": ["auto", 1, 7, 16, 64, 1000],
    "max_iter": [2, 1, 3, 6],
    "early_stopping": [False, True],
    "validation_fraction": [0.1, 0.3, 0.01, 0.9],
    "scoring": [None, "accuracy", "neg_log_loss", "f1_macro"],
    "augment": [
        None,
        {"shift": 1},
        {"rotate": 10, "zoom": 0.2},
        {"flip": True, "cutout": 3},
        double,
    ],
    "n_test_augment": [0, 2],
    "class_weight": [None, "balanced", {0: 2.0}, {1: 0.0}, {9: 1.0}],
    "label_smoothing": [0.0, 0.1],
    "alpha": [1e-4, 0.0, 1.0],
    "clip_norm": [None, 1.0],
    "standardize": [True, False],
    "shuffle": [True, False],
    "momentum": [0.9, 0.0],
    "n_iter_no_change": [10, 1, np.inf],
    "n_jobs": [1, 2],
    "warm_start": [False, True],
}
DTYPES = (np.float32, np.float64, np.uint8, np.int64, np.float16, np.bool_)
WEIGHTS = ("random", "some zeros", "tiny", "large", "zeros")


def use_processes():
    """Have every fit with two workers use processes, and cut every batch into shards."""
    pools.WORKER_FLOPS = pools.START_FLOPS = -1
    shards.WORTHWHILE_SIZE = 1


def state():
    """Return the resident MB, open descriptors and threads of this process."""
    gc.collect()
    return resident_memory() / MB, len(os.listdir("/proc/self/fd")), threading.active_count()


def steady(arguments):
    """Fit and predict again and again, and return the failures."""
    X, y = (
        np.random.default_rng(0).normal(size=(256, 16, 16)).astype(np.float32),
        np.arange(256) % 3,
    )
    clf = CNNClassifier((Conv(8), MaxPool(), Dense(16)), max_iter=3, batch_size=64, random_state=0)
    images = [X[i : i + 1] for i in range(len(X))]

    def work(n_fits, n_predictions):
        for i in range(n_fits):
            clf.set_params(n_jobs=1 + i % 2).fit(X, y)
        for i in range(n_predictions):
            clf.predict(images[i % len(images)])

    work(10, arguments.predictions // 20)
    before, start = state(), time.perf_counter()
    work(arguments.repeats, arguments.predictions)
    seconds, after = time.perf_counter() - start, state()
    print(f"{arguments.repeats} fits, {arguments.predictions:,} predictions, {seconds:.0f} s")
    for name, first, last in zip(("MB", "descriptors", "threads"), before, after, strict=True):
        print(f"{name:12} {first:8.1f} {last:8.1f} {last - first:+8.1f}")
    grown = [b - a for a, b in zip(before, after, strict=True)]
    return int(grown[0] > MOST_GROWTH) + sum(n > 0 for n in grown[1:])


def draw(rng):
    """Return a classifier and the data of random settings: X, y and sample_weight."""
    layers = tuple(LAYERS[i] for i in rng.integers(len(LAYERS), size=rng.integers(0, 5)))
    if rng.random() < 0.1:
        layers += (Conv(4), Residual((Conv(4), Conv(4, activation="identity"))))
    params = {
        name: values[0] if rng.random() < 0.7 else values[rng.integers(len(values))]
        for name, values in CHOICES.items()
    }
    clf = CNNClassifier(layers, random_state=int(rng.integers(1000)), **params)
    n, n_classes = int(rng.choice([4, 20, 60, 150])), int(rng.integers(2, 5))
    shape = [(8, 8), (9, 6, 3), (1, 20), (5, 1), (1, 1)][rng.choice(5, p=[0.5, 0.2, 0.1, 0.1, 0.1])]
    X = rng.normal(size=(n, *shape)) * rng.choice([1.0, 1e-3, 100.0])
    dtype = DTYPES[rng.integers(len(DTYPES))]
    X = (np.abs(X) if dtype is np.uint8 else X).astype(dtype)
    kind = WEIGHTS[rng.choice(len(WEIGHTS), p=[0.4, 0.2, 0.19, 0.19, 0.02])]
    weights = {
        "random": rng.uniform(0.1, 3, n),
        "some zeros": rng.integers(0, 3, n).astype(float),
        "tiny": rng.uniform(1e-6, 1e-5, n),
        "large": rng.uniform(1e3, 1e5, n),
        "zeros": np.zeros(n),
    }[kind]
    weights = weights if rng.random() < 0.5 else None
    return clf, (X, np.arange(n) % n_classes, weights)


def use(clf, data, rng):
    """Fit a classifier in one or several calls, and check its probabilities."""
    X, y, weights = data
    way = rng.integers(3)
    if way == 0 and hasattr(clf, "partial_fit"):
        for _ in range(2):
            clf.partial_fit(X, y, classes=np.unique(y), sample_weight=weights)
    else:
        clf.fit(X, y, sample_weight=weights)
        if way == 1:  # goes on with warm_start=True, else begins anew
            clf.fit(X, y)
    check(clf, X, y)


def check(clf, X, y):
    """Raise an error unless a classifier predicts probabilities."""
    probabilities = clf.predict_proba(X)
    assert probabilities.shape == (len(X), len(np.unique(y))), probabilities.shape
    assert np.isfinite(probabilities).all(), "probabilities that are not finite"
    assert (probabilities >= 0).all(), "negative probabilities"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.isin(clf.predict(X), y).all()


def settings(arguments):
    """Train networks of random settings, and return the failures."""
    refused, failures, n_done, start = Counter(), 0, 0, time.perf_counter()
    for number in range(arguments.fits):
        rng = np.random.default_rng([arguments.seed, number])
        clf, data = draw(rng)
        try:
            use(clf, data, rng)
            n_done += 1
        except Exception as error:
            if type(error) is ValueError and REMEDY.search(str(error)):
                refused[" ".join(re.sub(r"\d[\d.]*", "#", str(error)).split()[:9])] += 1
                continue
            failures += 1
            if failures <= arguments.shown:
                print(f"--- seed {arguments.seed}, number {number}: {clf!r}", flush=True)
                print(f"{data[0].shape} {data[0].dtype}, weights {data[2] is not None}")
                print("".join(traceback.format_exception(error)), flush=True)
    seconds = time.perf_counter() - start
    print(f"{arguments.fits} random settings in {seconds:.0f} s: {n_done} trained", end=", ")
    print(f"{sum(refused.values())} refused with a remedy, {failures} failures")
    for words, n in refused.most_common():
        print(f"{n:6} {words} ...")
    return failures


CHECKS = {"steady": steady, "settings": settings}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=CHECKS, nargs="+", default=list(CHECKS))
    parser.add_argument("--repeats", type=int, default=30, help="fits of the first check")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--fits", type=int, default=2000, help="random settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shown", type=int, default=5, help="failures that are printed in full")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    os.environ["PYTHONWARNINGS"] = "ignore,error::RuntimeWarning"  # of the worker processes
    use_processes()
    n_failures = sum(CHECKS[name](arguments) for name in arguments.only)
    stop_workers()
    print(f"{n_failures} failures")
    return bool(n_failures)


if __name__ == "__main__":
    sys.exit(main())
