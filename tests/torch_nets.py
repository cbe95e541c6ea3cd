"""The networks of skcnn in torch, for one training step in double precision.

Written for the parameters of skcnn's layers, with nothing of its code: torch.nn.functional computes,
torch.autograd differentiates. Maps are (images, channels, rows, columns), weights as in ``coefs_``.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skcnn import CNNClassifier, CNNRegressor
from skcnn import layers as L
from skcnn._engine import losses
from skcnn._model.shards import shard_slices
from skcnn._training.settings import make_optimizer

torch = pytest.importorskip("torch")
F = torch.nn.functional

PLAIN = {"solver": "sgd", "momentum": 0, "learning_rate_init": 1.0, "alpha": 0}
FIXED = {"shuffle": False, "standardize": False, "random_state": 0, "warm_start": True, "tol": 0}
ACTIVATE = {
    "identity": lambda z: z,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    # `F.gelu` loses digits far below zero
    "gelu": lambda z: z * torch.special.erfc(-z / np.sqrt(2)) / 2,
}


@dataclass
class Shard:
    """What layers see beside maps: weights yet to use, those of the samples, random numbers.

    To predict, `running` are means and variances yet to use. `move` is applied to each layer's output
    and wherever a `BatchNorm` reads its input, as rounding would be.
    """

    weights: object
    shares: object
    random: object
    running: object = None
    move: object = None

    def moved(self, x):
        return x if self.move is None else self.move(x)


def activate(name, z):
    """Activate by torch's function of the same name."""
    return ACTIVATE[name](z) if name in ACTIVATE else getattr(F, name)(z)


def pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def pads(padding, spans):
    """Return (left, right, top, bottom), as `F.pad` wants it, for windows that span so much."""
    if padding == "same":
        rows, columns = (((span - 1) // 2, span - 1 - (span - 1) // 2) for span in spans)
    else:
        rows, columns = ((p, p) for p in pair(0 if padding == "valid" else padding))
    return *columns, *rows


def conv(layer, x, shard):
    coef, intercept = next(shard.weights)
    stride, padding, dilation = pair(layer.stride), layer.padding, pair(layer.dilation)
    if padding == "same" and stride != (1, 1):  # torch refuses
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, coef.shape[1:3], strict=True)]
        x, padding = F.pad(x, pads(padding, spans)), 0
    coef = coef.permute(0, 3, 1, 2)
    return activate(
        layer.activation, F.conv2d(x, coef, intercept, stride, padding, dilation, layer.groups)
    )


def dense(layer, x, shard):
    coef, intercept = next(shard.weights)
    z = F.linear(x.flatten(1), coef.T, intercept)
    return activate(layer.activation, z)[:, :, None, None]


def batch_norm(layer, x, shard):
    """Normalise by torch's function if all samples weigh the same, else by the weighted formulas."""
    coef, intercept = next(shard.weights)
    if shard.running is not None:
        mean, variance = next(shard.running)
        return F.batch_norm(x, mean, variance, coef, intercept, eps=layer.epsilon)
    alike = (shard.shares == shard.shares[0]).all()
    if alike and shard.move is None and x[:, 0].numel() > 1:  # torch refuses a single number
        return F.batch_norm(x, None, None, coef, intercept, training=True, eps=layer.epsilon)
    mean, variance = moments(x, shard.shares, shard.moved)
    normalised = (x - spread(mean)) / torch.sqrt(spread(variance) + layer.epsilon)
    return normalised * spread(coef) + spread(intercept)


def moments(x, shares, moved=lambda x: x):
    """Return the mean and the variance of each channel, each image counted by its share."""
    shares = shares[:, None] / shares.sum()
    mean = (moved(x).mean(dim=(2, 3)) * shares).sum(0)
    # a variance does not depend on the mean that it is taken around, except by rounding
    return mean, (((moved(x) - spread(mean.detach())) ** 2).mean(dim=(2, 3)) * shares).sum(0)


def spread(values):
    return values[:, None, None]


def dropout(layer, x, shard):
    """Drop by the numbers that the shard's generator draws in skcnn's order of axes."""
    if not layer.rate or shard.running is not None:
        return x
    n_images, channels, rows, columns = x.shape
    drawn = shard.random.random((rows, channels, columns, n_images)).transpose(3, 1, 0, 2)
    return x * torch.tensor(drawn >= layer.rate) / (1 - layer.rate)


def max_pool(layer, x, shard):
    size, stride, around = windows(layer, x)
    return F.max_pool2d(F.pad(x, around, value=-torch.inf), size, stride)


def avg_pool(layer, x, shard):
    size, stride, around = windows(layer, x)
    left, right, top, bottom = around
    if (left, top) == (right, bottom) and 2 * left <= size[1] and 2 * top <= size[0]:
        return F.avg_pool2d(x, size, stride, (top, left), count_include_pad=False)
    seen = F.avg_pool2d(F.pad(torch.ones_like(x), around), size, stride)
    return F.avg_pool2d(F.pad(x, around), size, stride) / seen


