"""Training: epochs, steps, optimizers, schedules, validation, reports and callbacks.

What comes in is a `Session`: a task (network, loss, images, targets), the progress to go on from,
and limits. What goes out is the same progress, further on. ``loop.train`` is the place to begin to
read; `steps` computes one update of the weights. This folder must not know where the images came
from or which estimator asked; only `settings` reads an estimator's parameters.
"""
