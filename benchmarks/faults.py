"""Interrupts, killed processes and user code that fails: what is left, and what the user sees.

    python benchmarks/faults.py                         # everything, in about ten minutes
    python benchmarks/faults.py --only killed code      # some checks: names of CHECKS below
    python benchmarks/faults.py --points 1000 --seed 1 --only interrupts

Fits use worker processes here however short they are. Prints a line for each check, and the first
failures in full; the exit status is 1 if there are any. Needs Linux, and for callbacks scikit-learn
1.9.
"""

import argparse
import asyncio
import copy
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import numpy as np
from threadpoolctl import ThreadpoolController

from skcnn import CNNClassifier, ConvFeatureExtractor, stop_workers
from skcnn._model import shards
from skcnn._workers import pool as pools
from skcnn._workers import processes
from skcnn.layers import Conv, Dense, Layer, MaxPool

X, Y = np.random.default_rng(0).normal(size=(256, 12, 12)), np.arange(256) % 3
LAYERS = (Conv(4), MaxPool(), Dense(8))
BLAS = ThreadpoolController().select(user_api="blas")
LONGEST = 120  # seconds that a call may take before it is taken to hang


def use_processes():
    """Have every fit with two workers use processes, and cut every batch into shards."""
    pools.WORKER_FLOPS = pools.START_FLOPS = -1
    shards.WORTHWHILE_SIZE = 1
    warnings.simplefilter("ignore")


def classifier(layers=LAYERS, **params):
    params = {"max_iter": 3, "batch_size": 64, "random_state": 0} | params
    return CNNClassifier(layers, **params)


def wait_for_workers(*_):
    """Start the worker process that two jobs need, and wait until it can take part."""
    with pools.open_pool(2) as pool:
        pool.start(wait_for_workers)
        while not all(worker.takes_part(pool._pickled) for worker in pool._workers):
            time.sleep(0.002)


def outputs(estimator):
    is_extractor = isinstance(estimator, ConvFeatureExtractor)
    return estimator.transform(X) if is_extractor else estimator.predict_proba(X)


def is_untouched(estimator, before):
    now = vars(estimator)
    return now.keys() == before.keys() and all(now[name] is before[name] for name in now)


def soon(condition, seconds):
    """Wait until a condition holds, and return whether it does within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return condition()


def settings():
    """Return the numbers of threads of BLAS and the size of NumPy's buffer."""
    return [library.num_threads for library in BLAS.lib_controllers], np.getbufsize()


def children():
    """Return the ids of this process's children, those that have ended aside."""
    multiprocessing.active_children()  # which takes note of their ends
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile
            found.update(map(int, (task / "children").read_text().split()))
    return found


def workers():
    return {worker._process.pid for worker in processes._workers}


def folders(pid=None):
    return list(Path("/dev/shm").glob(f"skcnn-{pid or os.getpid()}-*"))


def descriptors():
    """Return the open descriptors and what they are."""
    links = Path("/proc/self/fd").iterdir()
    return {int(link.name): os.readlink(link) for link in links if os.path.lexists(link)}