def windows(layer, x):
    """Return size and stride of a pooling, as pairs, and padding for `F.pad`."""
    stride = pair(layer.pool_size if layer.stride is None else layer.stride)
    size = tuple(min(k, n) for k, n in zip(pair(layer.pool_size), x.shape[2:], strict=True))
    padding = layer.padding
    if not isinstance(padding, str):
        padding = tuple(min(p, k - 1) for p, k in zip(pair(padding), size, strict=True))
    return size, stride, pads(padding, size)


def residual(layer, x, shard):
    return activate(layer.activation, x + run(layer.layers, x, shard))


TRANSLATION = {
    L.Activation: lambda layer, x, shard: activate(layer.activation, x),
    L.AvgPool: avg_pool,
    L.BatchNorm: batch_norm,
    L.Conv: conv,
    L.Dense: dense,
    L.Dropout: dropout,
    L.GlobalAvgPool: lambda layer, x, shard: F.adaptive_avg_pool2d(x, 1),
    L.GlobalMaxPool: lambda layer, x, shard: F.adaptive_max_pool2d(x, 1),
    L.MaxPool: max_pool,
    L.Residual: residual,
}


def run(layers, x, shard):
    """Return what the layers make of a shard's maps."""
    for layer in layers:
        x = shard.moved(TRANSLATION[type(layer)](layer, x, shard))
    return x


def mean_loss(loss, logits, y, weights):
    """Return weighted means of a loss, in the units of its outputs and in those of y."""
    y = torch.as_tensor(np.asarray(y))
    smoothing = getattr(loss, "label_smoothing", 0.0)
    if isinstance(loss, losses.CategoricalCrossEntropy):
        each = F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
    else:
        y = y.reshape(logits.shape).double()
        each = element_losses(loss, logits, y, smoothing)
    each = (each.reshape(len(y), -1) * weights[:, None]).sum(dim=0) / weights.sum()
    units = torch.tensor(np.broadcast_to(loss.units, each.shape).copy())
    return (each / units).sum(), each.sum()


def element_losses(loss, predicted, y, smoothing):
    """Return the losses of single outputs by torch's functions."""
    if isinstance(loss, losses.BinaryCrossEntropy | losses.MultilabelCrossEntropy):
        y = y * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(predicted, y, reduction="none")
    scale, center = torch.tensor(loss.scale), torch.tensor(loss.center)
    if isinstance(loss, losses.PoissonLoss):
        log_rate = predicted + scale.log()
        return F.poisson_nll_loss(log_rate, y, log_input=True, reduction="none")
    predicted = predicted * scale + center
    if isinstance(loss, losses.HuberLoss):
        return F.huber_loss(predicted, y, reduction="none", delta=loss.delta)
    if isinstance(loss, losses.AbsoluteError):
        return F.l1_loss(predicted, y, reduction="none")
    return F.mse_loss(predicted, y, reduction="none") / 2


class Twin:
    """The network of a fitted estimator in torch, to be trained by the same steps.

    Takes over weights, standardization, seed, number of steps and the cut into shards; whatever the
    optimizer remembers begins anew.
    """

    def __init__(self, estimator):
        self.estimator = estimator
        self.coefs, self.intercepts = (
            [torch.tensor(array, requires_grad=True) for array in arrays]
            for arrays in (estimator.coefs_, estimator.intercepts_)
        )
        output = L.Dense(self.intercepts[-1].numel(), activation="identity")
        self.layers = (*estimator.layers, output)
        self.optimizer = torch_optimizer(estimator, self.coefs, self.intercepts)
        self.n_steps = estimator._progress.n_steps

    def epoch(self, X, y, weights):
        """Train on each batch once, in the order given, and return the mean loss.

        X has shape (n_images, rows, columns, channels), y is as the loss has targets.
        """
        x = (X - self.estimator._model.center) / self.estimator._model.scale
        x, shares = torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(weights)
        size = self.estimator.batch_size
        size = len(x) if size == "auto" else size
        total = 0.0
        for start in range(0, len(x), size):
            self.n_steps += 1
            batch = slice(start, start + size)
            if shares[batch].sum() > 0:
                loss = self._step(x[batch], y[batch], shares[batch])
                total += loss * float(shares[batch].sum())
        return total / weights.sum()

    def _step(self, x, y, shares):
        """Update the weights once, and return the loss of a batch before."""
        penalty = sum((coef**2).sum() for coef in self.coefs)
        penalty = self.estimator.alpha / 2 * penalty / shares.sum()
        loss = self.estimator._loss
        objective, in_units = mean_loss(loss, self._logits(x, shares), y, shares)
        self.optimizer.zero_grad()
        (objective + penalty).backward()
        if self.estimator.clip_norm is not None:
            clip(self.coefs + self.intercepts, self.estimator.clip_norm)
        self.optimizer.step()
        return (in_units + penalty * loss.units.mean()).item()

    def _logits(self, x, shares):
        logits = []
        map_size = self.estimator._model.network.map_size
        for number, part in enumerate(shard_slices(len(x), map_size)):
            seed = self.estimator._progress.seed, self.n_steps, number
            weights = zip(self.coefs, self.intercepts, strict=True)
            random = np.random.Generator(np.random.SFC64(seed))
            shard = Shard(weights, shares[part], random)
            logits.append(run(self.layers, x[part], shard).flatten(1))
            assert not list(weights), "all weights are used"
        return torch.cat(logits)


