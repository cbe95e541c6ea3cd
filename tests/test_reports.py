"""What training tells: lines, a bar, nothing."""

import builtins

import numpy as np
import pytest

from skcnn import CNNClassifier
from skcnn.layers import Conv

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(40, 4, 4)), np.arange(40) % 2


def fit(**params):
    return CNNClassifier((Conv(2),), max_iter=3, random_state=0, **params).fit(X, Y)


def test_lines(capsys):
    clf = fit(verbose=1, early_stopping=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::2] == [
        f"Iteration {k}, loss = {v:.8f}" for k, v in enumerate(clf.loss_curve_, 1)
    ]
    assert lines[1::2] == [f"Validation score: {score:f}" for score in clf.validation_scores_]


def test_bar(capsys):
    pytest.importorskip("rich")
    clf = fit(verbose=2)
    told = capsys.readouterr().out
    assert "3/3" in told
    assert f"loss {clf.loss_:.4f}" in told
    assert "Iteration" not in told
    assert "validation" not in told
    clf = fit(verbose=2, early_stopping=True, validation_fraction=0.3)
    assert f"validation score {clf.validation_scores_[-1]:.4f}" in capsys.readouterr().out


def test_a_bar_ends_where_training_does(capsys):
    pytest.importorskip("rich")
    clf = CNNClassifier((Conv(2),), verbose=2, max_iter=50, tol=1e9, n_iter_no_change=1).fit(X, Y)
    assert f"{clf.n_iter_}/{clf.n_iter_}" in capsys.readouterr().out


def test_without_rich_there_are_lines(capsys, monkeypatch):
    real = builtins.__import__

    def no_rich(name, *args, **kwargs):
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_rich)
    fit(verbose=2)
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")


def test_silence(capsys):
    fit()
    fit(verbose=0)
    assert capsys.readouterr().out == ""


def test_a_bar_is_closed_after_an_error(capsys):
    """Otherwise the next bar could not be shown: rich allows one at a time."""
    pytest.importorskip("rich")
    with pytest.raises(ValueError, match="non-finite"), np.errstate(all="ignore"):
        CNNClassifier((Conv(2),), solver="sgd", learning_rate_init=1e30, verbose=2).fit(X, Y)
    fit(verbose=2)
    assert "3/3" in capsys.readouterr().out
