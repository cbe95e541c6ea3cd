"""Loops over blocks, which workers that have nothing left to do may join.

In each step the workers wait for the slowest, and cores are seldom equally fast for long: other
programs take turns on them. So whoever waits takes blocks of a loop that another worker is still in.
What adds up over blocks is added in their order, whoever did them: results are the same.

A worker that is in a loop offers the rest of it on its desk, in shared memory, as soon as somebody
waits: what those who join must know, and a pipe with a ticket for each block.
"""

import os
import pickle
import struct
from contextlib import contextmanager, nullcontext

import numpy as np

from skcnn._engine.blocks import MOST_TICKETS, OFFER_BYTES
from skcnn._workers.memory import shared_empty

_TICKET = struct.Struct("qq")  # number of the loop among those offered, number of the block
_NO_TURN = nullcontext()


class Loop:
    """A loop over so many blocks that a worker goes through alone.

    Attributes
    ----------
    is_joined : bool
        Whether it is another worker's.
    """

    is_joined = False

    def __init__(self, n_blocks):
        self._n_blocks = n_blocks

    def __iter__(self):
        return iter(range(self._n_blocks))

    def turn(self, block):
        """Return a context that is entered after that of the block before has been left."""
        return _NO_TURN


class _OwnLoop(Loop):
    """A worker's loop, the rest of which is offered as soon as another worker waits.

    Parameters
    ----------
    n_blocks : int
    desk : Desk
    offer : callable
        ``offer(blocks)`` offers blocks if somebody waits, and returns whether it did.
    """

    def __init__(self, n_blocks, desk, offer):
        super().__init__(n_blocks)
        self._desk = desk
        self._offer = offer
        self._is_offered = False

    def __iter__(self):
        for block in range(self._n_blocks):
            rest = range(block, self._n_blocks)
            if len(rest) > 1 and self._offer(rest):
                self._is_offered = True
                while ticket := self._desk.take():
                    yield ticket[1]
                self._desk.wait_for_turn(self._n_blocks)
                return
            yield block

    def turn(self, block):
        return self._desk.turn(block) if self._is_offered else _NO_TURN


class _JoinedLoop(Loop):
    """Those blocks of another worker's loop that this one takes.

    Attributes
    ----------
    ticket : (int, int) or None
        The next block's; in the end one of the loop that the other worker has come to meanwhile, or None.
    """

    is_joined = True

    def __init__(self, ticket, desk):
        self.ticket = ticket
        self._desk = desk

    def __iter__(self):
        loop, _ = self.ticket
        while self.ticket and self.ticket[0] == loop:
            yield self.ticket[1]
            self.ticket = self._desk.take()

    def turn(self, block):
        return self._desk.turn(block)


class Desk:
    """Where one worker offers blocks of its loops, of one loop at a time.

    Parameters
    ----------
    wait : callable
        ``wait(ready)`` returns once ``ready()``; it raises an error if another worker has failed.
    """

    def __init__(self, wait):
        # number of the loop that was offered last, and the block in it whose turn it is
        self._state = memoryview(shared_empty((2,), np.int64))
        self._note = memoryview(shared_empty((OFFER_BYTES,), np.uint8))
        self._wait = wait
        self._tickets, self._new_tickets = os.pipe()
        os.set_blocking(self._tickets, False)

    def offer(self, blocks, note):
        """Offer `blocks`, with a note for those who take them; return whether there is room for that."""
        if len(note) > OFFER_BYTES or len(blocks) > MOST_TICKETS:
            return False
        self._note[: len(note)] = note
        self._state[0] += 1
        self._state[1] = blocks.start
        tickets = (_TICKET.pack(self._state[0], block) for block in blocks)
        os.write(self._new_tickets, b"".join(tickets))
        return True

    def clear(self):
        """Take back what is left of a loop that failed; while nobody works."""
        self._state[0] += 1

    def take(self):
        """Return ``(number of the loop, block)`` of a block that is to be had, or None."""
        while True:
            try:
                ticket = _TICKET.unpack(os.read(self._tickets, _TICKET.size))
            except BlockingIOError:  # no more
                return None
            if ticket[0] == self._state[0]:  # not one that was taken back
                return ticket

    def note(self):
        """Return the note; it stays as it is while a block that was taken is not done."""
        return bytes(self._note)

    def wait_for_turn(self, block):
        """Wait until all blocks before this one are done."""
        if self._state[1] != block:
            self._wait(lambda: self._state[1] == block)

    @contextmanager
    def turn(self, block):
        """Do what must be done in the order of the blocks; then the block is done."""
        self.wait_for_turn(block)
        yield
        self._state[1] = block + 1

    def close(self):
        os.close(self._tickets)
        os.close(self._new_tickets)


