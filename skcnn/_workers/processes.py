"""Workers that are processes: started once, and kept for later pools.

A worker process never runs the user's program: it is a new interpreter, which imports this package
and answers messages on a pipe. It needs about a second to start, and no pool waits for it.
"""

import multiprocessing
import os
import pickle
import select
import signal
import threading
import time
import traceback
import weakref
from contextlib import suppress
from functools import cache

import numpy as np
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.backend.context import get_context

from skcnn._workers.blas import UFUNC_BUFFER, release_if_held
from skcnn._workers.shared import cloudpickle, loads

# Seconds for which a worker looks for its next message before it sleeps. The system may wake it on the
# core of the process that it works for, which costs both some milliseconds: with 0.5 ms that happened
# in 1% of the steps of a small network, a tenth of its time (Zen 5, 2026-11).
SPIN_SECONDS = 5e-3
IDLE_SECONDS = 300  # after which a worker without a job ends
LOCK_SECONDS = 1  # after which a worker that holds the lock of the tickets is taken for dead

DIED = "A worker process ended unexpectedly; was there too little memory?"
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)
_JOB, _RUN, _DROP = b"J", b"R", b"D"  # first byte of a message
_workers = []  # those that this process has started
_lock = threading.RLock()


class Worker:
    """A worker process, seen from the process that uses it."""

    def __init__(self, lock):
        context = get_context("loky")
        self._connection, other = context.Pipe()
        life, self._life = context.Pipe(duplex=False)  # ends with this process
        self._owner = os.getpid()
        self._is_there = _looker(self._connection)
        self._lock = lock
        self._n_owed = 1  # answers on their way; the first one says that the process listens
        self._n_stale = 0  # how many of them belong to an earlier pool
        self._has_job = self._is_busy = False
        self._is_in_step = True  # False while the pipe is in use, and after an interrupt of that
        self._pool = lambda: None  # a weak reference to the pool that it works for
        self._process = context.Process(
            target=serve, args=(other, life, self._lock), daemon=True, env=_ONE_THREAD
        )
        resource_tracker.ensure_running()  # which, where it starts, unblocks the signal
        mask = getattr(signal, "pthread_sigmask", lambda how, signals: ())
        before = mask(getattr(signal, "SIG_BLOCK", 0), {signal.SIGINT})  # Ctrl-C is not for workers
        try:
            self._process.start()
        finally:
            mask(getattr(signal, "SIG_SETMASK", 0), before)
            other.close()
            life.close()

    def is_alive(self):
        """Return whether the process lives, and is this process's own."""
        return self._owner == os.getpid() and self._process.is_alive()

    def is_free(self):
        """Return whether no pool uses the process, nor has left it in the middle of its work."""
        return self._pool() is None and not self._is_busy

    def has_lock(self, lock):
        """Return whether the process takes its tickets under this lock."""
        return self._lock is lock

    def join(self, pool):
        """Work for a pool from now on."""
        self._pool = weakref.ref(pool)

    def takes_part(self, job):
        """Return whether the process holds the pickled `job` by now; never wait for it."""
        while self._n_owed and self._is_there(0):
            error = self._receive()
            if error is not None:
                raise error
        if not self._n_owed and not self._has_job:
            self._has_job = True
            self._send(_JOB + job)
        return not self._n_owed

    def begin(self, n_items, numbers):
        """Have the process do items of its job until all are taken."""
        self._is_busy = True
        self._send(_RUN + pickle.dumps((n_items, numbers)))

    def finish(self):
        """Wait until the process has done its items; return the error that it met, or None."""
        try:
            error = self._receive()
        except RuntimeError as died:
            return died
        self._is_busy = False
        return error

    def _send(self, message):
        self._is_in_step = False
        try:
            self._connection.send_bytes(message)
        except OSError:
            raise RuntimeError(DIED) from None
        self._n_owed += 1
        self._is_in_step = True

    def _receive(self):
        """Return the error that the next answer holds, if it is one to this pool."""
        self._is_in_step = False
        try:
            answer = _receive_soon(self._connection, self._is_there)
        except (EOFError, OSError):
            raise RuntimeError(DIED) from None
        self._n_owed -= 1
        is_stale, self._n_stale = self._n_stale > 0, max(self._n_stale - 1, 0)
        self._is_in_step = True
        return pickle.loads(answer) if answer and not is_stale else None

    def release(self, pool):
        """Leave a pool; if the process is busy, out of step or has died, it ends."""
        if self._pool() is not pool:
            return
        try:
            if self._is_busy or not self._is_in_step or not self.is_alive():
                raise RuntimeError(DIED)
            if self._has_job:
                self._send(_DROP)
                self._has_job = False
            self._n_stale = self._n_owed
            self._pool = lambda: None
        except RuntimeError:
            self.stop()

    def stop(self):
        """End the process at once; if it may hold the lock of the tickets, others get a new one."""
        self._pool = lambda: None
        if self._is_busy and self._lock is ticket_lock():
            ticket_lock.cache_clear()
        self._connection.close()
        self._life.close()
        if self._owner == os.getpid():
            self._process.terminate()
            self._process.join()


