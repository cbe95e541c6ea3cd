"""What happens to a convolution's output while it is in cache, and the way back.

A `sink` takes the output of a convolution block by block, a `source` gives the gradient of that
output back in the same blocks. Blocks come in two layouts: rows (phases, rows, filters, columns *
images) and tiles (tile rows, tile columns, filters, run), whose run is that of a `Tiling`.
"""

from functools import lru_cache

import numpy as np

from skcnn._engine.activations import backward_in_blocks
from skcnn._engine.convolution import merge_runs


class PlainSink:
    """Adds the intercept, activates, and writes to the map `y`.

    Blocks of rows are taken in `z`, of which a block is in cache, or if that is None in `y` itself.
    """

    def __init__(self, y, intercept, activate, z=None):
        self.y = y
        self.runs = merge_runs(y)
        self.intercept = intercept
        self.activate = activate
        self.z = z

    def block(self, rows):
        """Return the array that takes the output `rows`."""
        if self.z is None:
            return self.runs[None, rows]
        return self.z[:, : rows.stop - rows.start, :, : self.runs.shape[2]]

    def finish(self, rows, z):
        """Finish the output `rows`."""
        z += self.intercept[:, None]
        self.activate(z[0], self.runs[rows])

    def finish_tiles(self, tiles, block, planes):
        """Finish a block of tiles and write them to the map."""
        planes += self.intercept[:, None]
        self.activate(planes, planes)
        write_tiles(tiles, block, planes, self.y)


class _Gradient:
    """The gradient of a map before its activation, made a few rows at a time while they are in cache.

    Parameters
    ----------
    dy, y : ndarray
        Gradient of the activated map, and the map.
    dz : ndarray
        What is written; may be `dy`.
    activation : Activation
    dintercept : ndarray of shape (channels,)
        Gradient of the intercepts, to which each block adds.
    """

    def __init__(self, dy, y, dz, activation, dintercept):
        self.dy = dy
        self.y = y
        self.dz = dz
        self.runs = merge_runs(dz)
        self.activation = activation
        self.dintercept = dintercept

    def finish(self, rows):
        """Make some rows of `dz`, and return them as runs."""
        dy, runs = self.dy[rows], self.runs[rows]
        dz = dy if self.dz is self.dy else self.dz[rows]
        backward_in_blocks(self.activation, dy, self.y[rows], dz)
        # a product with ones reads memory twice as fast as a sum
        self.sums = np.add.reduce(runs @ _ones(runs.shape[2], runs.dtype), axis=0)
        return runs

    def add_intercepts(self):
        """Add the sums of the last block's gradients to that of the intercepts."""
        self.dintercept += self.sums

    def tile_rows(self, tiles, block, height):
        """Return the rows of a block of tiles, each of `height` rows."""
        first, last = block * tiles.rows, (block + 1) * tiles.rows
        return slice(first * height, min(last * height, len(self.dy)))


@lru_cache(maxsize=32)
def _ones(size, dtype):
    return np.ones(size, dtype)


class PlainSource(_Gradient):
    """Gives the gradient of a convolution's output from that of its activated map."""

    def block(self, rows):
        """Return the gradient of the output `rows`."""
        return self.finish(rows)[None]

    def tiles(self, tiles, block, planes):
        """Write the gradient of a block of tiles."""
        self.finish(self.tile_rows(tiles, block, len(planes)))
        read_tiles(tiles, block, self.dz, planes)


