"""One step of training equals torch's, in float64: every layer, activation, loss and weighting."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose
from sklearn.utils.class_weight import compute_sample_weight

from skcnn import CNNClassifier, CNNRegressor
from skcnn._engine.activations import ACTIVATIONS
from skcnn.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Residual,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional
RATE, N = 0.3, 6
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 7, 8, 3))
CODES = np.array([0, 2, 1, 1, 0, 2])
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 1.5])

ACTIVATE = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}


class Net:
    """A network in torch with the weights of a fitted estimator."""

    def __init__(self, clf, weights):
        self.coefs = [torch.tensor(np.array(c), requires_grad=True) for c in clf.coefs_]
        self.intercepts = [torch.tensor(np.array(b), requires_grad=True) for b in clf.intercepts_]
        self.layers = (*clf.layers, Dense(clf.n_outputs_, activation="identity"))
        self.weights = torch.tensor(weights)
        self.seed = clf._progress.seed, clf._progress.n_steps + 1, 0
        self.statistics = []

    def forward(self, X):
        self.coefs_left, self.intercepts_left = list(self.coefs), list(self.intercepts)
        self.random = np.random.Generator(np.random.SFC64(self.seed))
        x = torch.tensor(np.moveaxis(X, 3, 1))
        for layer in self.layers:
            x = self.run(layer, x)
        return x.flatten(1)

    def own(self):
        return self.coefs_left.pop(0), self.intercepts_left.pop(0)

    def run(self, layer, x):
        return getattr(self, type(layer).__name__.lower())(layer, x)

    def conv(self, layer, x):
        coef, intercept = self.own()
        spans = [
            d * (k - 1) + 1
            for k, d in zip(coef.shape[1:3], reference.pair(layer.dilation), strict=True)
        ]
        (top, bottom), (left, right) = reference.paddings(layer.padding, spans)
        x = F.pad(x, (left, right, top, bottom))
        how = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        return ACTIVATE[layer.activation](F.conv2d(x, coef.permute(0, 3, 1, 2), intercept, **how))

    def dense(self, layer, x):
        coef, intercept = self.own()
        return ACTIVATE[layer.activation](x.flatten(1) @ coef + intercept)[:, :, None, None]

    def activation(self, layer, x):
        return ACTIVATE[layer.activation](x)

    def maxpool(self, layer, x):
        return F.max_pool2d(
            x, layer.pool_size, layer.stride, layer.padding if layer.padding != "valid" else 0
        )

    def avgpool(self, layer, x):
        padding = layer.padding if layer.padding != "valid" else 0
        return F.avg_pool2d(x, layer.pool_size, layer.stride, padding, count_include_pad=False)

    def globalmaxpool(self, layer, x):
        return x.amax((2, 3), keepdim=True)

    def globalavgpool(self, layer, x):
        return x.mean((2, 3), keepdim=True)

    def residual(self, layer, x):
        y = x
        for inner in layer.layers:
            y = self.run(inner, y)
        return ACTIVATE[layer.activation](x + y)

    def batchnorm(self, layer, x):
        coef, intercept = self.own()
        share = (self.weights / self.weights.sum() / (x.shape[2] * x.shape[3]))[:, None, None, None]
        mean = (x * share).sum((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2 * share).sum((0, 2, 3), keepdim=True)
        self.statistics += [mean, variance]
        y = (x - mean) / torch.sqrt(variance + layer.epsilon)
        return y * coef[:, None, None] + intercept[:, None, None]

    def dropout(self, layer, x):
        n, channels, rows, columns = x.shape
        drawn = self.random.random((rows, channels, columns, n))
        kept = torch.tensor((drawn >= layer.rate).transpose(3, 1, 0, 2))
        return x * kept / (1 - layer.rate)


def cross_entropy(logits, y, smoothing):
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, torch.tensor(y), reduction="none", label_smoothing=smoothing)
    target = torch.tensor(y * (1 - smoothing) + smoothing / 2, dtype=torch.float64)
    return F.binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")


def check(clf, X, y, loss, weights, sample_weight, max_norm=None):
    """Compare one step of `clf`, fitted before, with torch's."""
    net = Net(clf, weights)
    total = weights.sum()
    value = (net.weights * loss(net.forward(X), y)).sum() / total
    value = value + clf.alpha / 2 * sum((c**2).sum() for c in net.coefs) / total
    value.backward()
    arrays = net.coefs + net.intercepts
    if max_norm is not None:
        length = torch.sqrt(sum((array.grad**2).sum() for array in arrays))
        assert length > max_norm
        for array in arrays:
            array.grad *= max_norm / length
    optimizer = torch.optim.SGD(arrays, lr=RATE)
    optimizer.step()
    clf.partial_fit(X, y, sample_weight=sample_weight)
    assert clf.loss_ == pytest.approx(value.item(), rel=1e-10)
    for got, expected in zip(clf.coefs_ + clf.intercepts_, arrays, strict=True):
        assert_allclose(got, expected.detach(), rtol=0, atol=1e-10)
    return net


