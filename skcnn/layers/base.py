"""The protocol of a layer: a value that computes, and never keeps an array."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from skcnn._workers.loops import Loop
from skcnn._workers.memory import Buffers, Scratch

POSITIVE = Interval(Integral, 1, None, closed="left")
NOT_NEGATIVE = Interval(Integral, 0, None, closed="left")


class Layer(BaseEstimator):
    """Base class of all layers.

    A layer holds hyper-parameters only. Its learned arrays are views into the network's vector of
    weights, and its scratch arrays live in a `Work`, so one layer object can serve many networks
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

    _parameter_constraints: dict = {}

    def validate(self):
        """Raise a `ValueError` if a hyper-parameter is out of its range."""
        params = self.get_params(deep=False)
        constraints = {**self._parameter_constraints}
        validate_parameter_constraints(constraints, params, caller_name=type(self).__name__)

    def output_shape(self, input_shape):
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

    def weight_shapes(self, input_shape):
        """Return a dict of the shapes of the learned arrays, keyed by "coef" and "intercept".

        "mean" and "variance" are running statistics: not learned, but followed. Where a gradient
        goes, `backward` writes the shard's own, times the sum of the samples' weights.
        """
        return {}

    def buffer_shapes(self, input_shape, n_images):
        """Return a dict of the shapes of the arrays that `forward` and `backward` write."""
        return {}

    def flops(self, input_shape):
        """Return about how many floating-point operations `forward` takes for an image."""
        coef = self.weight_shapes(input_shape).get("coef", (0,))
        rows, columns, _ = self.output_shape(input_shape)
        return 2 * int(np.prod(coef)) * rows * columns

    def map_size(self, input_shape):
        """Return the numbers in the largest map of an image that `forward` writes."""
        return int(np.prod(self.output_shape(input_shape)))

    def steps(self):
        """Return the layers that a network runs in place of this one: itself, if it is one step."""
        return [self]

    def initial_weights(self, input_shape, random_state):
        """Return a dict of float64 arrays, shaped as `weight_shapes` says."""
        return {name: np.zeros(s) for name, s in self.weight_shapes(input_shape).items()}

    def public_coef(self, coef):
        """Return `coef` as a view in the order in which users see it in ``coefs_``."""
        return coef

    def forward(self, x, weights, work):
        """Return the output of a batch.

        Parameters
        ----------
        x : ndarray of shape (rows, channels, columns, n_images)
        weights : dict of ndarray
        work : Work
            Buffers of this layer; what `backward` will need is kept in it.

        Returns
        -------
        y : ndarray of shape (output rows, output channels, output columns, n_images)
        """
        raise NotImplementedError

    def backward(self, dy, weights, grads, work):
        """Return the gradient of the input and write the gradients of the weights to `grads`.

        Parameters
        ----------
        dy : ndarray
            Gradient of the output of the last `forward`; may be overwritten.
        weights, grads : dict of ndarray
        work : Work

        Returns
        -------
        dx : ndarray, or None if ``work.needs_dx`` is false
        """
        raise NotImplementedError


class Mask(tuple):
    """The shape of a buffer of booleans; every other buffer has the network's float type."""


class Shard:
    """What all layers of a network know of the shard that they work on.

    Attributes
    ----------
    weights : ndarray of shape (n_images,)
        Of the samples, in the loss.
    random : numpy.random.Generator
        Set anew for each shard, by its place in the training and not by the worker.
    kept : dict
        Maps that one layer leaves for another.
    loop_maker : callable or None
        ``loop_maker(place, n_blocks, inputs, outputs)``; see `Work.loop`.
    weights_stay : bool, default=False
        Whether the network's weights stay as they are for as long as its buffers are used.
    """

    def __init__(self, weights_stay=False):
        self.weights_stay = weights_stay
        self.weights = None
        self.random = None
        self.kept = {}
        self.loop_maker = None


class Work(dict):
    """The buffers of one layer for one number of images, each allocated when it is first used.

    Buffers start as zeros, but for `Scratch`, which other layers write to as well. The layer may also
    keep other things here between its forward and its backward pass, its input for example.

    Attributes
    ----------
    input_shape : (int, int, int)
    dtype : numpy dtype
    needs_dx : bool
        Whether `backward` must return the gradient of the input.
    learning : bool
        Whether a `backward` will follow `forward`.
    shard : Shard
    place : (int, int)
        The layer's number in the network, and of images: a key to the same layer's buffers elsewhere.
    buffers : Buffers, default=None
        Where they lie, with those of other layers; None: by themselves.
    """

    def __init__(
        self,
        layer,
        input_shape,
        n_images,
        dtype,
        needs_dx=True,
        learning=True,
        shard=None,
        buffers=None,
    ):
        self.shard = shard
        self.place = None
        self.input_shape = input_shape
        self.dtype = np.dtype(dtype)
        self.needs_dx = needs_dx
        self.learning = learning
        self._shapes = layer.buffer_shapes(input_shape, n_images)
        self._buffers = Buffers() if buffers is None else buffers
        self._buffers.reserve(self._shapes.values(), self.dtype)
        self._scratch_end = 0
        self._prepared = set()

    @property
    def weights_stay(self):
        """Whether what is made of the weights alone need be made only once."""
        return self.shard is not None and self.shard.weights_stay

    def prepare(self, name, function, *args):
        """Return the buffer `name`, which ``function(*args, buffer)`` makes of the weights alone."""
        if name not in self._prepared:
            function(*args, self[name])
            if self.weights_stay:
                self._prepared.add(name)
        return self[name]

    def loop(self, n_blocks, inputs, outputs):
        """Return a `Loop` over blocks, which other workers may join.

        They call the layer's ``join(loop, arrays, work)`` with all of these arrays and a `Work` of
        their own. Copies of the `inputs` will do; `outputs` they write to as well, or are None.
        """
        if self.shard is None or self.shard.loop_maker is None:
            return Loop(n_blocks)
        return self.shard.loop_maker(self.place, n_blocks, inputs, outputs)

    def once(self, name, function):
        """Return ``function(input_shape)``, called only the first time and kept under `name`."""
        if name not in self:
            self[name] = function(self.input_shape)
        return self[name]

    def __missing__(self, name):
        shape = self._shapes[name]
        if isinstance(shape, Scratch):
            array, self._scratch_end = self._buffers.scratch(self._scratch_end, shape, self.dtype)
        else:
            array = self._buffers.zeros(shape, bool if isinstance(shape, Mask) else self.dtype)
        self[name] = array
        return array


def spread(activation, fan_in, fan_out):
    """Return the standard deviation of initial weights.

    He et al. (2015) for rectifiers, Glorot and Bengio (2010) for the others.
    """
    if activation in ("relu", "leaky_relu"):
        return np.sqrt(2 / fan_in)
    return np.sqrt(2 / (fan_in + fan_out))
