"""
=================================
Edges in a photo, in three stages
=================================

Two small filters of fixed numbers find the edges of a photo. Two further stages of random filters
look at the result. The page draws every map on the way, in grey first and then in colour, where
a filter has a depth.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm
from sklearn.datasets import load_sample_image
from sklearn.pipeline import make_pipeline

from skcnn import ConvFeatureExtractor

# %%
# A grey photo
# ------------
# The photo comes with scikit-learn. Its grey is the weighted mean of red, green and blue by which
# they appear equally bright, between 0 and 1. X holds many images; here it holds one.

photo = load_sample_image("china.jpg") / 255
grey = photo @ [0.2125, 0.7154, 0.0721]
X = grey[None]
print(photo.shape, grey.shape)
assert photo.shape == (427, 640, 3)

# %%
# Two filters
# -----------
# The first subtracts the column on the left from the column on the right: it answers where
# brightness changes from left to right, at vertical edges. The second subtracts the row below from
# the row above and answers at horizontal edges. Where all is even, both give 0, because their
# weights sum to 0.

edge_filters = np.array(
    [
        [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
        [[1, 1, 1], [0, 0, 0], [-1, -1, -1]],
    ],
    dtype=float,
)
assert (edge_filters.sum(axis=(1, 2)) == 0).all()

# %%
# The convolution
# ---------------
# A 3 x 3 window fits into n rows at n - 2 places. Each value of a map is the sum of the products of
# one window with one filter. Plain NumPy agrees with the package to the last digits.

plain = ConvFeatureExtractor(
    edge_filters, padding="valid", activation="identity", pooling=None, flatten=False
)
edges = plain.fit_transform(X)[0]
assert edges.shape == (425, 638, 2)

windows = np.lib.stride_tricks.sliding_window_view(grey, (3, 3))
np.testing.assert_allclose(edges, np.einsum("ijkl,fkl->ijf", windows, edge_filters), atol=1e-12)

# %%
# What the edges say together
# ---------------------------
# The two maps are the two components of an arrow that points to the brighter side. Its direction is
# drawn as a colour on a circular scale, its length as lightness.


def directions(maps):
    """Return an RGB image: the hue is the direction of brightening, dark where nothing changes."""
    rightward, upward = maps[..., 0], maps[..., 1]
    angle = np.arctan2(upward, rightward)
    length = np.hypot(upward, rightward)
    hue = plt.get_cmap("hsv")((angle + np.pi) / (2 * np.pi))[..., :3]
    return hue * np.clip(length / np.quantile(length, 0.97), 0, 1)[..., None]


figure = plt.figure(figsize=(8, 5.6), layout="constrained")
axes = figure.add_subplot()
axes.imshow(directions(edges))
axes.set_axis_off()
key = axes.inset_axes([0.84, 0.74, 0.15, 0.24])
up, right = np.mgrid[1:-1:101j, -1:1:101j]
disc = directions(np.stack([right, up], axis=-1)) * (np.hypot(up, right) <= 1)[..., None]
key.imshow(disc)
key.set_axis_off()
key.set_title("brighter towards", color="white", fontsize="small", y=0.96)
plt.show()

# %%
# Three stages
# ------------
# A stage is a convolution, ReLU, and the maximum of each 2 x 2 window. The first stage holds the two
# edge filters, the second 3 filters of 5 x 5, the third 1 filter of 7 x 7. From the second stage on
# a filter has as many layers as the stage before has maps, and their responses are added. With
# ``flatten=False`` an extractor returns maps, which the next one takes as images with several
# channels. The random filters stand for the learned ones of a network.

rng = np.random.default_rng(3)
banks = [edge_filters, rng.normal(size=(3, 5, 5, 2)), rng.normal(size=(1, 7, 7, 3))]
stages = make_pipeline(
    *(ConvFeatureExtractor(bank, padding="valid", flatten=False) for bank in banks)
).fit(X)


def sizes(n):
    """Return the rows (or columns) of an image of n after each convolution and each pooling."""
    steps = []
    for size in (3, 5, 7):
        convolved = n - size + 1
        n = convolved // 2
        steps += [convolved, n]
    return steps


print("rows:   ", sizes(427))
print("columns:", sizes(640))
assert sizes(427) == [425, 212, 208, 104, 98, 49]
assert sizes(640) == [638, 319, 315, 157, 151, 75]
assert [stage.output_shape_ for stage in stages] == [(212, 319, 2), (104, 157, 3), (49, 75, 1)]

# %%
# All maps
# --------
# For the pictures each step is taken alone: the responses, what ReLU leaves of them, and the
# maxima.


def steps_of(image, bank):
    """Return the maps of one image after the convolution, ReLU and pooling of one stage."""
    return {
        name: ConvFeatureExtractor(
            bank, padding="valid", flatten=False, activation=activation, pooling=pooling
        ).fit_transform(image[None])[0]
        for name, activation, pooling in (
            ("convolution", "identity", None),
            ("ReLU", "relu", None),
            ("max pooling", "relu", "max"),
        )
    }


def draw_stage(steps, title, **kwargs):
    """Draw the steps side by side, a map a row; convolutions in two colours, the rest in grey."""
    n_maps = steps["ReLU"].shape[2]
    figure, grid = plt.subplots(n_maps, 3, layout="constrained", squeeze=False, **kwargs)
    high = np.quantile(np.abs(steps["convolution"]), 0.99)
    for column, (name, maps) in zip(grid.T, steps.items(), strict=True):
        signed = name == "convolution"
        for axes, one in zip(column, np.moveaxis(maps, -1, 0), strict=True):
            if signed:
                axes.imshow(one, cmap="PuOr", norm=CenteredNorm(halfrange=high))
            else:
                axes.imshow(one, cmap="gray", vmin=0, vmax=high)
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f"{name}\n{maps.shape[0]} x {maps.shape[1]}")
    figure.suptitle(title)


maps = grey
for number, (bank, height) in enumerate(zip(banks, (4.5, 6.3, 2.8), strict=True), start=1):
    steps = steps_of(maps, bank)
    title = f"stage {number}: filters of shape {' x '.join(map(str, bank.shape))}"
    draw_stage(steps, title, figsize=(8, height))
    maps = steps["max pooling"]
plt.show()

np.testing.assert_allclose(maps, stages.transform(X)[0], rtol=1e-10, atol=1e-10)

# %%
# In colour
# ---------
# A colour image has three channels, and a filter that sees them has depth 3: its shape is
# (rows, columns, channels). Each channel meets its own layer of the filter, and the three responses
# are added to one map. The first bank below looks for edges of grey: each layer is
# an edge filter times the share of its colour. So it gives what the grey photo gave.

colours = photo[None]
shares = np.array([0.2125, 0.7154, 0.0721])
deep_filters = edge_filters[..., None] * shares
assert deep_filters.shape == (2, 3, 3, 3)

deep = plain.set_params(filters=deep_filters).fit_transform(colours)[0]
np.testing.assert_allclose(deep, edges, atol=1e-12)

by_channel = [
    plain.set_params(filters=deep_filters[..., k]).fit_transform(photo[None, ..., k])[0]
    for k in range(3)
]
np.testing.assert_allclose(deep, np.sum(by_channel, axis=0), atol=1e-12)

# %%
# The second bank can only be written in depth: red against the other two, and blue against the
# other two. On grey both give 0, whatever the brightness; such filters see hue.

box = np.ones((3, 3, 1)) / 9
opponents = np.stack([box * [1, -0.5, -0.5], box * [-0.5, -0.5, 1]])
opponent_maps = plain.set_params(filters=opponents).fit_transform(colours)[0]
np.testing.assert_allclose(
    plain.transform(np.repeat(grey[None, ..., None], 3, axis=-1)), 0, atol=1e-12
)

figure, axes = plt.subplots(1, 3, figsize=(8, 2.3), layout="constrained")
axes[0].imshow(photo)
axes[0].set_title("three channels")
for k, (name, colormap) in enumerate([("red", "PRGn_r"), ("blue", "PuOr")]):
    drawn = axes[k + 1].imshow(
        opponent_maps[..., k],
        cmap=colormap,
        norm=CenteredNorm(halfrange=np.abs(opponent_maps).max()),
    )
    axes[k + 1].set_title(f"{name} against the others")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()
