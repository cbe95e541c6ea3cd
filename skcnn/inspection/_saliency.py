"""Saliency: how much each pixel of an image contributes to an output of a network."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import zoom
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skcnn._engine.blocks import even_slices
from skcnn._engine.geometry import pair
from skcnn._model.trace import IMAGES_AT_ONCE, FixedNorm, PlainNetwork
from skcnn._workers.pool import open_pool
from skcnn.inspection._score import Score
from skcnn.layers import Activation, Conv
from skcnn.layers._params import refuse_booleans
from skcnn.layers.conv import check_pair
from skcnn.layers.residual import Merge

METHODS = ("gradient", "integrated_gradients", "grad_cam", "occlusion")
_POSITIVE = Interval(Integral, 1, None, closed="left")
_SIZES: dict[str, list] = {
    "n_steps": [_POSITIVE],
    "patch_size": [_POSITIVE, tuple, list, None],
    "stride": [_POSITIVE, tuple, list, None],
}


@validate_params(
    {
        "X": ["array-like"],
        "method": [StrOptions(set(METHODS))],
        "layer": [str, None],
        "baseline": [Real, "array-like", None],
        "per_channel": ["boolean"],
    }
    | _SIZES,
    prefer_skip_nested_validation=True,
)
def saliency(
    estimator: BaseEstimator,
    X: ArrayLike,
    *,
    method: str = "integrated_gradients",
    target: Any = None,
    layer: str | None = None,
    baseline: ArrayLike | None = None,
    n_steps: int = 128,
    patch_size: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    per_channel: bool = False,
) -> np.ndarray:
    """Return an attribution for each pixel of each image: how much it matters to an output.

    The output explained is a logit (the value before the softmax or logistic function) of the
    network as it predicts.

    Parameters
    ----------
    estimator : CNNClassifier or CNNRegressor
        A fitted network.

    X : array-like
        Images, in any form that `fit` takes.

    method : {"gradient", "integrated_gradients", "grad_cam", "occlusion"}, \
            default="integrated_gradients"
        "gradient": the gradient of the logit with respect to each pixel; with several channels, the
        largest absolute gradient among them (Simonyan, Vedaldi and Zisserman, 2014).
        "integrated_gradients": the mean gradient along the straight line from `baseline` to the
        image, times their difference; the attributions of an image add up to the difference of the
        two logits (Sundararajan, Taly and Yan, 2017). "grad_cam": the positive part of the sum of a
        layer's maps, each weighted by the mean gradient of the logit with respect to it, enlarged
        to the size of the image (Selvaraju et al., 2017). "occlusion": the fall of the logit when
        `baseline` covers a patch of the image, averaged over all patches that contain the pixel
        (Zeiler and Fergus, 2014).

    target : label, array-like of shape (n_images,) or None, default=None
        Class to explain, one for all images or one for each. None means the predicted class; if y
        is multilabel, the most probable label. For a regressor, the index of the output to explain;
        None means 0.

    layer : str, default=None
        Name of the layer for "grad_cam" in ``estimator.trace(X)``. None means the last convolution
        or residual sum, after the batch normalisation and activation that follow it.

    baseline : float or array-like, default=None
        An input without information, in the units of X: a number, a colour of shape (channels,) or
        an image. None means the input that the network sees as zeros: the mean colour of the
        training images with `standardize`, 0 without.

    n_steps : int, default=128
        Number of points on the line of "integrated_gradients".

    patch_size : int or (int, int), default=None
        Rows and columns of the patches of "occlusion"; None means a quarter of the image's rows and
        columns.

    stride : int or (int, int), default=None
        Rows and columns from one patch to the next; None means half a patch, so that several
        patches cover each pixel.

    per_channel : bool, default=False
        Whether "gradient" and "integrated_gradients" keep the channels apart, with their signs.

    Returns
    -------
    values : ndarray of shape (n_images, rows, columns), with `per_channel` \
            (n_images, rows, columns, channels)
        Attributions, in the float type of the weights. Gradients are taken with respect to the
        values of X.

    See Also
    --------
    SaliencyDisplay : Draws attributions beside the images.
    skcnn.ConvFeatureExtractor.inverse_importance : Attributions of linear models on features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcnn import CNNClassifier
    >>> from skcnn.inspection import saliency
    >>> digits = load_digits()
    >>> X, y = digits.images, digits.target
    >>> clf = CNNClassifier(max_iter=3, random_state=0).fit(X[:500], y[:500])
    >>> saliency(clf, X[:4], method="occlusion", patch_size=2).shape
    (4, 8, 8)
    """
    refuse_booleans({"n_steps": n_steps, "patch_size": patch_size, "stride": stride}, _SIZES)
    if per_channel and method in ("grad_cam", "occlusion"):
        raise ValueError(f"per_channel must be False for method={method!r}. Got True instead.")
    score = Score(estimator, X, target)
    with open_pool(n_jobs=1):
        if method == "gradient":
            return _gradients(score, per_channel)
        if method == "integrated_gradients":
            return _integrated_gradients(score, score.baseline(baseline), n_steps, per_channel)
        if method == "grad_cam":
            return _grad_cam(score, layer)
        return _occlusion(score, score.baseline(baseline), patch_size, stride)


def _gradients(score: Score, per_channel: bool) -> np.ndarray:
    """Return the gradients of the scores with respect to the values of the images."""
    slopes = np.empty_like(score.maps)
    for part in even_slices(len(score), IMAGES_AT_ONCE):
        slopes[..., part], _ = score.gradient(score.maps[..., part], part)
    slopes *= score.per_unit[..., None]
    if per_channel:
        return _images_first(slopes)
    return _images_first(slopes if slopes.shape[1] == 1 else _steepest(slopes))[..., 0]


def _steepest(slopes: np.ndarray) -> np.ndarray:
    return np.abs(slopes).max(axis=1, keepdims=True)


def _integrated_gradients(
    score: Score, baseline: np.ndarray, n_steps: int, per_channel: bool
) -> np.ndarray:
    """Return the gradients integrated from the baseline to the images, by the midpoint rule."""
    shares = ((np.arange(n_steps) + 0.5) / n_steps).astype(baseline.dtype)
    result = np.empty_like(score.maps)
    for image in range(len(score)):
        way = score.maps[..., image, None] - baseline
        total = np.zeros_like(way)
        for part in even_slices(n_steps, IMAGES_AT_ONCE):
            slopes, _ = score.gradient(baseline + way * shares[part], image)
            total += slopes.sum(axis=3, keepdims=True)
        result[..., image] = (total * way / n_steps)[..., 0]
    values = _images_first(result)
    return values if per_channel else values.sum(axis=3)


def _grad_cam(score: Score, layer: str | None) -> np.ndarray:
    """Return the positive part of the sum of a layer's maps, weighted by their mean gradients."""
    layer = _map_layer(score.plain, layer)
    parts = []
    for part in even_slices(len(score), IMAGES_AT_ONCE):
        slopes, maps = score.gradient(score.maps[..., part], part, layer)
        weights = slopes.mean(axis=(0, 2), keepdims=True)
        parts.append(np.maximum((weights * maps).sum(axis=1), 0).transpose(2, 0, 1))
    cams = np.concatenate(parts)
    factors = [n / m for n, m in zip(score.image_shape[:2], cams.shape[1:], strict=True)]
    return zoom(cams, (1, *factors), order=1, mode="nearest", grid_mode=True)


