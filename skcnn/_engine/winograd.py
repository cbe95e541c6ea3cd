"""Winograd's convolution F(4x4, 3x3): a quarter of the multiplications (Lavin and Gray, 2016).

A tile of 6x6 inputs gives 4x4 outputs by 36 products instead of 144. The values of a few rows of
tiles lie in planes, one for each place in a tile, each a matrix of shape (channels, run). So each
transform is one product of a 36x36 or 16x36 matrix with all planes: that takes more operations
than sums of planes would, but on one pass through memory, and products run twenty times as fast
as additions. Backward is the exact adjoint of forward, and shares the transformed inputs and
gradients between filters and input.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from skcnn._engine.blocks import MOVE_FLOPS, TILE_RUN, spaced
from skcnn._engine.buffers import Mask, Scratch
from skcnn._engine.plan import ConvPlan
from skcnn._engine.products import multiply

TILE = 4  # outputs of a tile on each axis
READ = TILE + 2  # inputs that it reads

# The transforms of one axis, for the points 0, 1, -1, 2, -2 and infinity.
_FILTER = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_OUTPUT = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)


# The order in which the columns of a tile's inputs lie: the first transformed column needs the first
# three, the last one the last three, the four between them the four between.
_ORDER = (0, 2, 4, 1, 3, 5)
_FIRST, _INNER, _LAST = slice(0, READ), slice(READ, 5 * READ), slice(5 * READ, 6 * READ)
_EVEN, _ODD = slice(0, 3 * READ), slice(3 * READ, 6 * READ)


@cache
def _transforms(dtype):
    """Return the matrices that transform a filter, the inputs and the products of a whole tile."""
    inputs = np.kron(_INPUT[:, _ORDER], _INPUT)
    matrices = (np.kron(_FILTER, _FILTER), inputs, np.kron(_OUTPUT, _OUTPUT))
    return [matrix.astype(dtype) for matrix in matrices]


def _transform_inputs(matrix, planes):
    """Transform the gathered inputs, leaving out most of the matrix's zeros."""
    for out, places in ((_FIRST, _EVEN), (_INNER, _INNER), (_LAST, _ODD)):
        multiply(matrix[out, places], planes.gathered[places], planes.inputs[out])


def _transform_inputs_back(matrix, planes):
    """Do the adjoint of `_transform_inputs`."""
    multiply(matrix[_FIRST, _FIRST].T, planes.inputs[_FIRST], planes.gathered[_FIRST])
    multiply(matrix[:, _INNER].T, planes.inputs, planes.gathered[_INNER])
    multiply(matrix[_LAST, _LAST].T, planes.inputs[_LAST], planes.gathered[_LAST])