class Interrupts:
    """Interrupts calls at random points, and looks at what is left after each."""

    def __init__(self):
        fitted = {n: classifier(max_iter=1, n_jobs=n).fit(X, Y) for n in (1, 2)}
        extractors = {n: ConvFeatureExtractor("sobel", n_jobs=n).fit(X) for n in (1, 2)}
        self.estimators = {
            "fit": {n: classifier(n_jobs=n) for n in (1, 2)},
            "partial_fit": fitted,
            "predict": fitted,
            "transform": extractors,
        }
        wait_for_workers()
        stop_workers()
        self.settings, self.children, self.descriptors = settings(), children(), descriptors()

    def run(self, name, n_jobs, n_points):
        """Interrupt a call n_points times; return the number that came before its end."""
        original = self.estimators[name][n_jobs]
        expected = None if name == "fit" else outputs(original)
        seconds = 0
        for _ in range(2):  # the second time in a process that is warm
            wait_for_workers()
            start = time.perf_counter()
            self.call(copy.deepcopy(original), name)
            seconds = time.perf_counter() - start
        n_interrupts = 0
        for _ in range(n_points):
            estimator = copy.deepcopy(original)
            before = dict(vars(estimator))
            if n_jobs == 2:  # now and then the worker process starts under the interrupt
                stop_workers() if random.random() < 0.1 else wait_for_workers()
            n_interrupts += self.interrupt(estimator, name, random.uniform(1e-5, 1.1 * seconds))
            self.check_rest()
            if name in ("predict", "transform"):
                assert (outputs(estimator) == expected).all(), "other results"
            elif is_untouched(estimator, before):
                assert expected is None or (outputs(estimator) == expected).all(), "other results"
            else:
                assert np.isfinite(outputs(estimator.partial_fit(X, Y))).all(), "not usable"
        return n_interrupts

    @staticmethod
    def call(estimator, name):
        getattr(estimator, name)(*((X, Y) if name.endswith("fit") else (X,)))

    def interrupt(self, estimator, name, delay):
        """Return whether the interrupt came before the call had ended, or taken note of it."""
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                self.call(estimator, name)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            return True
        finally:
            faulthandler.cancel_dump_traceback_later()
        return name == "fit" and estimator.n_iter_ < estimator.max_iter

    def check_rest(self):
        """Raise an error if anything is left that should not be."""
        assert settings() == self.settings, (settings(), self.settings)
        assert soon(lambda: children() <= self.children | workers(), 10), "a child process is left"
        assert not folders(), folders()

    def check_end(self):
        stop_workers()
        assert soon(lambda: children() <= self.children, 10), "a worker process is left"
        gc.collect()
        left = {fd: what for fd, what in descriptors().items() if fd not in self.descriptors}
        assert len(left) <= 1, f"descriptors are left: {left}"  # one looks at the folder itself
        assert not folders(), folders()


def interrupts(arguments):
    """Interrupt each call at random points."""
    subject = Interrupts()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's `&` has it ignore
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    for name in subject.estimators:
        for n_jobs in (1, 2):
            n = subject.run(name, n_jobs, arguments.points)
            yield f"{name}, n_jobs={n_jobs}: {n} of {arguments.points} came before its end"
            subject.check_end()


def killed(arguments):
    """Kill a worker in the middle of a fit."""
    expected = outputs(classifier().fit(X, Y))
    slowest = 0
    for _ in range(arguments.kills):
        wait_for_workers()
        (pid,), killed_at = workers(), []

        def kill(pid=pid, killed_at=killed_at):
            killed_at.append(time.perf_counter())
            os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(random.uniform(0.01, 0.3), kill)
        timer.start()
        clf = classifier(n_jobs=2, max_iter=10**6, tol=0, n_iter_no_change=np.inf, max_seconds=30)
        before = dict(vars(clf))
        try:
            clf.fit(X, Y)
        except RuntimeError as error:
            assert "worker process ended unexpectedly" in str(error)
        else:
            raise AssertionError("no error")
        slowest = max(slowest, time.perf_counter() - killed_at[0])
        timer.join()
        assert slowest < 1, f"the error took {slowest:.1f} s"
        assert is_untouched(clf, before)
        assert (outputs(classifier(n_jobs=2).fit(X, Y)) == expected).all()
        assert not folders()
    stop_workers()
    yield f"{arguments.kills} workers killed: an error within {slowest:.3f} s"


