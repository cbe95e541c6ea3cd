"""What happens to a convolution's output while it is in cache, and the backward pass of that.

A sink takes the output of a convolution block by block; a source gives the gradient of that output
back in blocks. Blocks come in two layouts: rows (phases, rows, filters, columns * images) and tiles
(tile rows, tile columns, filters, run), whose run is that of a `Tiling`.
"""

from functools import lru_cache

import numpy as np

from skcnn._engine.activations import backward_in_blocks
from skcnn._engine.rows import merge_runs


class PlainSink:
    """Adds the intercept, activates, and writes to the map `y`."""

    def __init__(self, y, intercept, activate):
        self.y = y
        self.runs = merge_runs(y)
        self.intercept = intercept
        self.activate = activate

    def part(self, filters):
        """Return the sink of some of the filters."""
        return PlainSink(self.y[:, filters], self.intercept[filters], self.activate)

    def columns(self, columns):
        """Return the sink of some of the columns."""
        return PlainSink(self.y[:, :, columns], self.intercept, self.activate)

    def finish(self, rows, z):
        """Finish the output `rows`, of which `z` holds the convolution; `z` is overwritten."""
        z += self.intercept[:, None]
        self.activate(z[0], self.runs[rows])

    def finish_tiles(self, tiles, block, planes):
        """Finish a block of tiles and write them to the map."""
        planes += self.intercept[:, None]
        self.activate(planes, planes)
        write_tiles(tiles, block, planes, self.y)


class PlainSource:
    """Gives the gradient of a convolution's output from that of its activated map.

    Parameters
    ----------
    dy, y : ndarray
        Gradient of the activated map, which may be overwritten, and the map.
    activation : Activation
    dintercept : ndarray of shape (filters,)
        Gradient of the intercepts, to which each block adds.
    """

    def __init__(self, dy, y, activation, dintercept):
        self.dy = dy
        self.y = y
        self.activation = activation
        self.dintercept = dintercept

    def part(self, filters):
        """Return the source of some of the filters."""
        own = self.dy[:, filters], self.y[:, filters], self.activation, self.dintercept[filters]
        return PlainSource(*own)

    def columns(self, columns):
        """Return the source of some of the columns."""
        own = self.dy[:, :, columns], self.y[:, :, columns], self.activation, self.dintercept
        return PlainSource(*own)

    def block(self, rows, scratch, dz):
        """Return the gradient of the output `rows`, shape (1, rows, filters, columns * images).

        It lies in the map `dz`, or if that is None in the place of `dy`; `scratch` is not used.
        """
        return self.finish(rows, dz)[None]

    def tiles(self, tiles, block, planes):
        """Write the gradient of a block of tiles to `planes`."""
        self.finish(_tile_rows(tiles, block, len(planes), len(self.dy)))
        read_tiles(tiles, block, self.dy, planes)

    def finish(self, rows, dz=None):
        """Undo the activation of some rows, in cache, and return them as runs."""
        target = (self.dy if dz is None else dz)[rows]
        backward_in_blocks(self.activation, self.dy[rows], self.y[rows], target)
        runs = merge_runs(target)
        # a product with ones reads memory twice as fast as a sum
        self.dintercept += np.add.reduce(runs @ _ones(runs.shape[2], runs.dtype), axis=0)
        return runs