def started(estimator, X, y):
    """Return an estimator with weights, none of them zero, that descends by plain gradients."""
    estimator.set_params(
        solver="sgd", momentum=0, learning_rate_init=RATE, standardize=False, batch_size=len(X),
        shuffle=False, random_state=0,
    )  # fmt: skip
    classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
    is_classifier = isinstance(estimator, CNNClassifier)
    estimator.partial_fit(X, y, **({"classes": classes} if is_classifier else {}))
    draw = np.random.default_rng(1)
    for array in estimator.coefs_ + estimator.intercepts_:
        array[...] = draw.normal(scale=0.4, size=array.shape)
    return estimator


def step_of_classifier(layers, y=CODES, X=X, sample_weight=None, weights=None, **params):
    clf = started(CNNClassifier(layers, alpha=0.2, **params), X, y)
    weights = np.ones(len(X)) if weights is None else weights
    smoothing = params.get("label_smoothing", 0)
    return clf, check(
        clf, X, y, lambda z, y: cross_entropy(z, y, smoothing), weights, sample_weight,
        params.get("clip_norm"),
    )  # fmt: skip


BLOCK = (Conv(4, activation="identity"), BatchNorm(), Activation("relu"))
STACKS = [
    (),
    *[(Conv(4, activation=a), MaxPool(), Dense(5, activation=a)) for a in ACTIVATIONS],
    *[(Conv(3, 3, padding=p, activation="tanh"),) for p in ("valid", "same", 1, (2, 0))],
    (Conv(4, (2, 3), stride=(2, 1), activation="tanh"), Conv(3, 2, dilation=2)),
    (Conv(6, 3, groups=3, activation="tanh"), Conv(4, 1), Conv(4, 3, groups=4)),
    (Conv(3, 3, groups=3), MaxPool()),
    (Conv(2, 1, activation="tanh"), Conv(3, 7)),
    (Conv(20, activation="tanh"), Conv(24, activation="tanh"), Conv(20)),  # by tiles
    (Conv(20), Conv(24), MaxPool(), Conv(20), MaxPool()),
    (Conv(3, init=np.linspace(-1, 1, 81).reshape(3, 3, 3, 3)),),
    (Conv(3), MaxPool(3, stride=2, padding=1), Conv(3), AvgPool(2, stride=1)),
    (AvgPool(3, stride=2, padding=1), Conv(3), MaxPool((2, 1))),
    (Conv(5), GlobalMaxPool()),
    (Conv(5), GlobalAvgPool(), Dense(4)),
    (Dense(6, activation="tanh"), Dense(5), Dense(4, activation="logistic")),
    *[(Activation(a), Conv(3, activation="identity"), Activation(a)) for a in ACTIVATIONS],
    (*BLOCK, MaxPool(), Dense(4, activation="identity"), BatchNorm(), Activation("tanh")),
    (Conv(4, activation="identity"), MaxPool(), BatchNorm(), Activation("silu")),
    (Conv(4), Residual((*BLOCK, *BLOCK[:2])), GlobalAvgPool()),
    (Residual((Conv(3), Conv(3, activation="identity")), activation="gelu"), Residual(())),
    (Conv(4), Dropout(0.3), MaxPool(), Dropout(0.5), Dense(6), Dropout(0.2)),
]


def test_every_activation_is_compared():
    assert ACTIVATE.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_every_layer(layers):
    step_of_classifier(layers)


@pytest.mark.parametrize(
    "layers", [STACKS[1], (*BLOCK, MaxPool()), (Conv(4), Dropout(0.4))], ids=str
)
def test_weights_of_samples(layers):
    step_of_classifier(layers, sample_weight=WEIGHTS, weights=WEIGHTS)


