"""What the parameters of an estimator mean for its training: solver, schedule, batch size, limits."""

from skcnn._data.images import check_image_shape
from skcnn._model.network import check_layers, flat_steps
from skcnn._training.optimizers import SGD, Adam, AdamW, RMSprop
from skcnn._training.schedules import Adaptive, Constant, Cosine, InvScaling, OneCycle
from skcnn._training.session import Limits
from skcnn._training.validation import check_scoring
from skcnn._workers.blas import check_n_jobs
from skcnn.layers import Dense, Dropout

SOLVERS = {"adam", "adamw", "sgd", "rmsprop", "lbfgs"}
SCHEDULES = {"constant", "invscaling", "adaptive", "cosine", "onecycle"}
BATCH_SIZE = 200  # as in MLPClassifier


def has_partial_fit(estimator):
    """Raise an `AttributeError`, which hides `partial_fit`, if the solver takes no mini-batches."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit must have a stochastic solver, such as 'adam'. Got solver='lbfgs' instead."
        )
    return True


def check_settings(estimator):
    """Raise an error that names the first parameter that cannot be used."""
    check_layers(estimator.layers)
    check_solver(estimator)
    check_image_shape(estimator.image_shape)
    check_n_jobs(estimator.n_jobs)
    if estimator.scoring is not None:
        check_scoring(estimator, estimator.scoring)


def check_solver(estimator):
    """Raise a `ValueError` if something random would change the loss that L-BFGS minimises."""
    if estimator.solver != "lbfgs":
        return
    if estimator.augment is not None:
        raise ValueError(
            "augment must be None with solver='lbfgs', which needs the same images in each "
            f"iteration. Got {estimator.augment!r} instead: choose another solver."
        )
    for index, layer in enumerate(estimator.layers):
        if any(isinstance(step, Dropout) for step in flat_steps([layer])):
            raise ValueError(
                "layers must hold no Dropout with solver='lbfgs', which needs the same loss in "
                f"each iteration. Got layers[{index}]={layer!r} instead: choose another solver."
            )


def read_layers(layers, targets):
    """Return warnings of a last layer that looks like an output layer, which users never write."""
    classes = targets.attributes.get("classes_", ())
    if not layers or type(layers[-1]) is not Dense:
        return []
    units = layers[-1].units
    if units not in (targets.n_outputs, len(classes)):
        return []
    return [
        f"layers[-1], Dense({units}), has as many units as there are outputs, and was read as a hidden "
        "layer. An output layer follows from y, so that you never write it: leave this one out."
    ]


def make_optimizer(estimator, vector, n_coefs):
    """Return a new optimizer of the vector of weights; None for L-BFGS, which is SciPy's."""
    if estimator.solver == "lbfgs":
        return None
    if estimator.solver == "sgd":
        return SGD(vector, estimator.momentum, estimator.nesterovs_momentum)
    if estimator.solver == "rmsprop":
        return RMSprop(vector, epsilon=estimator.epsilon)
    moments = estimator.beta_1, estimator.beta_2, estimator.epsilon
    if estimator.solver == "adamw":
        return AdamW(vector, n_coefs, estimator.weight_decay, *moments)
    return Adam(vector, *moments)


def make_schedule(estimator, n_steps):
    """Return a new schedule of the learning rate, over so many steps."""
    name, rate, warmup = estimator.learning_rate, estimator.learning_rate_init, estimator.warmup
    if name == "invscaling":
        return InvScaling(rate, estimator.power_t)
    if name == "adaptive":
        return Adaptive(rate)
    if name == "cosine":
        return Cosine(rate, n_steps, warmup=warmup or 0.0)
    if name == "onecycle":
        return OneCycle(rate, n_steps, warmup=0.3 if warmup is None else warmup)
    return Constant(rate)


def batch_size(estimator, n_images):
    """Return the number of images in a mini-batch of so many."""
    size = BATCH_SIZE if estimator.batch_size == "auto" else estimator.batch_size
    return min(size, n_images)


def make_limits(estimator, n_epochs, *, validates, in_pieces):
    """Return when a training of at most so many epochs ends."""
    return Limits(
        n_epochs,
        estimator.tol,
        estimator.n_iter_no_change,
        estimator.max_seconds,
        estimator.early_stopping and validates,
        estimator.scoring is not None,
        in_pieces,
    )
