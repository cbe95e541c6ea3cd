"""Learning rate schedules: the rate of each step, and whether a stalled loss ends training.

A schedule holds plain numbers only, so that it can be pickled and training can continue from it.
"""

import math

# `Adaptive` ends training instead of dividing a rate this small, as MLPClassifier does.
SMALLEST_RATE = 1e-6


class Constant:
    """A constant learning rate, and the protocol of all schedules.

    Parameters
    ----------
    rate_init : float
        The learning rate; may be changed while training goes on.
    """

    first_step = 0  # of all steps of training, from which this schedule counts
    runs_its_length = False  # whether training runs to the last epoch even if the loss stalls

    def __init__(self, rate_init):
        self.rate_init = float(rate_init)

    def rate(self, step, n_samples_seen):
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of steps taken before this one under this schedule.

        n_samples_seen : int
            Number of samples seen up to the end of the last epoch.

        Returns
        -------
        rate : float
        """
        return self.rate_init

    def end_epoch(self, loss_stalled):
        """Record the end of an epoch, and return whether training should stop.

        Parameters
        ----------
        loss_stalled : bool
            Whether the loss has failed to improve for more than `n_iter_no_change` epochs.

        Returns
        -------
        stop : bool
        """
        return loss_stalled


class InvScaling(Constant):
    """The rate falls after each epoch with a power of the samples seen, as in MLPClassifier.

    Parameters
    ----------
    rate_init : float
        The rate of the first epoch.

    power_t : float, default=0.5
        The rate is ``rate_init / (n_samples_seen + 1)**power_t``.
    """

    def __init__(self, rate_init, power_t=0.5):
        super().__init__(rate_init)
        self.power_t = float(power_t)

    def rate(self, step, n_samples_seen):
        """Return the learning rate of a step."""
        return self.rate_init / (n_samples_seen + 1) ** self.power_t


class Adaptive(Constant):
    """The rate is divided by 5 each time the loss stalls, as in MLPClassifier.

    Training stops when the loss stalls at a rate of 1e-6 or less.

    Parameters
    ----------
    rate_init : float
        The rate until the loss first stalls.
    """

    def __init__(self, rate_init):
        super().__init__(rate_init)
        self.n_divisions = 0

    def rate(self, step, n_samples_seen):
        """Return the learning rate of a step."""
        rate = self.rate_init
        for _ in range(self.n_divisions):
            rate /= 5
        return rate

    def end_epoch(self, loss_stalled):
        """Record the end of an epoch, and return whether training should stop."""
        if not loss_stalled:
            return False
        if self.rate(0, 0) <= SMALLEST_RATE:
            return True
        self.n_divisions += 1
        return False


class Cosine(Constant):
    """The rate falls to 0 along half a cosine (Loshchilov and Hutter, 2017), after a warm-up.

    A stalled loss does not stop training. After `n_steps` steps the rate stays at its last value.

    Parameters
    ----------
    rate_init : float
        The largest rate.

    n_steps : int
        Number of steps until the rate is 0.

    warmup : float, default=0.0
        Share of the steps, rounded to whole steps, in which the rate rises linearly to `rate_init`
        (Goyal et al., 2017). The rate of the first step is above 0.
    """

    runs_its_length = True

    def __init__(self, rate_init, n_steps, warmup=0.0):
        super().__init__(rate_init)
        self.n_steps = int(n_steps)
        self.n_warm = round(warmup * n_steps)

    def rate(self, step, n_samples_seen):
        """Return the learning rate of a step."""
        if step < self.n_warm:
            return self.rate_init * ((step + 1) / self.n_warm)
        return _anneal(self.rate_init, 0.0, step, self.n_warm, self.n_steps)

    def end_epoch(self, loss_stalled):
        """Return False: a stalled loss does not stop training."""
        return False


class OneCycle(Constant):
    """The rate rises and then falls along half cosines (Smith and Topin, 2019).

    The rates are those of torch.optim.lr_scheduler.OneCycleLR; the momentum does not change. A
    stalled loss does not stop training. After the cycle the rate stays at its last value.

    Parameters
    ----------
    rate_init : float
        The largest rate.

    n_steps : int
        Number of steps of the cycle.

    warmup : float, default=0.3
        Share of the steps in which the rate rises. A cycle of one step has the largest rate.

    div : float, default=25.0
        The first rate is ``rate_init / div``.

    final_div : float, default=1e4
        The last rate is ``rate_init / (div * final_div)``.
    """

    runs_its_length = True

    def __init__(self, rate_init, n_steps, warmup=0.3, div=25.0, final_div=1e4):
        super().__init__(rate_init)
        self.div = float(div)
        self.final_div = float(final_div)
        self.peak = max(float(warmup * n_steps) - 1, 0.0)
        self.last_step = int(n_steps) - 1

    def rate(self, step, n_samples_seen):
        """Return the learning rate of a step."""
        first_rate = self.rate_init / self.div
        if step < self.peak:
            return _anneal(first_rate, self.rate_init, step, 0, self.peak)
        last_rate = first_rate / self.final_div
        return _anneal(self.rate_init, last_rate, step, self.peak, self.last_step)

    def end_epoch(self, loss_stalled):
        """Return False: a stalled loss does not stop training."""
        return False


def _anneal(first_rate, last_rate, step, start, stop):
    """Return the rate on a half cosine from step `start` to step `stop`, constant after that."""
    share = min((step - start) / (stop - start), 1) if stop > start else 0
    return last_rate + (first_rate - last_rate) * (1 + math.cos(math.pi * share)) / 2
