"""The start of a training: from an estimator's parameters and samples to a model and a `Session`."""

import copy

from sklearn.utils import check_random_state

from skcnn._model.model import Model
from skcnn._model.network import build_network
from skcnn._training.callbacks import Observer
from skcnn._training.reports import make_report
from skcnn._training.session import Session
from skcnn._training.settings import batch_size, make_limits, make_optimizer, make_schedule
from skcnn._training.steps import Task
from skcnn._training.validation import Validation


def begin_model(estimator, samples, progress):
    """Return the network at its beginning; `progress` gets weights and schedule."""
    size = batch_size(estimator, len(samples.train_index))
    n_batches = -(-len(samples.train_index) // size)
    progress.schedule = make_schedule(estimator, n_batches * estimator.max_iter)
    network = build_network(estimator.layers, samples.image_shape, samples.targets.n_outputs)
    random_state = check_random_state(estimator.random_state)
    weights = network.initial_weights(random_state, samples.weights.dtype)
    samples.targets.loss.begin(samples.targets.values, samples.train_weights())
    progress.weights = weights
    progress.random_state = copy.deepcopy(random_state)  # the user's own must not go on
    return Model(network, weights, *samples.statistics(estimator.standardize))


def resume_model(estimator):
    """Return the model of a fitted estimator; an error if `layers` no longer describe it."""
    network = estimator._model.network
    shapes = network.image_shape, network.output_shape[2]
    if build_network(estimator.layers, *shapes).places != network.places:
        raise ValueError(
            "layers must have weights of the same shapes as in the previous fit when training "
            "goes on (warm_start or partial_fit)."
        )
    return estimator._model


def open_session(estimator, samples, model, progress, n_epochs, *, in_pieces):
    """Return what `train` needs: task, progress, limits and listeners."""
    progress.schedule.rate_init = float(estimator.learning_rate_init)
    if progress.optimizer is None:  # at the beginning, and after `drop_optimizer`
        n_coefs = model.network.n_coefs
        progress.optimizer = make_optimizer(estimator, progress.weights, n_coefs)
    attributes = samples.targets.attributes | {"image_shape_": samples.image_shape}
    attributes |= samples.features | {"_model": model, "_progress": progress}
    dtype, held_out = progress.weights.dtype, samples.held_out
    task = Task(
        network=model.network,
        loss=samples.targets.loss,
        images=model.images(samples.X, dtype),
        train_index=samples.train_index,
        targets=samples.targets.loss.encode(samples.targets.values, dtype),
        sample_weight=samples.loss_weights(),
        alpha=estimator.alpha,
        batch_size=batch_size(estimator, len(samples.train_index)),
        shuffle=estimator.shuffle,
        clip_norm=estimator.clip_norm,
        augment=samples.augmentation,
        seed=progress.seed,
    )
    validation = None
    if held_out is not None:
        validation = Validation(held_out, estimator, attributes)
        task.held_out = model.images(held_out.X, dtype)
        task.held_out_index = held_out.index
    observer = Observer(estimator, samples.given, attributes, n_epochs)
    report = make_report(estimator.verbose, n_epochs)
    validates = validation is not None
    limits = make_limits(estimator, n_epochs, validates=validates, in_pieces=in_pieces)
    return Session(task, progress, limits, validation, report, observer)
