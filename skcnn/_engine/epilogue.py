"""What happens to a convolution's output while it is in cache, and the way back.

A `sink` takes the output of a convolution block by block, a `source` gives the gradient of that
output back in the same blocks. Blocks come in two layouts: rows (phases, rows, filters, columns *
images) and tiles (tile rows, tile columns, filters, run), whose run is that of a `Tiling`.
"""

import numpy as np

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


class PlainSource:
    """Gives the gradient `dz` of a convolution's output."""

    def __init__(self, dz):
        self.dz = dz
        self.runs = merge_runs(dz)

    def block(self, rows):
        """Return the gradient of the output `rows`."""
        return self.runs[None, rows]

    def tiles(self, tiles, block, planes):
        """Write the gradient of a block of tiles."""
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


class PoolSource:
    """Gives the gradient of a convolution's output from the gradient `dy` of its 2x2 maxima."""

    def __init__(self, dy, dz, pair_gradient, masks):
        self.dy = dy
        self.dz = dz
        self.pair_gradient = pair_gradient
        self.masks = masks

    def block(self, rows):
        """Return the gradient of the output `rows`, even and odd columns apart."""
        pooled = slice(rows.start // 2, rows.stop // 2)
        n_rows = rows.stop - rows.start
        best = self.pair_gradient[:n_rows]
        dz = self.dz[:, :n_rows, :, : best.shape[2]]
        column_mask, row_mask = self.masks
        self._spread(merge_runs(self.dy)[pooled], column_mask[rows], row_mask[pooled], best, *dz)
        return dz

    def tiles(self, tiles, block, planes):
        """Write the gradient of a block of tiles."""
        column_mask, row_mask = (mask[block] for mask in self.masks)
        read_tiles(tiles, block, self.dy, self.dz)
        left, right = planes[:, 0::2], planes[:, 1::2]
        self._spread(self.dz, column_mask, row_mask, self.pair_gradient, left, right)

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