class Desks:
    """The desks of all workers.

    Parameters
    ----------
    n_workers : int
    arenas : dict of Arena
        The memory that workers share: of each one, by its number, and what else there is.
    wait : callable
        As for `Desk`.
    join : callable
        ``join(place, loop, arrays, worker)`` does the blocks that a `Loop` yields.
    """

    def __init__(self, n_workers, arenas, wait, join):
        self._arenas = arenas
        self._join = join
        self._waits = memoryview(shared_empty((n_workers,), np.int64))
        self._desks = [Desk(wait) for _ in range(n_workers)]
        self._copies = {}
        self._views = {}

    def loop(self, worker, place, n_blocks, inputs, outputs):
        """Return a `Loop` of a worker's that others may join.

        Parameters
        ----------
        worker : int
        place : object
            What tells those who join where they are.
        n_blocks : int
        inputs, outputs : dict of ndarray or None
            What the blocks are made of, and what else they read and write.
        """
        desk = self._desks[worker]

        def offer(blocks):
            if 1 not in self._waits.tolist():
                return False
            places = {name: self._place(array) for name, array in outputs.items()}
            places |= {
                name: self._input_place(worker, name, array) for name, array in inputs.items()
            }
            if None in places.values():  # not all of them can be seen by others
                return False
            return desk.offer(blocks, pickle.dumps((place, places)))

        return _OwnLoop(n_blocks, desk, offer)

    def help(self, worker):
        """Do blocks that another worker offers, until there are no more; return whether there were any.

        From now on, until `leave`, the worker counts as one that waits.
        """
        self._waits[worker] = 1
        for desk in self._desks:
            ticket = desk.take()
            while ticket:
                self._waits[worker] = 0
                place, places = pickle.loads(desk.note())
                arrays = {name: self._view(*where) for name, where in places.items()}
                loop = _JoinedLoop(ticket, desk)
                self._join(place, loop, arrays, worker)
                ticket = loop.ticket
        return not self._waits[worker]

    def clear(self):
        """Take back all that is left of loops that failed; while nobody works."""
        for desk in self._desks:
            desk.clear()

    def leave(self, worker):
        """Let a worker not count as one that waits any more."""
        self._waits[worker] = 0

    def _place(self, array):
        """Return where an array lies in shared memory, or None; that of None is ``()``."""
        if array is None:
            return ()
        for owner, arena in self._arenas.items():
            start = arena.start(array)
            if start is not None:
                return owner, start, array.shape, array.strides, array.dtype.str
        return None

    def _input_place(self, worker, name, array):
        """As `_place`; of a copy, if others do not see the array itself."""
        place = self._place(array)
        if place is not None:
            return place
        key = worker, name, array.shape, array.dtype.str
        if key not in self._copies:
            self._copies[key] = self._arenas[worker].empty(array.shape, array.dtype)
        copy = self._copies[key]
        if copy is None:
            return None
        np.copyto(copy, array)
        return self._place(copy)

    def _view(self, *place):
        """Return the array that lies in a place."""
        if not place:
            return None
        if place not in self._views:
            owner, *where = place
            self._views[place] = self._arenas[owner].view(*where)
        return self._views[place]

    def close(self):
        for desk in self._desks:
            desk.close()
