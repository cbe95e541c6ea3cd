"""Winograd's convolution F(4x4, 3x3): a quarter of the multiplications (Lavin and Gray, 2016).

A tile of 6x6 inputs gives 4x4 outputs by 36 products instead of 144. One row of tiles is worked on
at a time. Its values are kept in planes, arrays of shape (6, 6, channels, tiles, images), so that
every step of the transforms runs over long contiguous arrays. Backward is the exact adjoint of
forward, and shares the transformed inputs and gradients between filters and input.
"""

from functools import cache

import numpy as np

from skcnn._engine.blocks import ADDITION_FLOPS

TILE = 4  # outputs of a tile on each axis; it reads TILE + 2 inputs

# Transform of three filter taps to six numbers, for the points 0, 1, -1, 2, -2 and infinity.
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
_FILTER_2D = np.kron(_FILTER, _FILTER)

# Elementwise operations for each channel and each filter of an output, forward, counted below.
_CHANNEL_STEPS, _FILTER_STEPS = 13, 9


@cache
def pays(plan):
    """Whether the tiles need fewer operations than the rows, transforms counted."""
    three = all(
        axis.size == 3 and axis.stride == axis.dilation == 1 and max(axis.before, axis.after) <= 2
        for axis in (plan.rows, plan.columns)
    )
    if not three or plan.groups != 1:
        return False
    products = 2 * plan.channels * plan.filters
    direct = products * 9 + ADDITION_FLOPS * (3 * plan.channels + 2 * plan.filters)
    steps = _CHANNEL_STEPS * plan.channels + _FILTER_STEPS * plan.filters
    tiled = products * 36 / TILE**2 + ADDITION_FLOPS * steps
    n_tiles = _n_tiles(plan.rows) * _n_tiles(plan.columns)
    return n_tiles * TILE**2 * tiled < plan.rows.n_out * plan.columns.n_out * direct


