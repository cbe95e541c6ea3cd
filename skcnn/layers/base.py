"""The protocol of a layer: a value that computes, and never keeps an array."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from skcnn._engine.buffers import Buffers, Mask, Scratch
from skcnn.layers._names import ForeignNamesMixin
from skcnn.layers._params import KnownParamsMixin, check_params

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]

POSITIVE = Interval(Integral, 1, None, closed="left")
NOT_NEGATIVE = Interval(Integral, 0, None, closed="left")


class Layer(ForeignNamesMixin, KnownParamsMixin, BaseEstimator):
    """Base class of all layers.

    A layer holds hyper-parameters only. Its learned arrays are views into the network's vector of
    weights, and its scratch arrays live in a `Workspace`, so one layer object can serve many networks
    and threads at once. To write a layer, subclass this, give `__init__` parameters that are only
    assigned, and override the methods below; see ``docs/layers.md``.

    Inside a network a batch of maps is an array of shape (rows, channels, columns, images), and
    the shape of one map is written ``(rows, columns, channels)``, as an image's is.

    Examples
    --------
    >>> from skcnn.layers import Layer
    >>> class Double(Layer):
    ...     def forward(self, x, weights, work):
    ...         return 2 * x
    ...     def backward(self, dy, weights, grads, work):
    ...         return 2 * dy
    >>> Double().output_shape((8, 8, 3))
    (8, 8, 3)
    """

    _parameter_constraints: ClassVar[dict] = {}

    def validate(self) -> None:
        """Raise a `ValueError` if a hyper-parameter is out of its range."""
        params = self.get_params(deep=False)
        check_params(params, self._parameter_constraints, type(self).__name__)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output map.

        Parameters
        ----------
        input_shape : tuple of int
            ``(rows, columns, channels)`` of the input map.

        Returns
        -------
        shape : tuple of int
            ``(rows, columns, channels)``.

        Raises
        ------
        ValueError
            If the layer does not fit the map.
        """
        return input_shape

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Return a dict of the shapes of the learned arrays, keyed by "coef" and "intercept".

        "mean" and "variance", of one shape, are statistics that are not learned but measured: while
        learning, `forward` leaves the shard's own in ``work["mean"]`` and ``work["variance"]``.
        """
        return {}

    def buffer_shapes(self, input_shape: Shape, n_images: int) -> dict[str, Shape]:
        """Return a dict of the shapes of the arrays that `forward` and `backward` write."""
        return {}

    def flops(self, input_shape: Shape) -> int:
        """Return about how many floating-point operations `forward` takes for an image."""
        coef = self.weight_shapes(input_shape).get("coef", (0,))
        rows, columns, _ = self.output_shape(input_shape)
        return 2 * int(np.prod(coef)) * rows * columns

    def map_size(self, input_shape: Shape) -> int:
        """Return the numbers in the largest map of an image that `forward` writes."""
        return int(np.prod(self.output_shape(input_shape)))

    def steps(self) -> list[Layer]:
        """Return the layers that a network runs in place of this one: itself, if it is one step."""
        return [self]

    def initial_weights(self, input_shape: Shape, random_state: np.random.RandomState) -> Arrays:
        """Return a dict of float64 arrays, shaped as `weight_shapes` says."""
        return {name: np.zeros(s) for name, s in self.weight_shapes(input_shape).items()}

    def public_coef(self, coef: np.ndarray) -> np.ndarray:
        """Return `coef` as a view in the order in which users see it in ``coefs_``."""
        return coef

    def forward(self, x: np.ndarray, weights: Arrays, work: Workspace) -> np.ndarray:
        """Return the output of a batch.

        Parameters
        ----------
        x : ndarray of shape (rows, channels, columns, n_images)
        weights : dict of ndarray
        work : Workspace
            Buffers of this layer; what `backward` will need is kept in it.

        Returns
        -------
        y : ndarray of shape (output rows, output channels, output columns, n_images)
        """
        raise NotImplementedError(f"{type(self).__name__} must override forward.")

    def backward(
        self, dy: np.ndarray, weights: Arrays, grads: Arrays, work: Workspace
    ) -> np.ndarray | None:
        """Return the gradient of the input and write the gradients of the weights to `grads`.

        Parameters
        ----------
        dy : ndarray
            Gradient of the output of the last `forward`; may be overwritten.
        weights, grads : dict of ndarray
        work : Workspace

        Returns
        -------
        dx : ndarray, or None if ``work.needs_dx`` is false
        """
        raise NotImplementedError(f"{type(self).__name__} must override backward.")


class Shard:
    """What all layers of a network know of the shard that they work on.

    Attributes
    ----------
    weights : ndarray of shape (n_images,)
        The samples' weights in the loss.
    kept : dict
        Maps that one layer leaves for another.
    weights_stay : bool, default=False
        Whether the network's weights stay as they are for as long as its buffers are used.
    is_random : bool
        Whether random changes are to be made, as in training.
    """

    def __init__(self, weights_stay: bool = False) -> None:
        self.weights_stay = weights_stay
        self.kept: dict[Any, np.ndarray] = {}
        self.begin(None, None)

    def begin(self, sample_weight: Any, seed: int | None) -> None:
        """Begin a pass over other images; `seed` is that of `random`, None for nothing random."""
        self.weights: np.ndarray = sample_weight
        self._seed = seed
        self.is_random = seed is not None
        self._random: np.random.Generator | None = None

    @property
    def random(self) -> np.random.Generator:
        """A `numpy.random.Generator` of this pass, the same whichever worker runs it."""
        if self._random is None:  # made on demand, which takes as long as a small layer
            self._random = np.random.Generator(np.random.SFC64(self._seed))
        return self._random


class Workspace(dict[str, Any]):
    """The buffers of one layer for one number of images, each allocated when it is first used.

    What a buffer holds when a forward pass begins is undefined, unless its shape is `Zeros`. The
    layer may also keep other things here between its forward and its backward pass, its input for
    example.

    Attributes
    ----------
    input_shape : (int, int, int)
    n_images : int
    dtype : numpy dtype
    needs_dx : bool
        Whether `backward` must return the gradient of the input.
    learning : bool
        Whether a `backward` will follow `forward`.
    shard : Shard
    buffers : Buffers, default=None
        Memory that is shared with other layers; None: the layer has its own.
    """

    def __init__(
        self,
        layer: Layer,
        input_shape: Shape,
        n_images: int,
        dtype: DTypeLike,
        needs_dx: bool = True,
        learning: bool = True,
        shard: Shard | None = None,
        buffers: Buffers | None = None,
    ) -> None:
        self.shard = Shard() if shard is None else shard
        self.input_shape = input_shape
        self.n_images = n_images
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.needs_dx = needs_dx
        self.learning = learning
        self._shapes = layer.buffer_shapes(input_shape, n_images)
        self._buffers = Buffers() if buffers is None else buffers
        self._buffers.reserve(self._shapes.values(), self.dtype)
        self._scratch_end = 0
        self._prepared: set[str] = set()

    def prepare(self, name: str, function: Callable[..., object], *args: Any) -> np.ndarray:
        """Return the buffer `name`, which ``function(*args, buffer)`` makes of the weights alone."""
        if name not in self._prepared:
            function(*args, self[name])
            if self.shard.weights_stay:
                self._prepared.add(name)
        return self[name]

    def once(self, name: str, function: Callable[[Shape], Any]) -> Any:
        """Return ``function(input_shape)``, called only the first time and kept under `name`."""
        if name not in self:
            self[name] = function(self.input_shape)
        return self[name]

    def __missing__(self, name: str) -> np.ndarray:
        shape = self._shapes[name]
        if isinstance(shape, Scratch):
            array, self._scratch_end = self._buffers.scratch(self._scratch_end, shape, self.dtype)
        else:
            dtype = bool if isinstance(shape, Mask) else self.dtype
            array = self._buffers.array(shape, dtype)
        self[name] = array
        return array


def check_map_shape(input_shape: Shape) -> None:
    """Raise a `ValueError` unless `input_shape` is that of a map."""
    is_sequence = isinstance(input_shape, tuple | list) and len(input_shape) == 3
    if not is_sequence or not all(isinstance(n, Integral) and n > 0 for n in input_shape):
        raise ValueError(
            "input_shape must be (rows, columns, channels), positive ints. "
            f"Got {input_shape!r} instead."
        )


def spread(activation: str, fan_in: int, fan_out: int) -> float:
    """Return the standard deviation of initial weights.

    He et al. (2015) for rectifiers, Glorot and Bengio (2010) for the others.
    """
    if activation in ("relu", "leaky_relu"):
        return np.sqrt(2 / fan_in)
    return np.sqrt(2 / (fan_in + fan_out))
