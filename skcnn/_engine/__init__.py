"""Pure NumPy kernels on arrays of shape (rows, channels, columns, images). Knows no estimator."""