def _n_tiles(axis):
    return -(-axis.n_out // TILE)


@dataclass(frozen=True)
class Tiling:
    """How tiles lie in planes: of each channel a run of the tiles of a block and their images.

    Behind them there are zeros, so that runs and planes lie an odd number of cache lines apart.

    Attributes
    ----------
    plan : ConvPlan
    n_images : int
    rows, columns : int
        Rows of tiles in a block, and tiles in such a row; the last block may reach beyond the map.
    n_blocks : int
    run : int
        Length of a run with the zeros behind it.
    """

    plan: ConvPlan
    n_images: int
    rows: int
    columns: int
    n_blocks: int
    run: int

    @property
    def used(self):
        """Length of a run without the zeros."""
        return self.rows * self.columns * self.n_images

    def tiles(self, planes):
        """Return a view of planes (..., channels, run) as (..., channels, rows, columns, images)."""
        inner = (self.rows, self.columns, self.n_images)
        return planes[..., : self.used].reshape(*planes.shape[:-1], *inner)

    def block_rows(self, block):
        """Yield ``(row in the block, number of this row of tiles)``."""
        return enumerate(range(block * self.rows, (block + 1) * self.rows))


@cache
def tiling(plan, n_images):
    """Return the `Tiling` of a convolution of so many images."""
    columns, n_rows = _n_tiles(plan.columns), _n_tiles(plan.rows)
    n_blocks = -(-n_rows // max(TILE_RUN // (columns * n_images), 1))
    rows = -(-n_rows // n_blocks)
    run = spaced(rows * columns * n_images)
    return Tiling(plan, n_images, rows, columns, -(-n_rows // rows), run)


class TileKernel:
    """The kernel of 3x3 filters of stride one; see `kernels` for the protocol."""

    COLUMN_STEP = TILE

    @staticmethod
    def columns_at_once(plan, n_images):
        """Return how many columns make a run of tiles."""
        return TILE * max(TILE_RUN // n_images, 1)

    def __init__(self, plan):
        self.plan = plan

    @staticmethod
    def cost(plan):
        """Return the operations of all tiles, transforms and copies counted."""
        fits = all(
            axis.size == 3
            and axis.stride == axis.dilation == 1
            and max(axis.before, axis.after) <= 2
            for axis in (plan.rows, plan.columns)
        )
        if not fits or plan.groups != 1:
            return np.inf
        channels, filters = plan.channels, plan.filters
        n_values = READ**2 * channels + TILE**2 * filters
        transforms = 2 * READ**2 * n_values + MOVE_FLOPS * n_values
        tile = 2 * READ**2 * channels * filters + transforms
        return _n_tiles(plan.rows) * _n_tiles(plan.columns) * tile

    def pooled(self):
        """Return this kernel: its tiles are even in height and width."""
        return self

    def buffer_shapes(self, n_images):
        """Return the shapes of the transformed filters and of the planes."""
        plan = self.plan
        channels, filters, run = plan.channels, plan.filters, tiling(plan, n_images).run
        n_places, n_outputs = READ**2, TILE**2
        inputs, products = n_places * spaced(channels * run), n_places * spaced(filters * run)
        return {
            "filters": (n_places, filters, channels),
            "total": Scratch((n_places, filters, channels)),
            "dproduct": Scratch((n_places, filters, channels)),
            "gathered": Scratch((max(inputs, products),)),  # holds the products, too, in forward
            "inputs": Scratch((max(inputs, n_outputs * spaced(filters * run)),)),  # and the outputs
            "products": Scratch((products,)),  # in backward, where they are needed longer
        }

    def pool_shapes(self, n_images):
        """Return the shapes of a 2x2 pooling's masks."""
        tiles = tiling(self.plan, n_images)
        row = self.plan.filters, tiles.run
        return {
            "column_mask": Mask((tiles.n_blocks, 4, 2, *row)),
            "row_mask": Mask((tiles.n_blocks, 2, 2, *row)),
        }

    def pool_scratch(self, work):
        """Return scratch for a block's pooled output and its maxima of pairs.

        It lies where the gathered inputs lie, which are not needed any more by then.
        """
        row = self.plan.filters, tiling(self.plan, work.n_images).run
        memory, arrays = work["gathered"], []
        for shape in ((2, 2, *row), (4, 2, *row)):
            size = math.prod(shape)
            arrays.append(memory[:size].reshape(shape))
            memory = memory[size:]
        return arrays

    def forward(self, x, coef, work, sink):
        """Convolve `x` and hand the result to `sink`, block by block."""
        work.prepare("filters", transform_filters, coef)
        tiles = tiling(self.plan, x.shape[3])
        planes = _Planes(tiles, work, "gathered")
        _, of_inputs, of_products = _transforms(x.dtype)
        for block in range(tiles.n_blocks):
            _gather(tiles, x, block, planes)
            _transform_inputs(of_inputs, planes)
            multiply(work["filters"], planes.input_runs, planes.product_runs)
            multiply(of_products, planes.products, planes.outputs)
            sink.finish_tiles(tiles, block, planes.output_runs)

    def backward(self, x, coef, work, source, dcoef):
        """Write the gradient of the filters to `dcoef`; return the input's if `work` wants it."""
        tiles = tiling(self.plan, x.shape[3])
        planes = _Planes(tiles, work, "products")
        _, of_inputs, of_products = _transforms(x.dtype)
        total, dx = work["total"], work["dx"] if work.needs_dx else None
        total.fill(0)
        for block in range(tiles.n_blocks):
            source.tiles(tiles, block, planes.output_runs)
            multiply(of_products.T, planes.outputs, planes.products)
            _gather(tiles, x, block, planes)
            _transform_inputs(of_inputs, planes)
            inputs = planes.input_runs.transpose(0, 2, 1)
            np.matmul(planes.product_runs, inputs, out=work["dproduct"])
            total += work["dproduct"]
            if dx is not None:
                filters = work["filters"].transpose(0, 2, 1)
                multiply(filters, planes.product_runs, planes.input_runs)
                _transform_inputs_back(of_inputs, planes)
                _scatter(tiles, block, planes.gathered_tiles, dx)
        transform_filters_back(total, dcoef)
        return dx


class _Planes:
    """Buffers of a pass, each as flat planes, as matrices and as tiles.

    Of what follows upon each other every second lies in the same place, so that it stays in cache.
    """

    def __init__(self, tiles, work, products):
        channels, filters, run = tiles.plan.channels, tiles.plan.filters, tiles.run
        self.gathered = _planes(work["gathered"], READ**2, channels * run)
        self.inputs = _planes(work["inputs"], READ**2, channels * run)
        self.products = _planes(work[products], READ**2, filters * run)
        self.outputs = _planes(work["inputs"], TILE**2, filters * run)
        self.input_runs = self.inputs.reshape(-1, channels, run)
        self.product_runs = self.products.reshape(-1, filters, run)
        self.output_runs = self.outputs.reshape(TILE, TILE, filters, run).swapaxes(0, 1)
        gathered_runs = self.gathered.reshape(READ, READ, channels, run)
        self.gathered_tiles = tiles.tiles(gathered_runs)
        self.rests = gathered_runs[..., tiles.used :]


def _planes(memory, n_planes, size):
    """Return planes of a size in a flat array, not too close to each other."""
    whole = memory[: n_planes * spaced(size)].reshape(n_planes, spaced(size))
    return whole[:, :size]


def transform_filters(coef, out):
    """Write the transformed filters to `out`, the buffer "filters" of `forward`."""
    of_filters, _, _ = _transforms(coef.dtype)
    taps = coef.transpose(3, 1, 0, 2).reshape(9, -1)
    np.matmul(of_filters, taps, out=out.reshape(READ**2, -1))


def transform_filters_back(total, dcoef):
    """Do the adjoint of `transform_filters`."""
    of_filters, _, _ = _transforms(total.dtype)
    taps = of_filters.T @ total.reshape(READ**2, -1)
    taps = taps.reshape(3, 3, *total.shape[1:])
    np.copyto(dcoef, taps.transpose(2, 1, 3, 0))


@cache
def _column_slabs(axis):
    """Return ``(tap, place, tiles, positions)``: which input positions the tiles of each tap read.

    On narrow maps a tap may read none.
    """
    slabs = []
    for tap in range(READ):
        shift = tap - axis.before
        first = -(shift // TILE) if shift < 0 else 0
        last = min(_n_tiles(axis), (axis.n_in - 1 - shift) // TILE + 1)
        if first < last:
            positions = slice(first * TILE + shift, (last - 1) * TILE + shift + 1, TILE)
            slabs.append((tap, _ORDER.index(tap), slice(first, last), positions))
        else:
            slabs.append((tap, _ORDER.index(tap), slice(0, 0), slice(0, 0)))
    return slabs


def _gather(tiles, x, block, planes):
    """Gather the inputs of a block of tiles, zeros where they reach beyond the map."""
    planes.rests[...] = 0
    for row, number in tiles.block_rows(block):
        own = planes.gathered_tiles[:, :, :, row]
        first = number * TILE - tiles.plan.rows.before
        start, stop = max(first, 0), max(min(first + READ, len(x)), 0)
        if stop <= start:
            own[...] = 0
            continue
        own[:, : start - first] = 0
        own[:, stop - first :] = 0
        inner = own[:, start - first : stop - first]
        for _, place, reached, columns in _column_slabs(tiles.plan.columns):
            inner[place, :, :, : reached.start] = 0
            inner[place, :, :, reached] = x[start:stop, :, columns]
            inner[place, :, :, reached.stop :] = 0


def _scatter(tiles, block, gathered, dx):
    """Add to `dx` the gradients of a block of tiles' inputs, the adjoint of `_gather`."""
    for row, number in tiles.block_rows(block):
        own = gathered[:, :, :, row]
        first = number * TILE - tiles.plan.rows.before
        # the tiles above have written the first two rows already, but none of the other four
        for taps, begun in ((slice(0, 2), number > 0), (slice(2, READ), False)):
            start, stop = max(first + taps.start, 0), min(first + taps.stop, len(dx))
            if start < stop:
                part = own[:, start - first : stop - first]
                _scatter_columns(tiles.plan.columns, part, dx[start:stop], begun)


def _scatter_columns(axis, part, rows, begun):
    """Write, or if they are `begun` add, to some rows the gradients of their tiles."""
    if not begun:
        rows[:, :, : max(2 - axis.before, 0)] = 0
    slabs = _column_slabs(axis)
    for tap, place, reached, columns in slabs[2:] + slabs[:2]:
        if begun or tap < 2:
            rows[:, :, columns] += part[place, :, :, reached]
        else:
            rows[:, :, columns] = part[place, :, :, reached]