def orphans(arguments):
    """Kill a program in the middle of a fit, and see its workers end."""
    slowest = 0
    for _ in range(arguments.kills):
        command = [sys.executable, __file__, "--only", "victim"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # what is cleaned up
        with subprocess.Popen(command, text=True, **pipes) as program:
            pids = program.stdout.readline().split()
            assert soon(lambda pid=program.pid: folders(pid), 30)
            time.sleep(random.uniform(0, 0.5))
            program.kill()
        start = time.monotonic()
        assert soon(lambda pids=pids: not any(Path("/proc", pid).exists() for pid in pids), 5)
        assert soon(lambda pid=program.pid: not folders(pid), 5), "shared memory is left"
        slowest = max(slowest, time.monotonic() - start)
    yield f"{arguments.kills} programs killed: workers and shared memory gone within {slowest:.3f} s"


def victim(_):
    """Print the ids of the workers, and fit for a minute."""
    wait_for_workers()
    print(*workers(), flush=True)
    clf = classifier(n_jobs=2, max_iter=10**7, tol=0, n_iter_no_change=np.inf, max_seconds=60)
    clf.fit(X, Y)
    yield "was not killed"


class TwoArguments(Exception):
    """An exception that pickle cannot make again."""

    def __init__(self, what, number):
        super().__init__(f"{what} {number}")


class NotPicklable(Exception):
    """An exception that holds a lock."""

    def __init__(self, what):
        super().__init__(what)
        self.lock = threading.Lock()


ERRORS = {
    "plain": lambda: ValueError("no good"),
    "two arguments": lambda: TwoArguments("no good", 3),
    "not picklable": lambda: NotPicklable("no good"),
}


class Fail:
    """User code that raises an exception, at once or only in worker processes."""

    def __init__(self, error, spared=None):
        self.error, self.spared = error, spared

    def fail_here(self):
        if os.getpid() != self.spared:
            raise ERRORS[self.error]()
        time.sleep(0.005)  # so that a worker takes its part

    def augment(self, images, rng):
        self.fail_here()
        return images

    def score(self, estimator, X, y):
        self.fail_here()
        return 0.0


class FailingLayer(Layer):
    """A layer that fails in one of its passes."""

    def __init__(self, fail=None, where=None):
        self.fail, self.where = fail, where

    def forward(self, x, weights, work):
        if self.where == "forward":
            self.fail.fail_here()
        return x

    def backward(self, dy, weights, grads, work):
        if self.where == "backward":
            self.fail.fail_here()
        return dy


class FailingCallback:
    """A callback of scikit-learn's that fails in one of its methods."""

    def __init__(self, fail, where):
        self.fail, self.where = fail, where

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context):
        self.tell(context, "begin")

    def on_fit_task_end(self, estimator, context):
        self.tell(context, "end")

    def tell(self, context, when):
        if (context.task_name, when) == self.where:
            self.fail.fail_here()


def failing(where, fail):
    """Return a classifier that fails, by what a user gives it."""
    if where in ("forward", "backward"):
        return classifier((Conv(4), FailingLayer(fail, where), Dense(8)))
    if where == "augment":
        return classifier(augment=fail.augment)
    if where == "scoring":
        return classifier(scoring=fail.score, early_stopping=True)
    return classifier().set_callbacks(FailingCallback(fail, where))


def code(_):
    """Have user code fail: in augment, scoring, a layer and callbacks."""
    places = ["augment", "scoring", "forward", "backward"]
    try:
        import sklearn.callback  # noqa: F401
    except ImportError:
        yield "no callbacks before scikit-learn 1.9"
    else:
        places += [(task, when) for task in ("fit", "epoch") for when in ("begin", "end")]
    counts = Counter()
    for where in places:
        for error in ERRORS:
            check_code(failing(where, Fail(error)), error, 1)
            check_code(failing(where, Fail(error)), error, 2)
            counts["in the program"] += 2
            if where in ("augment", "forward", "backward"):
                check_code(failing(where, Fail(error, spared=os.getpid())), error, 2)
                counts["only in a worker"] += 1
    stop_workers()
    assert not folders()
    yield f"{len(places)} places, failures of the user's code: {dict(counts)}"


