"""Gradients of a network against finite differences, for layers of one's own."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state

from skcnn._data.images import check_images_as_fitted
from skcnn._data.samples import check_samples
from skcnn._estimator import BaseCNN
from skcnn._model.network import Network
from skcnn._model.trace import aligned, named_layers
from skcnn._training.session import Progress
from skcnn._training.settings import check_settings
from skcnn._training.start import begin_model
from skcnn._workers.pool import open_pool
from skcnn.layers._params import check_params
from skcnn.layers.base import POSITIVE, Arrays, Shard, Workspace

STEP = 1e-6  # of the differences: in float64 they and rounding err alike, about 1e-9 of the value
SMALL = (
    1e-2  # smaller slopes are measured by this share of the largest: some are 0 but for rounding
)
NOISE = 1e-2  # moves weights and images off the kinks of activations and the ties of poolings


class GradientErrors(dict[str, float]):
    """The largest relative error for each array, by name; prints itself as a table."""

    def __repr__(self) -> str:
        return aligned(("array", "relative error"), [(k, f"{v:.1e}") for k, v in self.items()])


def check_gradients(
    estimator: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_weights: int = 20,
    random_state: int | np.random.RandomState | None = 0,
) -> GradientErrors:
    """Compare the gradients of a network with finite differences, for layers of one's own.

    The loss of the given images is computed in float64 as in training: batch normalisation takes
    their statistics, dropout leaves out the same values each time. The differences are taken after
    the pass backward, so a layer that leaves its buffers in disorder shows as well. Weights and
    images are moved a little at random, since slopes are not defined where an activation has a
    kink or two values of a pooling are equal.

    Parameters
    ----------
    estimator : CNNClassifier or CNNRegressor
        If it is not fitted, its initial weights are taken. It is not changed.

    X : array-like
        Some images, as in `fit`; ten are enough.

    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their targets.

    n_weights : int, default=20
        Random entries of each array that are checked.

    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    errors : GradientErrors
        A dict with an entry for each array of weights, as "0 Conv coef", and "input" for the
        images: the largest difference of both gradients, as a share of the array's largest
        gradient or of a hundredth of the largest of all. It prints itself as a table. Errors above
        1e-5 mean that a `backward` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from skcnn import CNNClassifier
    >>> from skcnn.inspection import check_gradients
    >>> from skcnn.layers import Conv, MaxPool
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(10, 6, 6)), np.arange(10) % 3
    >>> errors = check_gradients(CNNClassifier((Conv(4), MaxPool())), X, y)
    >>> list(errors)
    ['input', '0 Conv coef', '0 Conv intercept', '2 Dense coef', '2 Dense intercept']
    >>> max(errors.values()) < 1e-5
    True
    """
    if not isinstance(estimator, BaseCNN):
        raise TypeError(
            f"estimator must be a CNNClassifier or a CNNRegressor. Got {estimator!r} instead."
        )
    check_params(
        {"n_weights": n_weights, "random_state": random_state},
        {"n_weights": [POSITIVE], "random_state": ["random_state"]},
        "check_gradients",
    )
    rng = check_random_state(random_state)
    loss = _Loss(estimator, X, y, rng)
    with open_pool(n_jobs=1):
        dmaps, grads = loss.gradients()
        arrays = {"input": (loss.maps, dmaps)}
        for name, weights, slopes in zip(loss.names, loss.weights, grads, strict=True):
            for kind in ("coef", "intercept"):
                if kind in weights:
                    arrays[f"{name} {kind}"] = weights[kind], slopes[kind]
        found = {name: loss.differences(*pair, n_weights, rng) for name, pair in arrays.items()}
    floor = SMALL * max(slope for _, slope in found.values())
    return GradientErrors(
        {name: gap / max(slope, floor) if gap else 0.0 for name, (gap, slope) in found.items()}
    )


class _Loss:
    """The loss of some images as a function of a network's weights and of the images."""

    def __init__(self, estimator: Any, X: Any, y: Any, rng: np.random.RandomState) -> None:
        if estimator.__sklearn_is_fitted__():
            X = check_images_as_fitted(X, estimator)
            targets = estimator._encode_targets(y, len(X), vars(estimator))
            model = estimator._model
        else:
            estimator = clone(estimator).set_params(random_state=rng)
            estimator._validate_params()
            check_settings(estimator)
            samples = check_samples(estimator, (X, y, None), {})
            X, targets = samples.X, samples.targets
            model = begin_model(estimator, samples, Progress.begin(rng))
        self.network, vector = model.network, model.weights.astype(np.float64)
        learned = vector[: self.network.n_learned]
        learned += NOISE * rng.normal(size=len(learned))
        maps = model.images(X, np.float64).maps(slice(None))
        self.maps = maps + NOISE * rng.normal(size=maps.shape)
        self.loss = targets.loss
        self.targets = targets.loss.encode(targets.values, np.float64)
        self.weights = self.network.views(vector)
        self.names = _step_names(self.network)
        self.shard = Shard()
        shapes = zip(self.network.steps, self.network.input_shapes, strict=False)
        self.works = [
            Workspace(layer, shape, len(X), np.float64, True, True, self.shard)
            for layer, shape in shapes
        ]

    def _forward(self) -> np.ndarray:
        """Return the logits' map, with the same random numbers each time."""
        self.shard.begin(np.ones(self.maps.shape[3]), seed=0)
        return self.network.forward(self.maps, self.weights, self.works)

    def _value(self, y: np.ndarray) -> float:
        """Return the loss for logits of shape (1, outputs, 1, images), and leave its gradient."""
        n_images = y.shape[3]
        logits = y.reshape(-1, n_images)
        return float(np.sum(self.loss.gradient(logits, self.targets, np.ones(n_images))))

    def gradients(self) -> tuple[np.ndarray, list[Arrays]]:
        """Return the gradient of the images, and those of the weights of each step."""
        grads = [{k: np.empty_like(v) for k, v in views.items()} for views in self.weights]
        dy = self._forward()
        self._value(dy)
        for i in reversed(range(len(self.works))):
            dy = self.network.steps[i].backward(dy, self.weights[i], grads[i], self.works[i])
        return dy.copy(), grads

    def differences(
        self,
        array: np.ndarray,
        gradient: np.ndarray,
        n_entries: int,
        rng: np.random.RandomState,
    ) -> tuple[float, float]:
        """Return the largest difference to finite differences, and the largest slope."""
        n_entries = min(n_entries, array.size)
        chosen = rng.choice(array.size, n_entries, replace=False)
        slopes = np.array([self._slope(array, entry) for entry in chosen])
        told = gradient[np.unravel_index(chosen, array.shape)]
        largest = max(np.abs(slopes).max(), np.abs(told).max())
        return float(np.abs(slopes - told).max()), float(largest)

    def _slope(self, array: np.ndarray, entry: int) -> float:
        """Return the central difference of the loss by one entry of `array`."""
        place = np.unravel_index(entry, array.shape)
        before, values = array[place], []
        for sign in (1, -1):
            array[place] = before + sign * STEP
            values.append(self._value(self._forward()))
        array[place] = before
        return (values[0] - values[1]) / (2 * STEP)


def _step_names(network: Network) -> list[str | None]:
    """Return the names of the layers whose weights the network's steps hold, None for no weights."""
    names, shape = [], network.image_shape
    for name, layer in named_layers(network.layers):
        if layer.weight_shapes(shape):
            names.append(name or type(layer).__name__)
        shape = layer.output_shape(shape)
    each = iter(names)
    return [next(each) if place else None for place in network.places]