@cache
def ticket_lock():
    """Return the lock under which workers take the number of their next item."""
    return get_context("loky").Lock()


def release_locks(lock):
    """Release locks that this thread still holds, since an interrupt kept it from that."""
    release_if_held(_lock)
    if lock is not None and lock._semlock._is_mine():
        lock.release()


def hire(pool, n, may_start):
    """Return up to `n` worker processes for a pool, and the lock under which they take tickets.

    Free processes come first, then new ones if they may be started. Where the system allows no
    process or no lock, or the environment sets ``SKCNN_PROCESSES=0``, there are none.
    """
    if os.environ.get("SKCNN_PROCESSES") == "0":
        return [], None
    with _lock:
        try:
            lock = ticket_lock()
        except (ImportError, OSError):  # no semaphores here
            return [], None
        for worker in _workers:
            if worker.is_free() and not worker.has_lock(lock):
                worker.stop()
        _workers[:] = [worker for worker in _workers if worker.is_alive()]
        if may_start and not multiprocessing.current_process().daemon:  # those may have no children
            with suppress(OSError):
                while len(_workers) < n:  # some may work for other pools
                    _workers.append(Worker(lock))
        found = [w for w in _workers if w.is_free() and w.has_lock(lock)][:n]
        for worker in found:
            worker.join(pool)
    return found, lock


def stop_workers() -> None:
    """End the worker processes that fits have started and that are kept for later ones.

    They end by themselves after five minutes without work, and with the program.

    Examples
    --------
    >>> from skcnn import stop_workers
    >>> stop_workers()
    """
    with _lock:
        for worker in filter(Worker.is_free, _workers):
            worker.stop()
        _workers[:] = [worker for worker in _workers if worker.is_alive()]


def take_tickets(tickets, lock, n_items):
    """Yield the number of the next item that no worker has taken yet, until there are no more."""
    item = 0
    while item < n_items:
        try:
            if not lock.acquire(timeout=LOCK_SECONDS):
                raise RuntimeError(DIED)
            item = int(tickets[0])
            tickets[0] = item + 1
        finally:
            if lock._semlock._is_mine():
                lock.release()
        if item < n_items:
            yield item


def _receive_soon(connection, is_there):
    """Return the next message; look for it for a while before going to sleep."""
    deadline = time.perf_counter() + SPIN_SECONDS
    while not is_there(0) and time.perf_counter() < deadline:
        pass
    return connection.recv_bytes()


def _looker(connection):
    """Return what looks for a message, in a tenth of the time of `connection.poll` where it can."""
    if not hasattr(select, "poll"):
        return connection.poll
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return poller.poll


def serve(connection, life, lock):
    """Be a worker process: answer messages until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    np.setbufsize(UFUNC_BUFFER)
    with suppress(EOFError, OSError):  # the process that it works for has left it
        _answer(connection, lock)


def _answer(connection, lock):
    """Answer the messages of a connection."""
    connection.send_bytes(b"")
    job, tickets, is_there = None, None, _looker(connection)
    while job is not None or connection.poll(IDLE_SECONDS):
        message = _receive_soon(connection, is_there)
        error = b""
        try:
            if message[:1] == _RUN:
                n_items, numbers = pickle.loads(message[1:])
                for item in take_tickets(tickets, lock, n_items):
                    job(item, 0, *numbers)
            else:
                job, tickets = loads(message[1:]) if message[:1] == _JOB else (None, None)
        except BaseException as e:
            if tickets is not None:
                tickets[0] = np.iinfo(np.int64).max // 2  # the other workers take no more, either
            error = _dump(e)
        connection.send_bytes(error)


def _end_with(life):
    """End this process with the one that it works for, even in the middle of an item."""
    life.poll(None)
    os._exit(1)


def _dump(error):
    """Return an error as bytes, with its traceback as a note."""
    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
    with suppress(Exception):  # an error of the user's may hold anything
        data = cloudpickle.dumps(error)
        if str(pickle.loads(data)) == str(error):
            return data
    with suppress(Exception):  # its constructor may take other arguments than `Exception.args`
        state = {name: value for name, value in vars(error).items() if _can_be_sent(value)}
        data = cloudpickle.dumps(_Remade(_remake, type(error), error.args, state))
        str(pickle.loads(data))
        return data
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    plain.__notes__ = error.__notes__
    return pickle.dumps(plain)


class _Remade:
    """Is pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def _remake(kind, args, state):
    """Return an error of a kind without a call of its constructor."""
    error = BaseException.__new__(kind, *args)
    vars(error).update(state)
    return error


def _can_be_sent(value):
    with suppress(Exception):
        pickle.loads(cloudpickle.dumps(value))
        return True
    return False
