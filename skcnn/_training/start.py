"""The start of a training: from an estimator's parameters and samples to a model and a `Session`."""

import copy
from dataclasses import replace

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
    """Return the network at its beginning; `progress` gets its weights."""
    network = build_network(estimator.layers, samples.image_shape, samples.targets.n_outputs)
    random_state = check_random_state(estimator.random_state)
    weights = network.initial_weights(random_state, samples.weights.dtype)
    samples.targets.loss.begin(samples.targets.values, samples.train_weights())
    progress.weights = weights
    progress.random_state = copy.deepcopy(random_state)  # the user's own must not go on
    return Model(network, weights, *samples.statistics(estimator.standardize))


def resume_model(estimator):
    """Return the model of a fitted estimator, with its layers as they are now."""
    before = estimator._model.network
    network = build_network(estimator.layers, before.image_shape, before.output_shape[2])
    if list(filter(None, network.places)) != list(filter(None, before.places)):
        raise ValueError(
            "layers must have weights of the same shapes as in the previous fit when training "
            "goes on (warm_start or partial_fit)."
        )
    return replace(estimator._model, network=network)


def _continue(estimator, progress, model, n_batches):
    """Have the optimizer and the schedule that an estimator's parameters mean go on from before."""
    optimizer = make_optimizer(estimator, progress.weights, model.network.n_coefs)
    if optimizer is not None and progress.optimizer is not None:
        optimizer.go_on_from(progress.optimizer)
    progress.optimizer = optimizer
    schedule = make_schedule(estimator, n_batches * estimator.max_iter)
    if type(schedule) is type(progress.schedule):
        progress.schedule.rate_init = schedule.rate_init
    else:
        schedule.first_step = progress.n_steps
        progress.schedule = schedule


def open_session(estimator, samples, model, progress, n_epochs, *, in_pieces):
    """Return what `train` needs: task, progress, limits and listeners."""
    size = batch_size(estimator, len(samples.train_index))
    _continue(estimator, progress, model, -(-len(samples.train_index) // size))
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
        batch_size=size,
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
