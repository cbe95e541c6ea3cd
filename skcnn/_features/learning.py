"""What `ConvFeatureExtractor` learns from images: from its parameters to `Features`."""

import copy
from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from skcnn._data.images import float_type, is_far
from skcnn._engine.geometry import pair
from skcnn._features.banks import LEARNED, Bank, LearnedBank
from skcnn._features.features import Features, chosen_pooling, from_bank, from_model
from skcnn._features.patches import Whitener, draw_patches
from skcnn.filters import BANKS, fixed_bank, given_bank

DEFAULT_SIZE = 5  # rows and columns of a filter, unless the image has fewer
QUANTILE_SIZE = 10_000_000  # responses that quantiles are taken of


@dataclass
class Learned:
    """What an extractor has learned, and goes on from."""

    features: Features
    random_state: np.random.RandomState | None = None
    bank: Bank | None = None
    cnn: object = None


def learn(params, X, image_shape, *, in_pieces):
    """Return the `Learned` of images: a bank of filters, and the features that it gives.

    Parameters
    ----------
    params : ConvFeatureExtractor
        Only its parameters are read.
    X : ndarray of shape (n_images, n_features)
    image_shape : (int, int, int)
    in_pieces : bool
        Whether X is the first piece of more to come.
    """
    seed = check_random_state(params.random_state).randint(np.iinfo(np.int32).max)
    random_state = np.random.RandomState(seed)  # a copy of its own, which partial_fit goes on from
    bank = _make_bank(params, X, image_shape, random_state, in_pieces)
    return _with_features(params, bank, X, image_shape, random_state)


def learn_from_network(cnn, model):
    """Return the `Learned` of a fitted network `cnn`, whose `Model` is given."""
    return Learned(from_model(model), cnn=cnn)


def learn_more(params, learned, X, image_shape):
    """Return the `Learned` after a further piece of the data; `learned` does not change."""
    if not isinstance(learned.bank, LearnedBank):
        return learned
    bank, random_state = copy.deepcopy((learned.bank, learned.random_state))
    bank.partial_fit(_draw(params, X, image_shape, bank.shape, random_state), random_state)
    return _with_features(params, bank, X, image_shape, random_state)


def _with_features(params, bank, X, image_shape, random_state):
    """Return the `Learned` of a bank."""
    features = from_bank(
        bank,
        image_shape,
        stride=params.stride,
        padding=params.padding,
        activation=params.activation,
        thresholds=_thresholds(params, bank, X, image_shape, random_state),
        pooling=chosen_pooling(
            params.pooling, params.pool_size, params.pool_stride, params.pool_grid
        ),
    )
    return Learned(features, random_state, bank)


def _make_bank(params, X, image_shape, random_state, in_pieces):
    """Return the bank that the parameters mean."""
    method = params.filters if isinstance(params.filters, str) else None
    is_learned = method in LEARNED
    defaults = {"pca": ("mean", False)}.get(
        method, ("contrast", True) if is_learned else (None, False)
    )
    normalize = defaults[0] if params.normalize == "auto" else params.normalize
    whiten = defaults[1] if params.whiten == "auto" else params.whiten
    if is_learned:
        size = params.kernel_size or tuple(min(DEFAULT_SIZE, n) for n in image_shape[:2])
        shape = (*pair(size), image_shape[2])
    else:
        filters, names = _fixed_filters(params, image_shape[2])
        shape = filters.shape[1:]
    if not (is_learned or normalize or whiten):
        return Bank(names, shape, Whitener(0.0, 1.0), filters.reshape(len(filters), -1))
    patches = _draw(params, X, image_shape, shape, random_state)
    whitener = Whitener.fit(
        patches,
        removes_mean=normalize is not None,
        contrast=params.contrast_epsilon if normalize == "contrast" else None,
        epsilon=params.whiten_epsilon if whiten else None,
    )
    if not is_learned:
        return Bank(names, shape, whitener, filters.reshape(len(filters), -1))
    return LearnedBank.fit(
        method, patches, shape, params.n_filters, random_state, whitener, in_pieces=in_pieces
    )


def _draw(params, X, image_shape, shape, random_state):
    """Return patches to learn from, in X's float type, or in float64 if that would lose digits."""
    dtype = float_type(X.dtype)
    is_wide = X.dtype.kind in "iu" and X.dtype.itemsize > 2
    exact = np.dtype(np.float64) if is_wide else dtype
    drawn = draw_patches(X, image_shape, shape[:2], params.n_patches, random_state, exact)
    return drawn if is_far(drawn.mean(), drawn.std()) else drawn.astype(dtype, copy=False)


def _thresholds(params, bank, X, image_shape, random_state):
    """Return the threshold of all filters, or one for each by a quantile of its responses."""
    if params.threshold_quantile is None:
        return params.threshold
    patches = _draw(params, X, image_shape, bank.shape, random_state)
    n_rows = max(QUANTILE_SIZE // len(bank.atoms), 1)
    white = bank.whitener.transform(patches[random_state.permutation(len(patches))[:n_rows]])
    responses = np.abs(white @ bank.directions().T)
    return np.quantile(responses, params.threshold_quantile, axis=0)


def _fixed_filters(params, channels):
    """Return filters of shape (n, rows, columns, channels), by name or as given, and their names."""
    if isinstance(params.filters, str):
        if params.filters not in BANKS:
            known = sorted((*BANKS, *LEARNED))
            raise ValueError(
                f"filters must be an array, a CNNClassifier or one of {known}. "
                f"Got {params.filters!r} instead."
            )
        size = None if params.kernel_size is None else pair(params.kernel_size)
        bank = fixed_bank(params.filters, params.n_filters, size)
        filters, names = np.stack(list(bank.values()))[..., None], list(bank)
    else:
        filters, names = given_bank(params.filters)
    if filters.shape[3] == 1 < channels and np.ndim(params.filters) != 4:
        filters = np.repeat(filters, channels, axis=3) / channels
    if filters.shape[3] != channels:
        raise ValueError(
            f"filters must have as many channels as the images, {channels}. "
            f"Got {filters.shape[3]} instead."
        )
    return filters, names
