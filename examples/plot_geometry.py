"""
==================================================
Sizes: padding, stride, pooling, channels, weights
==================================================

How large is the output of a convolution, and how many weights does it have? A formula answers the
first question, a product the second. This page illustrates both, checks them against the package's
layers, and shows why a dense layer on all pixels of a photo has too many weights.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from sklearn.datasets import load_sample_image

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import AvgPool, Conv, Dense, MaxPool

# %%
# The formula
# -----------
# A window of ``size`` pixels moves over ``n`` pixels in steps of ``stride``, with ``padding`` zeros
# added on each side. The number of places where it fits is::
#
#    floor((n + 2 * padding - size) / stride) + 1


def n_places(n, size, padding=0, stride=1):
    """Return the number of outputs along one axis."""
    return (n + 2 * padding - size) // stride + 1


cases = [
    (6, 3, 0, 1, "each side loses a pixel"),
    (6, 3, 1, 1, "the size is kept: padding='same'"),
    (7, 3, 0, 2, "every second place"),
    (32, 5, 0, 1, "the first layer of LeNet-5"),
    (28, 5, 2, 1, "a 5 x 5 window that keeps the size"),
    (224, 7, 3, 2, "the first layer of many photo networks"),
]
table = pd.DataFrame(cases, columns=["n", "size", "padding", "stride", "what it is"])
table.insert(4, "output", [n_places(*case[:4]) for case in cases])
for n, size, padding, stride, output in table.iloc[:, :5].itertuples(index=False):
    layer = Conv(8, size, padding=padding, stride=stride)
    assert layer.output_shape((n, n, 1)) == (output, output, 8)
assert table["output"].tolist() == [4, 6, 3, 28, 28, 112]
table

# %%
# The figure shows this for a window of 3 x 3. Each dot is the centre of a window and becomes one
# pixel of the output; the first and the last window are outlined.


def draw_windows(axes, n, size, padding, stride):
    """Draw an image of n x n pixels, its padding and the windows over it."""
    whole = n + 2 * padding
    for row in range(whole):
        for column in range(whole):
            inside = padding <= row < n + padding and padding <= column < n + padding
            colour = "#cfe3f3" if inside else "#f0f0f0"
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="0.6"))
            if not inside:
                axes.text(column + 0.5, row + 0.5, "0", ha="center", va="center", color="0.5")
    count = n_places(n, size, padding, stride)
    starts = stride * np.arange(count)
    for start, colour in ((starts[0], "#d55e00"), (starts[-1], "#0072b2")):
        outline = Rectangle((start, start), size, size, fill=False, edgecolor=colour, linewidth=3)
        axes.add_patch(outline)
    middles = starts + size / 2
    axes.plot(*(grid.ravel() for grid in np.meshgrid(middles, middles)), "ko", markersize=4)
    axes.set(xlim=(-0.1, whole + 0.1), ylim=(whole + 0.1, -0.1), aspect="equal")
    axes.set_title(f"padding {padding}, stride {stride}\n{n} x {n} becomes {count} x {count}")
    axes.axis("off")


figure, axes = plt.subplots(1, 4, figsize=(9, 2.9), layout="constrained")
for ax, (padding, stride) in zip(axes, [(0, 1), (1, 1), (0, 2), (1, 2)], strict=True):
    draw_windows(ax, 7, 3, padding, stride)
plt.show()

# %%
# Pooling
# -------
# Pooling follows the same formula; by default its stride equals the size of its window. It has no
# weights. The maximum shows whether a feature occurs in the window, the mean how strongly.

values = np.array([[1, 3, 2, 9], [5, 6, 1, 7], [4, 2, 8, 6], [3, 5, 7, 2]], dtype=float)
identity = np.ones((1, 1, 1))
pooled = {
    reduce: ConvFeatureExtractor(
        identity, activation="identity", pooling=reduce, pool_size=2, flatten=False
    ).fit_transform(values[None])[0, ..., 0]
    for reduce in ("max", "avg")
}
np.testing.assert_array_equal(pooled["max"], [[6, 9], [5, 8]])
np.testing.assert_array_equal(pooled["avg"], [[3.75, 4.75], [3.5, 5.75]])
assert MaxPool().output_shape((4, 4, 1)) == AvgPool().output_shape((4, 4, 1)) == (2, 2, 1)

figure, axes = plt.subplots(
    1, 3, figsize=(7.2, 2.9), width_ratios=(2, 1.2, 1.2), layout="constrained"
)
corners = [["#56b4e9", "#e69f00"], ["#009e73", "#cc79a7"]]
for ax, (title, shown) in zip(axes, {"a map": values, **pooled}.items(), strict=True):
    step = len(shown) // 2
    for (row, column), value in np.ndenumerate(shown):
        colour = corners[row // step][column // step]
        cell = Rectangle((column, row), 1, 1, facecolor=colour, alpha=0.55, edgecolor="white")
        ax.add_patch(cell)
        ax.text(column + 0.5, row + 0.5, f"{value:g}", ha="center", va="center", fontsize=13)
    ax.set(xlim=(0, len(shown)), ylim=(len(shown), 0), aspect="equal")
    ax.set_title({"max": "largest of 2 x 2", "avg": "mean of 2 x 2"}.get(title, title))
    ax.axis("off")
plt.show()

# %%
# Colour: filters with depth
# --------------------------
# A colour image has three channels, and so has each filter: it has 3 x 3 x 3 weights, and their
# products with the pixels are added to one number. The output has one channel for each filter,
# whatever the number of input channels. A filter that is positive in red and negative in blue
# responds to warm colours, whatever the shape.

photo = load_sample_image("flower.jpg")[::2, ::2]
warm = np.zeros((1, 3, 3, 3))
warm[..., 0], warm[..., 2] = 1 / 9, -1 / 9  # red speaks for it, blue against
edge = np.zeros((1, 3, 3, 3))
edge[0, :, 0], edge[0, :, 2] = -1 / 9, 1 / 9  # bright on the right, in every channel
filters = np.concatenate([warm, edge])
layer = Conv(2)
assert layer.output_shape(photo.shape) == (*photo.shape[:2], 2)
assert layer.weight_shapes(photo.shape)["coef"] == (2, 3, 3, 3)  # filters, rows, channels, columns

maps = ConvFeatureExtractor(filters, activation="identity", pooling=None, flatten=False)
maps = maps.fit_transform(photo[None])[0]
figure, axes = plt.subplots(1, 3, figsize=(9, 2.5), layout="constrained")
axes[0].imshow(photo)
for ax, shown, title in zip(
    axes[1:], np.moveaxis(maps, 2, 0), ["red, not blue", "edges"], strict=True
):
    limit = np.percentile(np.abs(shown), 99.5)
    ax.imshow(shown, cmap="PuOr_r", vmin=-limit, vmax=limit)
    ax.set_title(title)
axes[0].set_title(f"{photo.shape[0]} x {photo.shape[1]} pixels, 3 channels")
for ax in axes:
    ax.axis("off")
plt.show()

# %%
# Weights: dense against convolutional
# ------------------------------------
# A dense layer has a weight for every pair of input and unit. A colour image of 64 x 64 pixels has
# 12,288 inputs, one of 1,000 x 1,000 pixels three million. The number of weights of a convolution
# does not depend on the size of the image, because it uses the same weights at every place.

sides = np.array([16, 32, 64, 128, 256, 512, 1000])
assert 64 * 64 * 3 == 12_288


def n_weights(layer, side):
    """Return the number of weights of a layer on colour images."""
    return sum(np.prod(shape) for shape in layer.weight_shapes((side, side, 3)).values())


dense = [n_weights(Dense(1000), side) for side in sides]
convolution = [n_weights(Conv(100, 5), side) for side in sides]
assert dense[2] == 12_288 * 1000 + 1000
assert dense[-1] == 3_000_000 * 1000 + 1000  # three thousand million
assert set(convolution) == {100 * (5 * 5 * 3 + 1)}  # 7,600

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.loglog(sides, dense, "o-", color="#d55e00", label="Dense(1000)")
ax.loglog(sides, convolution, "s-", color="#0072b2", label="Conv(100, 5)")
for side, text in (
    (64, "12,288 inputs:\n12 million weights"),
    (1000, "3 million inputs:\n3 billion"),
):
    at = dense[list(sides).index(side)]
    ax.annotate(text, (side, at), (-8, 2), textcoords="offset points", ha="right", va="bottom")
ax.annotate("7,600 weights", (256, 7600), (0, 8), textcoords="offset points", ha="center")
ax.set(xlabel="side of the image, pixels", ylabel="weights of the layer", ylim=(1e3, 3e10))
ax.set_xticks(sides, map(str, sides))
ax.minorticks_off()
ax.legend(loc="center right")
plt.show()

# %%
# `summary` lists the weights of a whole network on colour images of 64 x 64 pixels, without
# training. Most of the weights are those of the first dense layer, which is why pooling layers come
# before it.

clf = CNNClassifier((Conv(32), MaxPool(), Conv(64), MaxPool(), Conv(64), MaxPool(), Dense(64)))
clf.summary((64, 64, 3), n_outputs=10)