def _n_tiles(axis):
    return -(-axis.n_out // TILE)


def n_tile_rows(plan):
    """Return the number of rows of tiles."""
    return _n_tiles(plan.rows)


def planes_shape(plan, n_images):
    """Return the shape of a row of output tiles: (4, 4, filters, tiles, images)."""
    return (TILE, TILE, plan.filters, _n_tiles(plan.columns), n_images)


def buffer_shapes(plan, n_images):
    """Return the shapes of the buffers that `forward` and `backward` need."""
    n_tiles = _n_tiles(plan.columns)
    channels, filters, width = plan.channels, plan.filters, plan.columns.n_in
    return {
        "filters": (36, filters, channels),
        "dfilters": (36, filters, channels),
        "dproduct": (36, filters, channels),
        "zero_row": (channels, width, n_images),
        "row_planes": (6, channels, width, n_images),
        "gathered": (6, 6, channels, n_tiles, n_images),
        "inputs": (6, 6, channels, n_tiles, n_images),
        "products": (6, 6, filters, n_tiles, n_images),
        "half": (4, 6, filters, n_tiles, n_images),
        "outputs": (4, 4, filters, n_tiles, n_images),
        "row_scratch": (3, channels, width, n_images),
        "input_scratch": (3, 6, channels, n_tiles, n_images),
        "output_scratch": (2, 6, filters, n_tiles, n_images),
    }


def forward(plan, x, coef, work, sink):
    """Convolve `x` and hand the result to `sink`, one row of tiles after the other."""
    _transform_filters(coef, work["filters"])
    for i in range(n_tile_rows(plan)):
        _transform_inputs(plan, x, i, work)
        _multiply(work["filters"], work["inputs"], work["products"])
        _outputs_of(work["products"], work["half"], work["output_scratch"])
        scratch = work["output_scratch"][:, :TILE]
        _outputs_of(work["half"].swapaxes(0, 1), work["outputs"], scratch)
        sink.finish_tiles(i, work["outputs"])


def backward(plan, x, coef, source, work, dcoef, dx):
    """Write the gradients of the filters and, unless `dx` is None, of the input.

    ``source.tiles(i, outputs)`` writes the gradient of a row of output tiles, zero beyond the map.
    `work` is that of the last `forward`, whose transformed filters are used again.
    """
    total = work["dfilters"]
    total.fill(0)
    for i in range(n_tile_rows(plan)):
        source.tiles(i, work["outputs"])
        _outputs_adjoint(work["outputs"], work["half"].swapaxes(0, 1), work)
        _outputs_adjoint(work["half"], work["products"], work)
        _transform_inputs(plan, x, i, work)
        gradients = work["products"].reshape(36, plan.filters, -1)
        inputs = work["inputs"].reshape(36, plan.channels, -1)
        np.matmul(gradients, inputs.transpose(0, 2, 1), out=work["dproduct"])
        total += work["dproduct"]
        if dx is not None:
            _multiply(work["filters"].transpose(0, 2, 1), work["products"], work["inputs"])
            _inputs_adjoint(plan, i, work, dx)
    taps = _FILTER_2D.T.astype(total.dtype) @ total.reshape(36, -1)
    taps = taps.reshape(3, 3, plan.filters, plan.channels)
    np.copyto(dcoef, taps.transpose(2, 1, 3, 0))


def _transform_filters(coef, out):
    """Write the transformed filters, column frequencies first."""
    filters, _, channels, _ = coef.shape
    taps = coef.transpose(3, 1, 0, 2).reshape(9, filters * channels)
    np.matmul(_FILTER_2D.astype(coef.dtype), taps, out=out.reshape(36, filters * channels))


def _multiply(left, planes, out):
    """Multiply each of the 36 planes by its matrix."""
    run = planes.shape[3] * planes.shape[4]
    np.matmul(left, planes.reshape(36, -1, run), out=out.reshape(36, -1, run))


@cache
def _tile_slabs(axis):
    """Return ``(tap, tiles, positions)`` for each tap: which input positions its tiles read.

    On narrow maps a tap may read none.
    """
    slabs = []
    for tap in range(TILE + 2):
        shift = tap - axis.before
        first = -(shift // TILE) if shift < 0 else 0
        last = min(_n_tiles(axis), (axis.n_in - 1 - shift) // TILE + 1)
        if first < last:
            positions = slice(first * TILE + shift, (last - 1) * TILE + shift + 1, TILE)
            slabs.append((tap, slice(first, last), positions))
        else:
            slabs.append((tap, slice(0, 0), slice(0, 0)))
    return slabs


def _transform_inputs(plan, x, i, work):
    """Write to ``work["inputs"]`` the transformed inputs of a row of tiles: rows, then columns."""
    first = i * TILE - plan.rows.before
    n_rows = len(x)
    zero = work["zero_row"]
    rows = [x[r] if 0 <= r < n_rows else zero for r in range(first, first + TILE + 2)]
    row_planes, gathered = work["row_planes"], work["gathered"]
    _inputs_of(rows, row_planes, work["row_scratch"])
    for tap, tiles, columns in _tile_slabs(plan.columns):
        gathered[tap][:, :, : tiles.start] = 0
        gathered[tap][:, :, tiles] = row_planes[:, :, columns]
        gathered[tap][:, :, tiles.stop :] = 0
    _inputs_of(gathered, work["inputs"], work["input_scratch"])


def _inputs_of(d, out, scratch):
    """Transform six inputs: `out` is the matrix B' of the method times `d`."""
    a, b = scratch[:2]
    np.multiply(d[2], 4, out=a)
    np.subtract(d[4], a, out=a)
    np.multiply(d[1], 4, out=b)
    np.subtract(d[3], b, out=b)
    np.add(a, b, out=out[1])
    np.subtract(a, b, out=out[2])
    np.subtract(d[4], d[2], out=a)
    np.subtract(d[3], d[1], out=b)
    b *= 2
    np.add(a, b, out=out[3])
    np.subtract(a, b, out=out[4])
    np.subtract(d[0], d[2], out=out[0])
    out[0] *= 4
    out[0] += a
    np.subtract(d[5], d[3], out=out[5])
    b *= 2
    out[5] -= b


def _inputs_adjoint(plan, i, work, dx):
    """Add to `dx` the gradient of a row of tiles, whose transform is in ``work["inputs"]``."""
    gathered, row_planes = work["gathered"], work["row_planes"]
    _six_adjoint(work["inputs"], gathered, work["input_scratch"])
    before = plan.columns.before
    row_planes[:, :, : max(2 - before, 0)] = 0
    slabs = list(_tile_slabs(plan.columns))
    for tap, tiles, columns in [s for s in slabs if s[0] >= 2] + [s for s in slabs if s[0] < 2]:
        if tap >= 2:
            row_planes[:, :, columns] = gathered[tap][:, :, tiles]
        else:
            row_planes[:, :, columns] += gathered[tap][:, :, tiles]
    # the first two rows were begun by the tiles above; nobody has written the other four
    first, n_rows = i * TILE - plan.rows.before, len(dx)
    spare = work["gathered"].reshape(-1)[: row_planes.size].reshape(row_planes.shape)
    rows = [
        dx[first + r] if r >= 2 and 0 <= first + r < n_rows else spare[r] for r in range(TILE + 2)
    ]
    _six_adjoint(row_planes, rows, work["row_scratch"])
    for r in range(2):
        if 0 <= first + r < n_rows:
            if i == 0:
                np.copyto(dx[first + r], rows[r])
            else:
                dx[first + r] += rows[r]


def _six_adjoint(o, d, scratch):
    """Write to `d` the adjoint of `_inputs_of`: the matrix B times `o`."""
    p, s, u = scratch
    np.multiply(o[0], 4, out=d[0])
    np.add(o[1], o[2], out=p)
    np.add(o[3], o[4], out=u)
    u += o[0]
    np.add(u, p, out=d[4])
    p *= -3
    np.subtract(p, d[4], out=d[2])
    d[2] -= d[0]
    np.subtract(o[2], o[1], out=s)
    s += o[5]
    np.subtract(o[4], o[3], out=u)
    u *= 2
    np.multiply(s, 4, out=d[1])
    d[1] += u
    s += u
    np.multiply(o[5], -4, out=d[3])
    d[3] -= s
    np.copyto(d[5], o[5])


def _outputs_of(m, y, scratch):
    """Transform six products to four outputs: the matrix A' of the method times `m`."""
    s, u = scratch
    np.add(m[1], m[2], out=s)
    np.add(m[3], m[4], out=u)
    np.add(m[0], s, out=y[0])
    y[0] += u
    u *= 4
    np.add(s, u, out=y[2])
    np.subtract(m[1], m[2], out=s)
    np.subtract(m[3], m[4], out=u)
    u *= 2
    np.add(s, u, out=y[1])
    u *= 4
    s += u
    np.add(s, m[5], out=y[3])


def _outputs_adjoint(y, m, work):
    """Write to `m` the adjoint of `_outputs_of`: the matrix A times the gradients `y`."""
    s, u = work["output_scratch"][:, : y.shape[1]]
    np.copyto(m[0], y[0])
    np.copyto(m[5], y[3])
    np.add(y[0], y[2], out=s)
    np.add(y[1], y[3], out=u)
    np.add(s, u, out=m[1])
    np.subtract(s, u, out=m[2])
    np.multiply(y[2], 4, out=s)
    s += y[0]
    np.multiply(y[3], 4, out=u)
    u += y[1]
    u *= 2
    np.add(s, u, out=m[3])
    np.subtract(s, u, out=m[4])