class PoolSink:
    """Pools by the maximum of 2x2, and keeps who was the maximum in `masks`, unless that is None.

    The first of equal values counts as the maximum. Intercept and activation are monotone, so they
    can wait until after the pooling.
    """

    def __init__(self, y, intercept, activate, z, pair_maximum, masks):
        self.y = y
        self.intercept = intercept
        self.activate = activate
        self.z = z
        self.pair_maximum = pair_maximum
        self.masks = masks

    def block(self, rows):
        """Return the array that takes the output `rows`, even and odd columns apart."""
        return self.z[:, : rows.stop - rows.start, :, : self.pair_maximum.shape[2]]

    def finish(self, rows, z):
        """Pool the output `rows`."""
        pooled = slice(rows.start // 2, rows.stop // 2)
        best = self.pair_maximum[: rows.stop - rows.start]
        self._pool(*z, best, merge_runs(self.y)[pooled])
        if self.masks is not None:
            column_mask, row_mask = self.masks
            self._compare(*z, best, column_mask[rows], row_mask[pooled])

    def finish_tiles(self, tiles, block, planes):
        """Pool a block of tiles."""
        left, right, best = planes[:, 0::2], planes[:, 1::2], self.pair_maximum
        self._pool(left, right, best, self.z)
        if self.masks is not None:
            column_mask, row_mask = self.masks
            self._compare(left, right, best, column_mask[block], row_mask[block])
        write_tiles(tiles, block, self.z, self.y)

    def _pool(self, left, right, best, out):
        np.maximum(left, right, out=best)
        np.maximum(best[0::2], best[1::2], out=out)
        out += self.intercept[:, None]
        self.activate(out, out)

    def _compare(self, left, right, best, column_mask, row_mask):
        np.greater_equal(left, right, out=column_mask)
        np.greater_equal(best[0::2], best[1::2], out=row_mask)


class PoolSource(_Gradient):
    """Gives the gradient of a convolution's output from that of its activated 2x2 maxima.

    Parameters
    ----------
    dy, y, activation, dintercept
        As in the class above; `dy` is overwritten.
    z, pairs : ndarray
        Scratch.
    masks : (ndarray, ndarray)
        As `PoolSink` has left them.
    """

    def __init__(self, dy, y, activation, dintercept, z, pairs, masks):
        super().__init__(dy, y, dy, activation, dintercept)
        self.z = z
        self.pairs = pairs
        self.masks = masks

    def block(self, rows):
        """Return the gradient of the output `rows`, even and odd columns apart."""
        pooled = slice(rows.start // 2, rows.stop // 2)
        n_rows = rows.stop - rows.start
        pairs = self.pairs[:n_rows]
        z = self.z[:, :n_rows, :, : pairs.shape[2]]
        column_mask, row_mask = self.masks
        self._spread(self.finish(pooled), column_mask[rows], row_mask[pooled], pairs, *z)
        return z

    def tiles(self, tiles, block, planes):
        """Write the gradient of a block of tiles."""
        column_mask, row_mask = (mask[block] for mask in self.masks)
        self.finish(self.tile_rows(tiles, block, len(planes) // 2))
        read_tiles(tiles, block, self.dz, self.z)
        left, right = planes[:, 0::2], planes[:, 1::2]
        self._spread(self.z, column_mask, row_mask, self.pairs, left, right)

    def _spread(self, dy, column_mask, row_mask, best, left, right):
        np.multiply(dy, row_mask, out=best[0::2])
        np.subtract(dy, best[0::2], out=best[1::2])
        np.multiply(best, column_mask, out=left)
        np.subtract(best, left, out=right)


def write_tiles(tiles, block, planes, y):
    """Write a block of tiles to the map `y`, as far as it goes."""
    for origin, target in _tile_pieces(tiles, block, planes, y):
        target[...] = origin[:, :, : target.shape[2]]


def read_tiles(tiles, block, dy, planes):
    """Write to `planes` a block of tiles of the map `dy`, zeros beyond it and behind the runs."""
    planes[..., tiles.used :] = 0
    for target, origin in _tile_pieces(tiles, block, planes, dy):
        target[:, :, : origin.shape[2]] = origin
        target[:, :, origin.shape[2] :] = 0
    height = planes.shape[0]
    for row, number in tiles.block_rows(block):
        n_rows = max(min(len(dy) - number * height, height), 0)
        if n_rows < height:
            tiles.tiles(planes)[n_rows:, :, :, row] = 0


def _tile_pieces(tiles, block, planes, y):
    """Yield ``(tiles, map)``: views of the tiles of one row and one column, and of their place."""
    height, width = planes.shape[:2]
    split = tiles.tiles(planes)
    for row, number in tiles.block_rows(block):
        rows = y[number * height : (number + 1) * height]
        for column in range(width):
            yield split[: len(rows), column, :, row], rows[:, :, column::width]


class Recorder:
    """Passes the blocks of a `PoolSource` on, and writes them to the map `dz`, if there is one."""

    def __init__(self, source, dz):
        self.source = source
        self.dz = dz

    def block(self, rows):
        """Return the gradient of the output `rows`, even and odd columns apart."""
        z = self.source.block(rows)
        if self.dz is not None:
            width, n_images = self.dz.shape[2:]
            for phase, part in enumerate(z):
                columns = slice(phase, width // 2 * 2, 2)
                self.dz[rows, :, columns] = part.reshape(*part.shape[:2], -1, n_images)
        return z

    def add_intercepts(self):
        self.source.add_intercepts()
