"""Workers that are processes: started once, and kept for later pools.

A worker process never runs the user's program: it is a new interpreter, which imports this package
and answers messages on a pipe. It needs about a second to start; pools do not wait for it.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from functools import cache

from joblib.externals.loky.backend.context import get_context

from skcnn._workers.shared import cloudpickle, loads

# Seconds for which a worker looks for its next message before it sleeps: to wake it takes 25 us each
# way, half of what the gradients of a small batch take (Zen 5, 2026-11).
SPIN_SECONDS = 500e-6

# Seconds after which a worker process without a job ends.
IDLE_SECONDS = 300

# Seconds after which a worker that holds the lock of the tickets is taken for dead.
LOCK_SECONDS = 1

DIED = "A worker process ended unexpectedly; was there too little memory?"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
_JOB, _RUN, _DROP = b"J", b"R", b"D"  # first byte of a message
_idle = []  # worker processes that no pool uses
_lock = threading.Lock()


class Worker:
    """A worker process, seen from the process that uses it."""

    def __init__(self):
        context = get_context("loky")
        self._connection, other = context.Pipe()
        self._owner = os.getpid()
        self._n_owed = 1  # answers on their way; the first says that the process listens
        self._has_job = self._is_busy = False
        environment = dict.fromkeys(_THREADS, "1")
        self._process = context.Process(
            target=serve, args=(other, ticket_lock()), daemon=True, env=environment
        )
        with _interrupts_blocked():
            self._process.start()
        other.close()

    @property
    def is_alive(self):
        return self._owner == os.getpid() and self._process.is_alive()

    def takes_part(self, job):
        """Return whether the process holds the pickled `job` by now; never wait for it."""
        while self._n_owed and self._connection.poll(0):
            error = self._receive()
            if error is not None:
                raise error
        if self._n_owed:
            return False
        if not self._has_job:
            self._send(_JOB + job)
            self._has_job = True
            return False
        return True

    def begin(self, item, n_items, numbers):
        """Have the process do an item of its job, then whichever is next."""
        self._is_busy = True
        self._send(_RUN + pickle.dumps((item, n_items, numbers)))

    def finish(self):
        """Wait until the process has done its items; return the error that it met, or None."""
        error = self._receive()
        self._is_busy = False
        return error

    def _send(self, message):
        try:
            self._connection.send_bytes(message)
        except OSError:
            raise RuntimeError(DIED) from None
        self._n_owed += 1

    def _receive(self):
        try:
            answer = receive(self._connection)
        except (EOFError, OSError):
            raise RuntimeError(DIED) from None
        self._n_owed -= 1
        return pickle.loads(answer) if answer else None

    def release(self):
        """Give the process back for later pools; one that is still busy ends."""
        if self._is_busy or not self.is_alive:
            self.stop()
            return
        if self._has_job:
            with suppress(RuntimeError):
                self._send(_DROP)
            self._has_job = False
        with _lock:
            _idle.append(self)

    def stop(self):
        """End the process at once."""
        self._connection.close()
        if self._owner == os.getpid():
            self._process.kill()
            self._process.join()


@cache
def ticket_lock():
    """Return the lock under which workers take the number of their next item."""
    return get_context("loky").Lock()


@contextmanager
def _interrupts_blocked():
    """Keep Ctrl-C from a process that is started here and does not know yet how to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hire(n, may_start):
    """Return up to `n` worker processes: idle ones first, then new ones if they may be started."""
    with _lock:
        found, _idle[:] = _idle[:n], _idle[n:]
    workers = [worker for worker in found if worker.is_alive]
    if may_start and not multiprocessing.current_process().daemon:  # those may have no children
        workers += [Worker() for _ in range(n - len(workers))]
    return workers


def stop_workers():
    """End the worker processes that fits and predictions have started and keep for later ones.

    They end by themselves after five minutes without work, and with the program.

    Examples
    --------
    >>> from skcnn import stop_workers
    >>> stop_workers()
    """
    with _lock:
        workers, _idle[:] = _idle[:], []
    for worker in workers:
        worker.stop()


def take_items(job, tickets, lock, first, n_items, numbers):
    """Do the item `first`, then whichever is next; `tickets` holds its number."""
    item = first
    try:
        while item < n_items:
            job(item, 0, *numbers)
            if not lock.acquire(timeout=LOCK_SECONDS):
                raise RuntimeError(DIED)
            item = int(tickets[0])
            tickets[0] = item + 1
            lock.release()
    except BaseException:
        tickets[0] = n_items  # the other workers stop, too
        raise


def receive(connection):
    """Return the next message; look for it for a while before going to sleep."""
    deadline = time.perf_counter() + SPIN_SECONDS
    while not connection.poll(0) and time.perf_counter() < deadline:
        pass
    return connection.recv_bytes()


def serve(connection, lock):
    """Be a worker process: answer messages until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send_bytes(b"")
    job = None
    while job is not None or connection.poll(IDLE_SECONDS):
        try:
            message = receive(connection)
        except (EOFError, OSError):
            return
        error = b""
        try:
            kind, content = message[:1], message[1:]
            if kind == _RUN:
                take_items(*job, lock, *pickle.loads(content))
            else:
                job = loads(content) if kind == _JOB else None
        except BaseException as e:
            error = _dump(e)
        connection.send_bytes(error)


def _dump(error):
    """Return an error as bytes, with its traceback as a note."""
    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        data = cloudpickle.dumps(error)
        pickle.loads(data)  # an error of the user's may hold anything
        return data
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.__notes__ = error.__notes__
        return pickle.dumps(plain)
