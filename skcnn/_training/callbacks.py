"""Callbacks of scikit-learn (`sklearn.callback`, from 1.9 on): a task for each epoch."""

import copy

from skcnn._data.images import check_features


class CallbackSupportMixin:
    """scikit-learn's mixin of this name, imported when it is used: it takes long, and is new in 1.9."""

    def set_callbacks(self, *callbacks):
        """Set the callbacks that `fit` tells of each epoch.

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


NAMES = ("n_features_in_", "feature_names_in_")


class Observer:
    """Calls an estimator's callbacks at the start and the end of each epoch.

    Parameters
    ----------
    estimator : CNNClassifier or CNNRegressor
    data : (X, y, sample_weight)
        As `fit` was given them.
    checked : ndarray of shape (n_images, n_features)
        X, checked.
    attributes : dict
        Fitted attributes, among them ``_progress``, whose weights the epochs change.
    max_iter : int
    """

    def __init__(self, estimator, data, checked, attributes, max_iter):
        X, y, sample_weight = data
        self.attributes = attributes
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = self._epoch = None
        if vars(estimator).keys() & {"_skl_callbacks", "_parent_callback_ctx"}:
            named = copy.copy(estimator)
            check_features(named, X, checked, reset=True)
            self._names = {n: vars(named)[n] for n in NAMES if n in vars(named)}
            self._fit = estimator._init_callback_context(max_subtasks=max_iter)
            self._fit.call_on_fit_task_begin(**self._arguments)

    def _fitted(self):
        """Return the attributes that make a copy of the estimator predict as after this epoch."""
        progress = copy.copy(self.attributes["_progress"])
        model = self.attributes["_model"].with_weights(progress.chosen_weights)
        return self.attributes | self._names | {"_progress": progress, "_model": model}

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
