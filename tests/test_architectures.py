"""Presets: the sizes that their sources tell, and that they learn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits

from skcnn import CNNClassifier, CNNRegressor, architectures
from skcnn.layers import Conv, Dense, MaxPool, Residual

PRESETS = ("sklearn_default", "lenet5_modern", "vgg_small", "resnet_small")


def test_lenet5_has_the_shapes_and_weights_of_its_table():
    table = CNNClassifier(architectures.lenet5()).summary((32, 32, 1), n_outputs=10)
    shapes = [row[1] for row in table.rows]
    assert shapes == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120), (1, 1, 84), (1, 1, 10),
        (1, 1, 10),
    ]  # fmt: skip
    assert [row[2] for row in table.rows] == [156, 0, 2416, 0, 48120, 10164, 850, 61706]


def test_lenet5_on_images_too_small_for_it():
    images = np.zeros((4, 28, 28))
    with pytest.raises(
        ValueError,
        match=r"layers\[4\] Conv: kernel_size=\(5, 5\) exceeds its 4x4 .*padding='same'.*larger images",
    ):
        CNNClassifier(architectures.lenet5()).fit(images, [0, 1, 0, 1])
    same = CNNClassifier(architectures.lenet5(padding="same")).summary((28, 28), n_outputs=10)
    assert same.rows[-1][2] == 61706


@pytest.mark.parametrize("name", PRESETS)
def test_presets_learn(name):
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    layers = getattr(architectures, name)()
    clf = CNNClassifier(layers, max_iter=15, learning_rate_init=3e-3, batch_size=50, random_state=0)
    assert clf.fit(X[:400], y[:400]).score(X[400:], y[400:]) > 0.8
    assert getattr(architectures, name)()[0] is not layers[0]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (7, 5, 3)])
def test_presets_take_images_of_any_size(name, shape):
    layers = getattr(architectures, name)()
    assert CNNClassifier(layers).summary(shape).rows[-1][1] == (1, 1, 1)


def test_summary_counts_by_hand():
    layers = (Conv(4, 3, groups=2), MaxPool(), Residual((Conv(4),)), Dense(5))
    clf = CNNRegressor(layers, batch_size=10)
    rows = clf.summary((6, 8, 2), n_outputs=3).rows
    conv, inner, dense, out = 4 * 3 * 3, 4 * 4 * 9, 3 * 4 * 4 * 5, 5 * 3
    assert [row[2] for row in rows] == [
        conv + 4,
        0,
        inner + 4,
        dense + 5,
        out + 3,
        conv + inner + dense + out + 16,
    ]
    assert [row[3] for row in rows[:-1]] == [conv * 48, 0, inner * 12, dense, out]
    assert_allclose(rows[0][4], 6 * 8 * 4 * 10 * 4 / 2**20)


def test_summary_of_a_fitted_network():
    X, y = load_digits(return_X_y=True)
    clf = CNNClassifier((Conv(2),), max_iter=1).fit(X[:50], y[:50])
    rows = clf.summary().rows
    assert sum(c.size for c in clf.coefs_ + clf.intercepts_) == rows[-1][2]
    assert rows[-1][1] == (1, 1, 10)
    assert str(clf.summary()).splitlines()[2].split() == [
        "0",
        "Conv",
        "8",
        "x",
        "8",
        "x",
        "2",
        "20",
        "1,152",
        "0.20",
    ]
    html = clf.summary()._repr_html_()
    assert html.count("<tr>") == 1 + len(rows)
    shown = clf._html_repr()
    assert html in shown
    assert "skcnn-summary" not in clone(clf)._html_repr()


def test_summary_as_a_frame():
    pytest.importorskip("pandas")
    frame = CNNClassifier((Conv(2), Dense(3))).summary((8, 8), as_frame=True)
    assert list(frame.columns)[:3] == ["layer", "output shape", "weights"]
    assert frame["weights"].tolist() == [20, 128 * 3 + 3, 4]


def test_summary_needs_a_shape():
    with pytest.raises(ValueError, match="image_shape must be given before fit"):
        CNNClassifier().summary()
    assert CNNClassifier(image_shape=(4, 4)).summary().rows