@pytest.mark.parametrize("class_weight", [{0: 2.0, 1: 0.25}, {2: 0.0}])
@pytest.mark.parametrize("sample_weight", [None, WEIGHTS])
def test_weights_of_classes(class_weight, sample_weight):
    weights = compute_sample_weight(class_weight, CODES)
    weights = weights if sample_weight is None else weights * sample_weight
    step_of_classifier(
        (*BLOCK, MaxPool()), sample_weight=sample_weight, weights=weights, class_weight=class_weight
    )


def test_balanced_classes():
    """Balanced weights need all labels, so that the step is that of `fit`."""
    y = np.array([0, 0, 0, 1, 1, 2])
    params = {"solver": "sgd", "momentum": 0, "standardize": False, "shuffle": False, "alpha": 0.1}
    params |= {"learning_rate_init": RATE, "random_state": 0, "max_iter": 1, "warm_start": True}
    clf = CNNClassifier((Conv(3), MaxPool()), class_weight="balanced", **params).fit(X, y)
    net = Net(clf, np.array([2 / 3] * 3 + [1.0] * 2 + [2.0]))
    total = net.weights.sum()
    value = (net.weights * cross_entropy(net.forward(X), y, 0)).sum() / total
    value = value + 0.1 / 2 * sum((c**2).sum() for c in net.coefs) / total
    value.backward()
    clf.fit(X, y)
    for got, array in zip(clf.coefs_ + clf.intercepts_, net.coefs + net.intercepts, strict=True):
        assert_allclose(got, (array - RATE * array.grad).detach(), rtol=0, atol=1e-10)


def test_running_statistics():
    layer = BatchNorm(momentum=0.25)
    clf = started(CNNClassifier((Conv(3, activation="tanh"), layer), alpha=0.2), X, CODES)
    before = [view.copy() for view in _statistics(clf)]
    loss = lambda z, y: cross_entropy(z, y, 0)  # noqa: E731
    net = check(clf, X, CODES, loss, WEIGHTS, WEIGHTS)
    for old, new, found in zip(before, _statistics(clf), net.statistics, strict=True):
        assert_allclose(new, 0.75 * old + 0.25 * found.detach().ravel().numpy(), atol=1e-12)


def _statistics(clf):
    views = clf._network.views(clf._progress.weights)
    return [own[name] for own in views for name in ("mean", "variance") if name in own]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("y", [CODES, CODES % 2], ids=["three classes", "two classes"])
def test_losses_of_labels(y, smoothing):
    step_of_classifier((Conv(3), MaxPool()), y, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_many_labels(smoothing):
    y = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0], [1, 0, 1]])
    clf = started(CNNClassifier((Conv(3),), alpha=0.2, label_smoothing=smoothing), X, y)

    def loss(logits, y):
        target = torch.tensor(y * (1 - smoothing) + smoothing / 2, dtype=torch.float64)
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return each.sum(1)

    check(clf, X, y, loss, WEIGHTS, WEIGHTS)


REGRESSION = {
    "squared_error": lambda z, y: ((z - y) ** 2).sum(1) / 2,
    "absolute_error": lambda z, y: (z - y).abs().sum(1),
    "huber": lambda z, y: F.huber_loss(z, y, delta=0.5, reduction="none").sum(1),
    "poisson": lambda z, y: F.poisson_nll_loss(
        z, y, log_input=True, full=False, reduction="none"
    ).sum(1),
}


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("loss", REGRESSION)
def test_losses_of_numbers(loss, n_outputs):
    y = np.abs(rng.normal(size=(N, n_outputs))) * 2
    delta = {"delta": 0.5} if loss == "huber" else {}
    reg = started(CNNRegressor((Conv(3), MaxPool()), alpha=0.2, loss=loss, **delta), X, y)
    net = Net(reg, WEIGHTS)
    outputs = net.forward(X)
    value = (net.weights * REGRESSION[loss](outputs, torch.tensor(y))).sum() / WEIGHTS.sum()
    value = value + 0.1 * sum((c**2).sum() for c in net.coefs) / WEIGHTS.sum()
    value.backward()
    reg.partial_fit(X, y, sample_weight=WEIGHTS)
    for got, array in zip(reg.coefs_ + reg.intercepts_, net.coefs + net.intercepts, strict=True):
        assert_allclose(got, (array - RATE * array.grad).detach(), rtol=0, atol=1e-10)


def test_clipped_gradients():
    step_of_classifier((Conv(3), MaxPool()), clip_norm=0.05)
