"""
=================================
Edges in a photo, in three stages
=================================

Two small filters with fixed weights find the edges of a photo, and two further stages of random
filters process the result. The page draws every intermediate map, first for a grey photo and then
for colour, where each filter has a weight for every channel.
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
# The photo comes with scikit-learn. Its grey version is a weighted mean of red, green and blue with
# values between 0 and 1; the weights are those by which the eye judges brightness. X is an array of
# images; here it holds only one.

photo = load_sample_image("china.jpg") / 255
grey = photo @ [0.2125, 0.7154, 0.0721]
X = grey[None]
print(photo.shape, grey.shape)
assert photo.shape == (427, 640, 3)

# %%
# Two filters
# -----------
# The first filter subtracts the column on the left from the column on the right, so it responds
# where brightness changes from left to right: at vertical edges. The second filter subtracts the
# row below from the row above and responds at horizontal edges. Where brightness is constant, both
# give 0, because their weights sum to 0.

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
# one window with one filter. The same sums computed with NumPy agree with the package up to
# rounding.

plain = ConvFeatureExtractor(
    edge_filters, padding="valid", activation="identity", pooling=None, flatten=False
)
edges = plain.fit_transform(X)[0]
assert edges.shape == (425, 638, 2)

windows = np.lib.stride_tricks.sliding_window_view(grey, (3, 3))
np.testing.assert_allclose(edges, np.einsum("ijkl,fkl->ijf", windows, edge_filters), atol=1e-12)

# %%
# Both maps in one picture
# ------------------------
# The figure shows vertical edges in orange and horizontal edges in blue. Where both filters
# respond, at slanted edges and corners, the two colours add up to white.


def glow(maps):
    """Return an RGB image of the strength of two maps: orange and blue light on black."""
    strength = np.abs(maps) / np.quantile(np.abs(maps), 0.98)
    return np.clip(strength @ [[1.0, 0.55, 0.1], [0.1, 0.45, 1.0]], 0, 1)


def draw_glow(maps):
    """Draw two maps of edges over each other."""
    figure = plt.figure(figsize=(8, 8 * maps.shape[0] / maps.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(glow(maps))
    axes.set_axis_off()
    style = {"transform": axes.transAxes, "fontsize": "large", "ha": "right"}
    style["bbox"] = {"facecolor": "black", "pad": 3}
    axes.text(0.98, 0.94, "vertical edges", color=(1.0, 0.6, 0.2), **style)
    axes.text(0.98, 0.88, "horizontal edges", color=(0.3, 0.6, 1.0), **style)


draw_glow(edges)
plt.show()

# %%
# Three stages
# ------------
# A stage consists of a convolution, ReLU, and max pooling over windows of 2 x 2. The first stage
# has the two edge filters, the second stage 3 filters of 5 x 5, the third stage 1 filter of 7 x 7.
# From the second stage on a filter has as many channels as the previous stage has maps, and the
# responses of the channels are added. With ``flatten=False`` an extractor returns maps, which the
# next extractor takes as images with several channels. Random filters take the place of those that
# a network would learn.

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
# `trace` returns every array between an image and its features by name: the responses, the
# responses after ReLU, and the pooled maps.


def draw_stage(trace, title, **kwargs):
    """Draw the steps of a stage side by side, a map a row; responses in colour, the rest in grey."""
    steps = {name: trace[name][0] for name in ("0 Conv", "0 Conv relu", "1 MaxPool")}
    n_maps = steps["0 Conv"].shape[2]
    figure, grid = plt.subplots(n_maps, 3, layout="constrained", squeeze=False, **kwargs)
    high = np.quantile(np.abs(steps["0 Conv"]), 0.99)
    responses = {"cmap": "PuOr_r", "norm": CenteredNorm(halfrange=high)}
    rectified = {"cmap": "gray", "vmin": 0, "vmax": high}
    for column, (name, maps) in zip(grid.T, steps.items(), strict=True):
        for axes, one in zip(column, np.moveaxis(maps, -1, 0), strict=True):
            axes.imshow(one, **(responses if name == "0 Conv" else rectified))
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f"{name}\n{maps.shape[0]} x {maps.shape[1]}")
    figure.suptitle(title)


maps = X
for number, (stage, height) in enumerate(zip(stages, (4.3, 6.2, 2.5), strict=True), start=1):
    trace = stage.trace(maps)
    shape = " x ".join(map(str, stage.filters_.shape))
    draw_stage(trace, f"stage {number}: filters of shape {shape}", figsize=(8, height))
    maps = trace["output"]
plt.show()

np.testing.assert_allclose(maps, stages.transform(X), rtol=1e-10, atol=1e-10)

# %%
# In colour
# ---------
# A colour image has three channels, and so has a filter for it: its shape is (rows, columns,
# channels). Each channel of the image is convolved with its channel of the filter, and the three
# responses are added to one map. The first bank below detects edges in brightness: each channel of
# a filter is an edge filter times the weight of that colour in grey. So it gives the same maps as
# the grey photo.

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
# The second bank needs filters with channels: one contrasts red with the other two colours, the
# other contrasts blue with the other two. On grey pixels both give 0, whatever the brightness, so
# these filters respond to hue.

box = np.ones((3, 3, 1)) / 9
opponents = np.stack([box * [1, -0.5, -0.5], box * [-0.5, -0.5, 1]])
opponent_maps = plain.set_params(filters=opponents).fit_transform(colours)[0]
np.testing.assert_allclose(
    plain.transform(np.repeat(grey[None, ..., None], 3, axis=-1)), 0, atol=1e-12
)

figure, axes = plt.subplots(1, 3, figsize=(8, 2.1), layout="constrained")
axes[0].imshow(photo)
axes[0].set_title("three channels")
norm = CenteredNorm(halfrange=np.abs(opponent_maps).max())
for k, name in enumerate(["red", "blue"]):
    drawn = axes[k + 1].imshow(opponent_maps[..., k], cmap="PuOr_r", norm=norm)
    axes[k + 1].set_title(f"{name} against the others")
figure.colorbar(drawn, ax=axes, shrink=0.75, label="response")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Another photo
# -------------
# If scikit-image is installed, the two edge filters are applied to its photo of a cat as well.

try:
    from skimage.data import chelsea
except ImportError:
    print("scikit-image is not installed")
else:
    cat = chelsea() @ shares / 255
    draw_glow(plain.set_params(filters=edge_filters).fit_transform(cat[None])[0])
    plt.show()
