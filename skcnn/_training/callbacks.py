"""Callbacks of scikit-learn (`sklearn.callback`, from 1.9 on): a task for each epoch."""

import copy


class CallbackSupportMixin:
    """scikit-learn's mixin of this name, imported when it is used: it takes long, and is new in 1.9."""

    def set_callbacks(self, *callbacks):
        """Set the callbacks that `fit` calls at the start and the end of each epoch.

        Parameters
        ----------
        *callbacks : callback instances
            As `sklearn.callback` has them.

        Returns
        -------
        self : estimator instance

        Raises
        ------
        ImportError
            If scikit-learn is older than 1.9.
        """
        from sklearn.callback import CallbackSupportMixin as Support

        return Support.set_callbacks(self, *callbacks)

    def _init_callback_context(self, **kwargs):
        from sklearn.callback import CallbackSupportMixin as Support

        return Support._init_callback_context(self, **kwargs)


class Observer:
    """Calls an estimator's callbacks at the start and the end of each epoch.

    Parameters
    ----------
    estimator : CNNClassifier or CNNRegressor
    given : (X, y, sample_weight)
        As the user gave them to `fit`.
    attributes : dict
        Fitted attributes, among them ``_progress``, whose weights the epochs change.
    max_iter : int
    """

    def __init__(self, estimator, given, attributes, max_iter):
        X, y, sample_weight = given
        self._attributes = attributes
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = self._epoch = None
        if vars(estimator).keys() & {"_skl_callbacks", "_parent_callback_ctx"}:
            self._fit = estimator._init_callback_context(max_subtasks=max_iter)
            self._fit.call_on_fit_task_begin(**self._arguments)

    @property
    def is_active(self):
        """Whether there are callbacks."""
        return self._fit is not None

    def fitted_attributes(self):
        """Return the attributes that make the estimator predict as after the last epoch."""
        progress = self._attributes["_progress"]
        model = self._attributes["_model"].with_weights(progress.chosen_weights)
        return self._attributes | {"_model": model}

    def _fitted(self):
        """Return the same, apart from the progress that goes on."""
        attributes = self.fitted_attributes()
        return attributes | {"_progress": copy.copy(attributes["_progress"])}

    def begin_epoch(self):
        """Report that an epoch begins."""
        if self._fit is not None:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(
                **self._arguments, reconstruction_attributes=self._fitted
            )

    def end_epoch(self):
        """Report that an epoch has ended, and return whether a callback wants training to stop."""
        if self._fit is None:
            return False
        return self._epoch.call_on_fit_task_end(
            **self._arguments, reconstruction_attributes=self._fitted
        )

    def end(self):
        """Report that the fit has ended."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(
                **self._arguments, reconstruction_attributes=self._fitted
            )
