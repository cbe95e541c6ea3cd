"""Numerical kernels: convolution, pooling, activations, losses, warping.

What comes in are arrays in the engine's layout, (rows, channels, columns, images), geometry and
weights; results are written to arrays that the caller hands in (``out=``, buffers of a workspace).
`kernels` chooses how a convolution is computed. This folder must know nothing of layers, networks,
training or estimators, and nothing but NumPy and SciPy: it is the part to read for how fast things
are done, and the part to change to make them faster.
"""
