"""The displays: what they hold, what they draw on, what they refuse."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.architectures import lenet5, resnet_small
from skcnn.inspection import (
    ArchitectureDisplay,
    ErrorDisplay,
    FeatureMapDisplay,
    FilterDisplay,
    LossCurveDisplay,
    SaliencyDisplay,
    saliency,
)
from skcnn.layers import BatchNorm, Conv, Dense, Dropout, GlobalMaxPool, MaxPool, Residual

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

X, y = load_digits(return_X_y=True)
X, y = X[:300], y[:300]
COLOUR = np.random.RandomState(0).normal(size=(60, 8, 10, 3))
SIGNALS = COLOUR.reshape(60, 1, 240)
KINDS = np.arange(60) % 3


@pytest.fixture(scope="module")
def digits():
    layers = (Conv(6), BatchNorm(), MaxPool(), Residual((Conv(6),)), Dense(9))
    return CNNClassifier(layers, max_iter=3, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def colour():
    layers = (Conv(5, (3, 5)), MaxPool(), Conv(4), GlobalMaxPool())
    return CNNClassifier(layers, max_iter=2, random_state=0).fit(COLOUR, KINDS)


@pytest.fixture(scope="module")
def signal():
    layers = (Conv(6, (1, 9)), MaxPool((1, 4)), Conv(3, (1, 3)))
    return CNNClassifier(layers, max_iter=2, random_state=0).fit(SIGNALS, KINDS)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def drawn(display):
    """Draw all of the figure, and return its texts."""
    display.figure_.canvas.draw()
    return [text.get_text() for text in display.figure_.findobj(matplotlib.text.Text)]


def test_filters(digits, colour, signal):
    display = FilterDisplay.from_estimator(digits, max_filters=4)
    assert_array_equal(display.filters, digits.coefs_[0][:4])
    assert "4 of 6 filters, 3 x 3" in drawn(display)
    assert len(display.ax_.images) == 4
    drawn(FilterDisplay.from_estimator(colour))
    lines = FilterDisplay.from_estimator(signal).ax_.lines
    assert len(lines) == 12
    assert not plt.gca().images


@pytest.mark.parametrize(
    ("layer", "coef"), [(0, 0), ("0 Conv", 0), ("3.0 Conv", 2), (3, 2), (None, 0)]
)
def test_filters_of_layers(digits, layer, coef):
    assert_array_equal(
        FilterDisplay.from_estimator(digits, layer=layer).filters, digits.coefs_[coef]
    )


def test_filters_of_a_dense_layer_are_maps(digits):
    filters = FilterDisplay.from_estimator(digits, layer=4).filters
    assert filters.shape == (9, 4, 4, 6)
    pooled = digits.trace(X[:3])["3 Residual relu"]
    units = np.einsum("nrcd,urcd->nu", pooled, filters) + digits.intercepts_[-2]
    assert_allclose(units, digits.trace(X[:3])["4 Dense"], atol=1e-10)


def test_filters_of_an_extractor():
    display = FilterDisplay.from_estimator(ConvFeatureExtractor("edges").fit(X))
    assert "horizontal" in drawn(display)
    learned = ConvFeatureExtractor("kmeans", n_filters=7, random_state=0).fit(X)
    display = FilterDisplay.from_estimator(learned)
    assert display.names is None
    assert display.filters.shape[0] == 7


def test_feature_maps(digits, signal):
    display = FeatureMapDisplay.from_estimator(digits, X, image=5)
    trace = digits.trace(X)
    assert list(display.maps) == [n for n, a in trace.items() if a.ndim == 4]
    assert_allclose(display.maps["3 Residual"], trace["3 Residual"][5], atol=1e-10)
    assert "2 MaxPool: 4 x 4 x 6" in drawn(display)
    one = FeatureMapDisplay.from_estimator(digits, X, layers="0 Conv", max_maps=2)
    assert one.axes_.shape == (1,)
    assert len(one.axes_[0].images) == 2
    assert "0 Conv: 8 x 8 x 6, 2 of 6 maps" in drawn(one)
    pd = pytest.importorskip("pandas")
    both = FeatureMapDisplay.from_estimator(digits, pd.DataFrame(X), layers=["output softmax"])
    assert_allclose([bar.get_height() for bar in both.axes_[0].patches], trace["output softmax"][0])
    assert len(FeatureMapDisplay.from_estimator(signal, SIGNALS).axes_[1].lines) == 12


def test_feature_maps_of_an_extractor():
    features = ConvFeatureExtractor("sobel", activation="crelu").fit(X)
    display = FeatureMapDisplay.from_estimator(features, X[:1])
    assert list(display.maps) == ["input", "0 Conv", "0 Conv crelu", "1 MaxPool"]


def test_saliency(digits, colour, signal):
    methods = ["gradient", "grad_cam", "occlusion"]
    display = SaliencyDisplay.from_estimator(digits, X[:2], method=methods, target=3, patch_size=3)
    assert display.axes_.shape == (2, 4)
    expected = saliency(digits, X[:2], method="occlusion", target=3, patch_size=3)
    assert_array_equal(display.values["occlusion"], expected)
    assert {"class 3", "Grad-CAM", "image"} <= set(drawn(display))
    drawn(SaliencyDisplay.from_estimator(colour, COLOUR[:2], titles=["a", "b"]))
    drawn(SaliencyDisplay.from_estimator(signal, SIGNALS[:1]))


def test_the_most_salient_pixel_is_the_most_coloured(digits):
    display = SaliencyDisplay.from_estimator(digits, X[:1])
    overlay = display.axes_[0, 1].images[-1].get_array()
    assert overlay[..., 3].argmax() == np.abs(display.values["integrated_gradients"]).argmax()


def test_loss_curves():
    clf = CNNClassifier((Conv(3),), max_iter=4, early_stopping=True, random_state=0).fit(X, y)
    display = LossCurveDisplay.from_estimator(clf, name="one")
    assert_array_equal(display.lines_[0].get_ydata(), clf.loss_curve_)
    assert_array_equal(display.lines_[2].get_ydata(), clf.validation_scores_)
    assert_array_equal(display.lines_[0].get_xdata(), [1, 2, 3, 4])
    more = LossCurveDisplay.from_estimator(clf, name="two", ax=display.axes_)
    assert more.ax_ is display.ax_
    assert more.lines_[0].get_color() != display.lines_[0].get_color()
    assert "two, validation" in drawn(more)
    plain = CNNRegressor((Conv(3),), max_iter=2).fit(X, y)
    display = LossCurveDisplay.from_estimator(plain, log_scale=True)
    assert len(display.axes_) == 1
    assert display.ax_.get_yscale() == "log"


def test_errors(digits):
    display = ErrorDisplay.from_estimator(digits, X, y, n_images=5)
    probabilities = digits.predict_proba(X)
    wrong = digits.predict(X) != y
    confidences = np.sort(probabilities.max(axis=1)[wrong])[::-1][:5]
    assert_allclose(display.confidences, confidences)
    assert display.n_errors == wrong.sum()
    assert len(display.axes_) == len(display.images) == min(5, wrong.sum())
    names = dict(enumerate("abcdefghij"))
    shown = ErrorDisplay.from_estimator(digits, X, y, class_names=list(names.values()))
    first = f"true {names[shown.y_true[0]]}\npredicted {names[shown.y_pred[0]]}"
    assert any(text.startswith(first) for text in drawn(shown))
    none = ErrorDisplay.from_estimator(digits, X, digits.predict(X))
    assert "no errors" in drawn(none)


def test_errors_of_a_regressor():
    reg = CNNRegressor((Conv(3),), max_iter=2, random_state=0).fit(X, y.astype(float))
    display = ErrorDisplay.from_estimator(reg, X, y, n_images=3)
    gaps = np.abs(reg.predict(X) - y)
    assert_allclose(np.abs(display.y_true - display.y_pred), np.sort(gaps)[::-1][:3])
    drawn(display)


def test_errors_of_bytes_are_drawn_from_black_to_white():
    images = np.full((2, 4, 4), 100, np.uint8)
    display = ErrorDisplay.from_predictions(images, [0, 1], [1, 0], [0.5, 0.9])
    assert_allclose(display.axes_[0].images[0].get_array(), 100 / 255)
    assert list(display.confidences) == [0.9, 0.5]


def test_architecture():
    display = ArchitectureDisplay.from_estimator(
        CNNClassifier(lenet5()), image_shape=(32, 32), n_outputs=10, title="LeNet-5"
    )
    assert [stage.n_weights for stage in display.stages] == [0, 156, 0, 2416, 0, 48120, 10164, 850]
    assert {"28 x 28\nx 6", "Conv 5x5", "48,120\nweights", "LeNet-5"} <= set(drawn(display))


def test_architecture_counts_all_weights(digits):
    display = ArchitectureDisplay.from_estimator(digits)
    assert sum(stage.n_weights for stage in display.stages) == digits._model.network.n_learned
    assert display.stages[1].also == ("BatchNorm",)
    deep = CNNClassifier((*resnet_small(), Dropout()), image_shape=(16, 16, 3))
    drawn(ArchitectureDisplay.from_estimator(deep))


@pytest.mark.parametrize("activation", ["relu", "crelu"])
def test_architecture_of_an_extractor(activation):
    features = ConvFeatureExtractor("sobel", activation=activation, pool_grid=2).fit(X)
    display = ArchitectureDisplay.from_estimator(features)
    assert display.stages[-1].shape[2] == features.transform(X).shape[1]
    assert display.stages[-2].shape == features.output_shape_
    drawn(display)


def test_axes_of_the_user(digits):
    figure, axes = plt.subplots(2, 3, layout="constrained")
    displays = [
        FilterDisplay.from_estimator(digits, ax=axes[0, 0], title="filters"),
        FeatureMapDisplay.from_estimator(
            digits, X[:1], layers=["0 Conv", "4 Dense"], ax=axes[0, 1]
        ),
        SaliencyDisplay.from_estimator(digits, X[:1], ax=axes[0, 2]),
        LossCurveDisplay.from_estimator(digits, ax=axes[1, 0]),
        ErrorDisplay.from_estimator(digits, X, y, n_images=2, ax=axes[1, 1]),
        ArchitectureDisplay.from_estimator(digits, ax=axes[1, 2]),
    ]
    assert all(display.figure_ is figure for display in displays)
    assert displays[0].ax_ is axes[0, 0]
    assert "filters" in drawn(displays[0])
    assert len(plt.get_fignums()) == 1
    with pytest.raises(ValueError, match="ax must be one Axes or 2 of them"):
        displays[2].plot(ax=axes[0])


def test_drawing_again_makes_a_new_figure(digits):
    display = FilterDisplay.from_estimator(digits)
    first = display.figure_
    assert display.plot().figure_ is not first


@pytest.mark.parametrize("display", [FilterDisplay, LossCurveDisplay])
def test_not_fitted(digits, display):
    with pytest.raises(NotFittedError):
        display.from_estimator(clone(digits))
    with pytest.raises(TypeError, match="estimator must be a fitted CNNClassifier"):
        display.from_estimator("digits")


def test_bad_parameters(digits):
    with pytest.raises(ValueError, match="layer must be the number or the name"):
        FilterDisplay.from_estimator(digits, layer=1)
    with pytest.raises(ValueError, match="layers must be among"):
        FeatureMapDisplay.from_estimator(digits, X[:1], layers="9 Conv")
    with pytest.raises(ValueError, match="image_shape must be given before fit"):
        ArchitectureDisplay.from_estimator(CNNClassifier())
    many = CNNClassifier((Conv(2),), max_iter=1).fit(COLOUR, np.eye(3, dtype=int)[KINDS])
    with pytest.raises(ValueError, match="estimator must predict one label"):
        ErrorDisplay.from_estimator(many, COLOUR, KINDS)
