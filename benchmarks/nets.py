"""The networks of the speed benchmarks, in skcnn and in torch, and random data for them."""

import numpy as np

from skcnn.layers import AvgPool, Conv, Dense, GlobalAvgPool, MaxPool

BATCH = 128

# name: (image shape, layers, images in a training epoch, images to predict)
NETS = {
    "small": ((28, 28, 1), (Conv(8), MaxPool()), 51200, 51200),
    "LeNet-5": (
        (28, 28, 1),
        (
            Conv(6, 5, padding=2, activation="tanh"),
            AvgPool(),
            Conv(16, 5, padding="valid", activation="tanh"),
            AvgPool(),
            Conv(120, 5, padding="valid", activation="tanh"),
            Dense(84, activation="tanh"),
        ),
        25600,
        25600,
    ),
    "mnistnet": (
        (28, 28, 1),
        (Conv(32, padding="valid"), MaxPool(), Conv(64, padding="valid"), MaxPool(), Dense(128)),
        10240,
        10240,
    ),
    "cifarnet": (
        (32, 32, 3),
        (Conv(32), Conv(32), MaxPool(), Conv(64), Conv(64), MaxPool(), Dense(128)),
        2560,
        5120,
    ),
    "wide": (
        (32, 32, 3),
        (Conv(64), Conv(128), MaxPool(), Conv(128), GlobalAvgPool()),
        512,
        1024,
    ),
}


def random_data(image_shape, n_images, seed=0):
    """Return float32 images and labels 0 to 9."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_images, *image_shape), dtype=np.float32)
    return X, np.arange(n_images) % 10


def torch_module(layers, image_shape, n_outputs=10):
    """Return the same network as a `torch.nn.Sequential`, without weights copied."""
    from torch import nn

    activations = {"relu": nn.ReLU, "tanh": nn.Tanh}
    modules, shape, flat = [], image_shape, False
    for layer in layers:
        if isinstance(layer, Conv):
            kernel = layer.kernel_size
            padding = {"same": kernel // 2, "valid": 0}.get(layer.padding, layer.padding)
            modules.append(nn.Conv2d(shape[2], layer.filters, kernel, padding=padding))
            modules.append(activations[layer.activation]())
        elif isinstance(layer, MaxPool):
            modules.append(nn.MaxPool2d(layer.pool_size))
        elif isinstance(layer, AvgPool) and not isinstance(layer, GlobalAvgPool):
            modules.append(nn.AvgPool2d(layer.pool_size))
        elif isinstance(layer, GlobalAvgPool):
            modules.append(nn.AdaptiveAvgPool2d(1))
        else:
            if not flat:
                modules.append(nn.Flatten())
                flat = True
            modules.append(nn.Linear(int(np.prod(shape)), layer.units))
            modules.append(activations[layer.activation]())
        shape = layer.output_shape(shape)
    if not flat:
        modules.append(nn.Flatten())
    return nn.Sequential(*modules, nn.Linear(int(np.prod(shape)), n_outputs))


def copy_weights(clf, module):
    """Copy a fitted classifier's weights into the torch module of the same network."""
    import torch

    learned = [m for m in module if hasattr(m, "weight")]
    with torch.no_grad():
        for m, coef, intercept in zip(learned, clf.coefs_, clf.intercepts_, strict=True):
            value = coef.transpose(0, 3, 1, 2) if coef.ndim == 4 else coef.T
            m.weight.copy_(torch.from_numpy(np.ascontiguousarray(value)))
            m.bias.copy_(torch.from_numpy(intercept.copy()))