def _map_layer(plain: PlainNetwork, layer: str | None) -> str:
    """Return the name of the step whose maps Grad-CAM weights."""
    names = [step.name for step in plain.steps]
    if layer is not None:
        if layer not in names:
            raise ValueError(
                f"layer must be the name of a layer in trace(X), {[n for n in names if n]}. "
                f"Got {layer!r} instead."
            )
        return layer
    steps = plain.steps
    convolutions = [i for i, step in enumerate(steps) if isinstance(step.layer, Conv | Merge)]
    if not convolutions:
        raise ValueError("method='grad_cam' takes networks with a Conv layer. Got none instead.")
    last = convolutions[-1]
    while last + 1 < len(steps) and isinstance(steps[last + 1].layer, Activation | FixedNorm):
        last += 1
    return names[last]


def _occlusion(score: Score, baseline: np.ndarray, patch_size: Any, stride: Any) -> np.ndarray:
    """Return the mean fall of the scores over all patches that cover each pixel."""
    check_pair("patch_size", patch_size, 1)
    check_pair("stride", stride, 1)
    rows, columns, _ = score.image_shape
    size = (-(-rows // 4), -(-columns // 4)) if patch_size is None else pair(patch_size)
    size = min(size[0], rows), min(size[1], columns)
    step = ((size[0] + 1) // 2, (size[1] + 1) // 2) if stride is None else pair(stride)
    if step[0] > size[0] or step[1] > size[1]:
        raise ValueError(f"stride must not exceed the patch, {size}. Got {stride!r} instead.")
    patches = [
        (slice(i, i + size[0]), slice(j, j + size[1]))
        for i in _starts(rows, size[0], step[0])
        for j in _starts(columns, size[1], step[1])
    ]
    result = np.zeros((len(score), rows, columns), baseline.dtype)
    counts = np.zeros((rows, columns), baseline.dtype)
    for patch in patches:
        counts[patch] += 1
    for image in range(len(score)):
        maps = score.maps[..., image, None]
        whole = score.values(maps, image)
        for part in even_slices(len(patches), IMAGES_AT_ONCE):
            covered = np.repeat(maps, len(patches[part]), axis=3)
            for number, (i, j) in enumerate(patches[part]):
                covered[i, :, j, number] = baseline[i, :, j, 0]
            falls = whole - score.values(covered, image)
            for patch, fall in zip(patches[part], falls, strict=True):
                result[image][patch] += fall
    return result / counts


def _starts(length: int, size: int, step: int) -> list[int]:
    """Return the first index of each patch along an axis; the last patch ends with the axis."""
    return sorted({*range(0, length - size, step), length - size})


def _images_first(maps: np.ndarray) -> np.ndarray:
    """Return maps in the order of users' images, (n_images, rows, columns, channels)."""
    return np.ascontiguousarray(maps.transpose(3, 0, 2, 1))