def check_code(clf, error, n_jobs):
    """Raise an error unless a fit fails with the user's exception, and changes nothing."""
    clf.set_params(n_jobs=n_jobs)
    if n_jobs == 2:
        wait_for_workers()
    before = dict(vars(clf))
    expected = ERRORS[error]()
    try:
        clf.fit(X, Y)
    except Exception as found:
        text = "".join(traceback.format_exception(found))
        assert type(found) is type(expected), text
        assert str(found) == str(expected), text
        assert "fail_here" in text, text
    else:
        raise AssertionError("no error")
    assert is_untouched(clf, before)


def fit_somewhere(n_jobs=2):
    use_processes()
    return outputs(classifier(n_jobs=n_jobs, max_iter=10).fit(X, Y))


def send(connection, n_jobs):
    connection.send(fit_somewhere(n_jobs))


def fit_in_process(method, daemon, n_jobs):
    """Return the outputs of a fit in a child process."""
    context = multiprocessing.get_context(method)
    mine, other = context.Pipe()
    process = context.Process(target=send, args=(other, n_jobs), daemon=daemon)
    process.start()
    other.close()
    found = mine.recv() if mine.poll(LONGEST) else np.nan
    process.join(LONGEST)
    assert process.exitcode == 0, f"exit code {process.exitcode}"
    return found


def places(_):
    """Fit in processes and threads of every kind, and compare the predictions."""
    expected = fit_somewhere(1)
    fit_somewhere(2)  # so that forked children have a parent with workers
    n_fits = 0

    def check(found):
        nonlocal n_fits
        assert (found == expected).all(), "other predictions"
        n_fits += 1

    for n_jobs in (1, 2):
        for method in ("fork", "spawn", "forkserver"):
            for daemon in (False, True):
                check(fit_in_process(method, daemon, n_jobs))
        for backend in ("loky", "threading"):
            jobs = (joblib.delayed(fit_somewhere)(n_jobs) for _ in range(4))
            list(map(check, joblib.Parallel(2, backend=backend)(jobs)))
        with ThreadPoolExecutor(4) as executor:
            list(map(check, executor.map(fit_somewhere, [n_jobs] * 8)))
        check(asyncio.run(asyncio.to_thread(fit_somewhere, n_jobs)))
    stop_workers()
    yield f"{n_fits} fits: in fork, spawn, forkserver, daemons, loky, threads, asyncio"


def threads(_):
    """Predict with one estimator from eight threads."""
    for n_jobs in (1, 2):
        clf = classifier(n_jobs=n_jobs).fit(X, Y)
        parts = [slice(i, i + 1 + i % 40) for i in range(200)]
        expected = [clf.predict_proba(X[part]) for part in parts]
        with ThreadPoolExecutor(8) as executor:
            for _ in range(5):
                found = executor.map(lambda part, clf=clf: clf.predict_proba(X[part]), parts)
                assert all((a == b).all() for a, b in zip(found, expected, strict=True))
        yield f"n_jobs={n_jobs}: {5 * len(parts)} predictions from 8 threads are the same"


CHECKS = (interrupts, killed, orphans, code, places, threads)


@contextmanager
def noted(check, failures):
    """Print the traceback of a check that fails, and go on."""
    try:
        yield
    except Exception:
        failures.append(check.__name__)
        print(f"{check.__name__:10} FAILED\n{traceback.format_exc()}", flush=True)


def main():
    names = [check.__name__ for check in CHECKS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=names, choices=[*names, "victim"])
    parser.add_argument("--points", type=int, default=200, help="interrupts of each kind of call")
    parser.add_argument("--kills", type=int, default=10, help="killed workers and programs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    use_processes()
    if arguments.only == ["victim"]:
        list(victim(arguments))
    failures, start = [], time.perf_counter()
    for check in CHECKS:
        if check.__name__ in arguments.only:
            with noted(check, failures):
                for line in check(arguments):
                    print(f"{check.__name__:10} {line}", flush=True)
    print(f"{len(failures)} checks failed, {time.perf_counter() - start:.0f} s")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