def torch_optimizer(estimator, coefs, intercepts):
    """Return torch's optimizer for the parameters of an estimator."""
    rate, epsilon = estimator.learning_rate_init, estimator.epsilon
    moments = {"betas": (estimator.beta_1, estimator.beta_2), "eps": epsilon}
    if estimator.solver == "sgd":
        nesterov = estimator.nesterovs_momentum and estimator.momentum > 0
        how = {"lr": rate, "momentum": estimator.momentum, "nesterov": nesterov}
        return torch.optim.SGD(coefs + intercepts, **how)
    if estimator.solver == "rmsprop":
        return torch.optim.RMSprop(coefs + intercepts, lr=rate, eps=epsilon)
    if estimator.solver == "adamw":
        decays = ((coefs, estimator.weight_decay), (intercepts, 0))
        groups = [{"params": arrays, "weight_decay": decay} for arrays, decay in decays]
        return torch.optim.AdamW(groups, lr=rate, **moments)
    adam = torch.optim.Adam(coefs + intercepts, lr=rate, **moments)
    adam.register_step_pre_hook(lambda *_: mlp_epsilon(adam, estimator))
    return adam


def mlp_epsilon(adam, estimator):
    """Set epsilon for the next step: MLPClassifier adds it to the root before correcting that."""
    (group,) = adam.param_groups
    state = adam.state[group["params"][0]]
    n_steps = float(state["step"]) + 1 if state else 1
    group["eps"] = estimator.epsilon / np.sqrt(1 - estimator.beta_2**n_steps)


def clip(arrays, limit):
    """Scale gradients to a norm of at most `limit`; torch's own adds 1e-6 to the norm."""
    norm = torch.sqrt(sum((array.grad**2).sum() for array in arrays))
    for array in arrays:
        array.grad *= min(1, limit / norm)


def classifier(layers, **params):
    return CNNClassifier(layers, **(FIXED | PLAIN | params))


def regressor(layers, **params):
    return CNNRegressor(layers, **(FIXED | PLAIN | params))


def train(estimator, X, y, weights, by_fit=False):
    """Train for one epoch."""
    if by_fit:
        return estimator.set_params(max_iter=1).fit(X, y, sample_weight=weights)
    first = isinstance(estimator, CNNClassifier) and not hasattr(estimator, "_progress")
    classes = {"classes": range(y.shape[1]) if y.ndim > 1 else np.unique(y)} if first else {}
    return estimator.partial_fit(X, y, sample_weight=weights, **classes)


def start(estimator, X, y, weights=None, by_fit=False):
    """Make the weights: random ones, intercepts too, and no step taken that is remembered."""
    train(estimator, X, y, weights, by_fit)
    rng = np.random.default_rng(1)
    for array in estimator.coefs_ + estimator.intercepts_:
        own = rng.normal(size=array.shape)
        array[...] = own * 0.5 if array.ndim == 1 else own / np.sqrt(array[0].size)
    progress = estimator._progress
    progress.optimizer = make_optimizer(
        estimator, progress.weights, estimator._model.network.n_coefs
    )


def step_equals_torch(
    estimator, X, y, weights=None, *, codes=None, class_shares=1.0, by_fit=False, n_epochs=1
):
    """Check that epochs, of one batch unless `batch_size` is set, equal those of torch.

    `codes` are y as losses take it, `class_shares` multiply the samples' weights.
    """
    start(estimator, X, y, weights, by_fit)
    twin = Twin(estimator)
    before = [array.copy() for array in estimator.coefs_]
    shares = np.ones(len(X)) if weights is None else weights
    for _ in range(n_epochs):
        train(estimator, X, y, weights, by_fit)
        loss = twin.epoch(X, y if codes is None else codes, shares * class_shares)
        assert estimator.loss_curve_[-1] == pytest.approx(loss, rel=1e-10)
    for ours, theirs in zip(
        estimator.coefs_ + estimator.intercepts_, twin.coefs + twin.intercepts, strict=True
    ):
        assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-10)
    for old, new in zip(before, estimator.coefs_, strict=True):
        assert np.abs(new - old).max() > 1e-5, "each layer learns"
