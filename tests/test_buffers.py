"""Memory for buffers: zeros, apart from each other, and scratch that layers share."""

import numpy as np
import pytest

from skcnn._engine.buffers import Buffers, Scratch


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64])
def test_arrays_are_zeros_and_apart(dtype):
    buffers = Buffers()
    arrays = [buffers.array((n, 7), dtype) for n in (3, 50_000, 1)]
    for number, array in enumerate(arrays):
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert not array.any()
        array[...] = number
    for number, array in enumerate(arrays):
        assert (array == dtype(number)).all()


@pytest.mark.parametrize("n", [30, 100_000])
def test_scratch_of_a_layer_lies_apart_and_over_that_of_others(n):
    buffers = Buffers()
    for shapes in [[Scratch((3, n)), (n, 50), Scratch((n,))], [Scratch((n, 5))]]:
        buffers.reserve(shapes, np.float64)
    first, end = buffers.scratch(0, (3, n), np.float64)
    second, _ = buffers.scratch(end, (n,), np.float64)
    other, _ = buffers.scratch(0, (n, 5), np.float64)
    assert not np.shares_memory(first, second)
    assert np.shares_memory(first, other)
    for array in (first, second, other):
        assert array.flags.c_contiguous
        assert array.ctypes.data % array.itemsize == 0
