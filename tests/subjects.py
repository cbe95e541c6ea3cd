"""Small estimators, new and fitted, and data, for tests of what happens when they are misused."""

import copy

import joblib
import numpy as np
import pytest
from scipy import sparse

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.inspection import check_gradients, saliency
from skcnn.layers import Conv, Dense, MaxPool, Residual

pd = pytest.importorskip("pandas")
plt = pytest.importorskip("matplotlib.pyplot")

N, NAN = 12, np.nan
X = np.random.default_rng(0).normal(size=(N, 6, 6))
FLAT = X.reshape(N, 36)
CSR = sparse.csr_array(FLAT)
TABLE = pd.DataFrame(FLAT, columns=[f"pixel{i}" for i in range(36)])
Y, R = np.arange(N) % 3, np.linspace(0, 1, N)  # labels and numbers
MANY = np.c_[Y > 0, Y > 1].astype(int)  # indicators of two labels
WIDE, LARGE, DEEP = np.ones((N, 49)), np.ones((N, 7, 7)), X[..., None, None]
HUGE = FLAT * np.longdouble("1e400")
CATEGORY = pd.Series(["a", None, "b"] * 4, dtype="category")
TWO_SIZES = [np.ones((6, 6)), np.ones((5, 5))]
NETWORK = {"layers": (Conv(2), MaxPool(), Dense(3)), "max_iter": 1, "random_state": 0}


def clf(**params):
    return CNNClassifier(**NETWORK | params)


def reg(**params):
    return CNNRegressor(**NETWORK | params)


def ext(**params):
    return ConvFeatureExtractor(**params)


def net(*layers):
    return clf(layers=layers)


def fit(estimator):
    return estimator.fit(X, R if isinstance(estimator, CNNRegressor) else Y)


def fits(*args, **kwargs):
    """Return a call of `fit`."""
    return lambda estimator: estimator.fit(*args, **kwargs)


def pieces(*args, **kwargs):
    """Return a call of `partial_fit`."""
    return lambda estimator: estimator.partial_fit(*args, **kwargs)


def sets(**params):
    """Return a call of `set_params`."""
    return lambda estimator: estimator.set_params(**params)


def draws(display, *args, **kwargs):
    """Return a call of `from_estimator` of a display."""
    return lambda estimator: display.from_estimator(estimator, *args, **kwargs)


def plots(display, *args):
    """Return a call of `plot` of a display made of `args`."""
    return lambda _: display(*args).plot()


def explains(**kwargs):
    """Return a call of `saliency`."""
    return lambda estimator: saliency(estimator, X, **kwargs)


def checks(**kwargs):
    """Return a call of `check_gradients`."""
    return lambda estimator: check_gradients(estimator, X, Y, **kwargs)


def validate(layer):
    layer.validate()


def state(subject):
    """Return what a call must not change: a hash of all that an object holds."""
    return joblib.hash(sorted(vars(subject).items())) if hasattr(subject, "__dict__") else None


def two_rows(images, rng):
    """Augment badly: return images of another shape."""
    return images[:, :2]


def praise(estimator, images, y):
    """Score badly: return no number."""
    return "good"


CLF, REG, EXT, WARM = fit(clf()), fit(reg()), fit(ext()), fit(clf(warm_start=True))
MULTI, TWO, NAMED = clf().fit(X, MANY), reg().fit(X, np.c_[R, R]), clf().fit(TABLE, Y)
DENSE, BLOCK = fit(net(Dense(2))), fit(net(Conv(2), Residual((Conv(2),))))
THIN = copy.copy(WARM).set_params(layers=())  # with other weights than it was fitted with


def fitted_like(estimator):
    """Return a fitted estimator with the same parameters."""
    fitted = next(each for each in (CLF, REG, EXT) if type(each) is type(estimator))
    return copy.deepcopy(fitted).set_params(**estimator.get_params(deep=False))