class PoolSink:
    """Pools by the maximum of 2x2, and keeps in `masks` which value was the maximum.

    The first of equal values counts as the maximum. Intercept and activation are monotone, so they
    can wait until after the pooling, where a quarter of the values is left.

    Parameters
    ----------
    y : ndarray
        The pooled map.
    intercept : ndarray of shape (filters,)
    activate : callable
    scratch : (ndarray or None, ndarray)
        For a block's pooled output, if it does not lie in `y`, and for its maxima of pairs.
    masks : (ndarray, ndarray) or None
        None: there will be no backward pass.
    """

    def __init__(self, y, intercept, activate, scratch, masks):
        self.y = y
        self.intercept = intercept
        self.activate = activate
        self.pooled, self.pairs = scratch
        self.masks = masks

    def part(self, filters):
        """Return this sink: there is one group only."""
        return self

    def finish(self, rows, z):
        """Pool the output `rows`, even and odd columns apart in `z`."""
        pooled = slice(rows.start // 2, rows.stop // 2)
        pairs = self.pairs[: rows.stop - rows.start]
        self._pool(*z, pairs, merge_runs(self.y)[pooled])
        if self.masks is not None:
            column_mask, row_mask = self.masks
            self._compare(*z, pairs, column_mask[rows], row_mask[pooled])

    def finish_tiles(self, tiles, block, planes):
        """Pool a block of tiles."""
        left, right = planes[:, 0::2], planes[:, 1::2]
        self._pool(left, right, self.pairs, self.pooled)
        if self.masks is not None:
            column_mask, row_mask = self.masks
            self._compare(left, right, self.pairs, column_mask[block], row_mask[block])
        write_tiles(tiles, block, self.pooled, self.y)

    def _pool(self, left, right, pairs, out):
        np.maximum(left, right, out=pairs)
        np.maximum(pairs[0::2], pairs[1::2], out=out)
        out += self.intercept[:, None]
        self.activate(out, out)

    def _compare(self, left, right, pairs, column_mask, row_mask):
        np.greater_equal(left, right, out=column_mask)
        np.greater_equal(pairs[0::2], pairs[1::2], out=row_mask)


class PoolSource(PlainSource):
    """Gives the gradient of a convolution's output from that of its activated 2x2 maxima.

    Parameters
    ----------
    dy, y, activation, dintercept
        As in `PlainSource`.
    scratch, masks
        As in `PoolSink`, which has left the masks.
    """

    def __init__(self, dy, y, activation, dintercept, scratch, masks):
        super().__init__(dy, y, activation, dintercept)
        self.pooled, self.pairs = scratch
        self.masks = masks

    def part(self, filters):
        """Return this source: there is one group only."""
        return self

    def block(self, rows, scratch, dz):
        """Write to `scratch`, and return, the gradient of the output `rows`, even columns first.

        Unless the map `dz` is None, it is also written there, its columns in their natural order.
        """
        pooled = slice(rows.start // 2, rows.stop // 2)
        column_mask, row_mask = self.masks
        pairs = self.pairs[: rows.stop - rows.start]
        self._unpool(self.finish(pooled), column_mask[rows], row_mask[pooled], pairs, *scratch)
        if dz is not None:
            width, n_images = dz.shape[2:]
            for phase, part in enumerate(scratch):
                columns = slice(phase, width // 2 * 2, 2)
                dz[rows, :, columns] = part.reshape(*part.shape[:2], -1, n_images)
        return scratch

    def tiles(self, tiles, block, planes):
        """Write the gradient of a block of tiles to `planes`."""
        column_mask, row_mask = (mask[block] for mask in self.masks)
        self.finish(_tile_rows(tiles, block, len(planes) // 2, len(self.dy)))
        read_tiles(tiles, block, self.dy, self.pooled)
        left, right = planes[:, 0::2], planes[:, 1::2]
        self._unpool(self.pooled, column_mask, row_mask, self.pairs, left, right)

    def _unpool(self, dy, column_mask, row_mask, pairs, left, right):
        """Write to `left` and `right` the gradient of pooled values: each goes to its maximum."""
        np.multiply(dy, row_mask, out=pairs[0::2])
        np.subtract(dy, pairs[0::2], out=pairs[1::2])
        np.multiply(pairs, column_mask, out=left)
        np.subtract(pairs, left, out=right)


@lru_cache(maxsize=32)
def _ones(size, dtype):
    return np.ones(size, dtype)


def _tile_rows(tiles, block, height, n_rows):
    """Return the rows of a map of `n_rows` that a block of tiles of some height covers."""
    first, last = block * tiles.rows, (block + 1) * tiles.rows
    return slice(first * height, min(last * height, n_rows))


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
