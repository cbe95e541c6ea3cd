"""Workers that are forks of this process."""

import os
import pickle
import select
import signal
import struct
import threading
import time
import warnings
from contextlib import suppress
from functools import partial

import numpy as np

from skcnn._engine.blocks import MOST_TICKETS, NAP_SECONDS, SPIN_SECONDS
from skcnn._workers.loops import Desks
from skcnn._workers.memory import shared_empty

_ORDER = struct.Struct("qqq?")  # number of the order, of items, of workers; whether these meet
_TICKET = struct.Struct("qq")  # number of the order, number of the ticket
_SIZE = struct.Struct("q")  # bytes of a pickled error, which follow; 0: all went well
_DIED = "A worker process ended unexpectedly; was there too little memory?"


class _Abandoned(Exception):
    """Another worker has failed, and says itself why."""


class Forks:
    """Forks of this process, each with a pipe for orders and one for answers.

    A fork sees memory as it was when it was made, and later changes only in shared arrays. It ends
    when its pipe of orders is closed, also because this process died.

    Each worker begins with an item of its own. Whoever is free takes the next from a pipe of
    tickets that all read, so that a worker whose core is busy elsewhere does less.

    Parameters
    ----------
    work : callable
        ``work(worker, items, meet)`` leaves results in shared arrays. ``meet()`` waits until all workers
        have called it, and returns their number; None: they do not meet.
    n_workers : int
        Worker 0 is this process.
    arenas : dict of Arena, default=None
    join : callable, default=None
        As for `Desks`, by which those who wait help the others.

    Attributes
    ----------
    desks : Desks or None
    """

    def __init__(self, work, n_workers, arenas=None, join=None):
        self._work = work
        self._n_workers = n_workers
        self._n_orders = 0
        self._here = None  # worker, order and number of workers that take part in it
        self._parent = os.getpid()
        # of each worker, twice the number of the order that it last met the others in; 1 more: failed
        self._met = memoryview(shared_empty((n_workers,), np.int64))
        self._busy = False  # whether answers are owed
        self._tickets, self._new_tickets = os.pipe()
        os.set_blocking(self._tickets, False)
        self.desks = join and Desks(n_workers, arenas, self._wait, join)
        self._forks = []  # (process id, orders, answers)

    def start(self):
        """Make the forks; they see what this process has now."""
        for worker in range(1, self._n_workers):
            self._forks.append(self._fork(worker))

    def _fork(self, worker):
        orders_in, orders_out = os.pipe()
        answers_in, answers_out = os.pipe()
        with warnings.catch_warnings():
            # other threads exist (those of BLAS, asleep); the fork never needs them
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                os.close(orders_out)
                os.close(answers_in)
                for _, orders, answers in self._forks:  # or the siblings would not see them close
                    os.close(orders)
                    os.close(answers)
                self._serve(worker, orders_in, answers_out)
            finally:
                os._exit(0)
        os.close(orders_in)
        os.close(answers_out)
        return process, orders_out, answers_in

    def _serve(self, worker, orders, answers):
        """Carry out orders until there are no more."""
        while order := _read_soon(orders, _ORDER.size):
            error = b""
            try:
                self._carry_out(worker, *_ORDER.unpack(order))
            except _Abandoned:
                pass
            except Exception as e:  # handed over, and raised there
                error = _dump(e)
            _write(answers, _SIZE.pack(len(error)) + error)

    def _carry_out(self, worker, order, n_items, n_workers, meets):
        """Do a worker's share of an order."""
        self._here = worker, order, n_workers
        items = self._items(worker, order, n_items, n_workers)
        try:
            self._work(worker, items, self._meet if meets else None)
        except BaseException:
            self._met[worker] = 2 * order + 1
            raise

    def _meet(self):
        """Wait until all workers have come as far as this, and help them; return their number."""
        worker, order, n_workers = self._here
        self._met[worker] = 2 * order

        def all_met():  # one that has failed since it was looked for is further than here
            return all(met == 2 * order for met in self._met[:n_workers])

        if self.desks is None:
            self._wait(all_met)
        else:
            self._wait(all_met, partial(self.desks.help, worker))
            self.desks.leave(worker)
        return n_workers

    def _wait(self, ready, help_others=lambda: False):
        """Return once ``ready()``; raise an error if another worker has failed or died.

        ``help_others()`` is called until then, and tells whether it has done something.
        """
        worker, order, n_workers = self._here
        deadline = time.perf_counter() + SPIN_SECONDS
        while True:
            if max(self._met[:n_workers]) > 2 * order:
                raise _Abandoned
            if ready():
                return
            if help_others():
                deadline = time.perf_counter() + SPIN_SECONDS
            elif time.perf_counter() > deadline:
                time.sleep(NAP_SECONDS)
                self._check_lives(worker)

    def _check_lives(self, worker):
        """See to it that nobody waits for the dead."""
        if worker:
            if os.getppid() != self._parent:
                os._exit(1)
            return
        for _, _, answers in self._forks:
            poller = select.poll()
            poller.register(answers, select.POLLIN)
            # who has answered has something to be read; of the dead the end of the pipe is closed
            if any(not event & select.POLLIN for _, event in poller.poll(0)):
                raise RuntimeError(_DIED)

    def _items(self, worker, order, n_items, n_workers):
        """Yield the items of a worker."""
        yield worker
        n_tickets = min(n_items - n_workers, MOST_TICKETS)
        while n_tickets:
            try:
                of, ticket = _TICKET.unpack(os.read(self._tickets, _TICKET.size))
            except BlockingIOError:  # no more
                return
            if of == order:  # not left over from one that failed
                yield from range(n_workers + ticket, n_items, n_tickets)

    def run(self, n_items, n_workers, meets=False):
        """Share `n_items` among `n_workers` workers, this process among them."""
        self._busy = True
        self._n_orders += 1
        if self.desks is not None:
            self.desks.clear()
        order = self._n_orders, n_items, n_workers, meets
        n_tickets = min(n_items - n_workers, MOST_TICKETS)
        if n_tickets > 0:
            tickets = (_TICKET.pack(self._n_orders, ticket) for ticket in range(n_tickets))
            os.write(self._new_tickets, b"".join(tickets))
        active = self._forks[: n_workers - 1]
        for _, orders, _ in active:
            try:
                os.write(orders, _ORDER.pack(*order))
            except BrokenPipeError:
                raise RuntimeError(_DIED) from None
        try:
            with suppress(_Abandoned):
                self._carry_out(0, *order)
        finally:
            errors = [_read_error(answers) for _, _, answers in active]
            self._busy = False
        for error in filter(None, errors):
            raise error

    def close(self):
        """Let the forks end, which takes them some milliseconds, without waiting for it.

        One that may still write to shared memory, after an interrupt, is gone on return.
        """
        for _, orders, answers in self._forks:
            os.close(orders)
            os.close(answers)
        os.close(self._tickets)
        os.close(self._new_tickets)
        if self.desks is not None:
            self.desks.close()
        processes = [process for process, _, _ in self._forks]
        self._forks = []
        if self._busy:
            for process in processes:
                os.kill(process, signal.SIGKILL)
            _wait_for(processes)
        else:
            threading.Thread(target=_wait_for, args=(processes,), daemon=True).start()


def _wait_for(processes):
    for process in processes:
        with suppress(ChildProcessError):  # where the program has asked to hear of no child
            os.waitpid(process, 0)


def _dump(error):
    try:
        return pickle.dumps(error)
    except Exception:  # one of the user's own may hold anything
        return pickle.dumps(RuntimeError(repr(error)))


def _write(pipe, data):
    while data:
        data = data[os.write(pipe, data) :]


def _read_soon(pipe, size):
    """Return what comes through a pipe; look for it for a while before going to sleep."""
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    deadline = time.perf_counter() + SPIN_SECONDS
    while not poller.poll(0) and time.perf_counter() < deadline:
        pass
    return os.read(pipe, size)


def _read(pipe, size):
    data = b""
    while len(data) < size:
        part = _read_soon(pipe, size - len(data))
        if not part:
            raise RuntimeError(_DIED)
        data += part
    return data


def _read_error(answers):
    """Return the error that a worker has run into, or None."""
    (size,) = _SIZE.unpack(_read(answers, _SIZE.size))
    return pickle.loads(_read(answers, size)) if size else None
