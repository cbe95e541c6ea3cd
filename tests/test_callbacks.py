"""scikit-learn's callbacks: bars, scores of epochs, a stop that is honoured."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV

from skcnn import CNNClassifier, CNNRegressor
from skcnn.layers import Conv, Dense, MaxPool

callback = pytest.importorskip("sklearn.callback")
X, Y = (part[:200] for part in load_digits(return_X_y=True))
CLF = CNNClassifier(
    (Conv(4), MaxPool(), Dense(16)), max_iter=5, learning_rate_init=0.01, random_state=0
)


class Recorder:
    """Keeps what it is told; asks to stop after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.tasks = []
        self.scores = []

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def on_fit_task_begin(self, estimator, context, *, X, y):
        self.tasks.append(("begin", context.task_name, context.task_id, len(X), y[0]))

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.tasks.append(("end", context.task_name, context.task_id))
        if context.task_name == "epoch":
            self.scores.append(accuracy_score(y, fitted_estimator.predict(X)))
            return self.stop_after is not None and len(self.scores) >= self.stop_after
        return False

    def teardown(self, estimator, context):
        self.tasks.append("teardown")


def test_epochs_are_told():
    recorder = Recorder()
    clf = clone(CLF).set_callbacks(recorder).fit(X, Y)
    assert recorder.tasks[:2] == ["setup", ("begin", "fit", 0, 200, Y[0])]
    assert [task for task in recorder.tasks if task[:2] == ("end", "epoch")] == [
        ("end", "epoch", i) for i in range(5)
    ]
    assert recorder.tasks[-2:] == [("end", "fit", 0), "teardown"]
    assert recorder.scores[-1] == clf.score(X, Y)
    assert_array_equal(clone(CLF).fit(X, Y)._model.weights, clf._model.weights)
    steps = clone(CLF)
    for score in recorder.scores:  # the fitted estimator of each epoch is that of the epoch
        steps.partial_fit(X, Y, classes=np.arange(10))
        assert steps.score(X, Y) == score


def test_a_stop_is_honoured():
    clf = clone(CLF).set_callbacks(Recorder(stop_after=2)).fit(X, Y)
    assert clf.n_iter_ == 2


def test_a_regressor_with_a_stop():
    class Stop(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            return context.task_name == "epoch"

    reg = CNNRegressor((Dense(4),), max_iter=5, random_state=0).set_callbacks(Stop())
    assert reg.fit(X, Y).n_iter_ == 1


def test_scoring_monitor():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = clone(CLF).set_callbacks(monitor).fit(X, Y)
    epochs = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(epochs) == 5
    assert epochs[-1] == clf.score(X, Y)
    assert epochs[0] < epochs[-1]


def test_progress_bar_outside_and_monitor_inside_a_search():
    pytest.importorskip("rich")
    inner = clone(CLF).set_callbacks(callback.ScoringMonitor(scoring="accuracy"))
    grid = {
        "layers": [CLF.layers, (Conv(8), MaxPool())],
        "learning_rate_init": [1e-3, 1e-2],
        "augment": [None, {"shift": 1}],
    }
    search = GridSearchCV(inner, grid, cv=2, n_jobs=2)
    search.set_callbacks(callback.ProgressBar())
    with redirect_stdout(io.StringIO()):
        search.fit(X, Y)
    plain = GridSearchCV(clone(CLF), search.param_grid, cv=2).fit(X, Y)
    assert_allclose(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


def test_teardown_after_errors():
    recorder = Recorder()
    with pytest.raises(ValueError, match="non-finite"):
        clone(CLF).set_params(learning_rate_init=1e30).set_callbacks(recorder).fit(np.float32(X), Y)
    assert recorder.tasks[-1] == "teardown"
