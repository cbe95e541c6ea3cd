"""
===========================================
The digit nine, every number worked by hand
===========================================

A nine of 7 rows and 5 columns passes through a convolution, a rectifier and a pooling. The image
and the three filters hold only 1 and -1, so you can compute each intermediate number on paper, and
this page does so. In the end a classifier of scikit-learn is trained on the features of ten such
digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.layers import Conv, MaxPool

# %%
# The image and the filters
# -------------------------
# A white pixel is 1 and a black pixel is -1. Each filter is a small picture of the shape that it
# detects: a ring around a dark centre, a vertical line, a diagonal line. The filters are divided by
# 9, the number of their weights, so that a response is the mean of nine products. A response of 1
# means that all nine pixels agree with the filter.

nine = np.array(
    [
        [-1, 1, 1, 1, -1],
        [-1, 1, -1, 1, -1],
        [-1, 1, 1, 1, -1],
        [-1, -1, -1, 1, -1],
        [-1, -1, -1, 1, -1],
        [-1, -1, 1, -1, -1],
        [-1, 1, -1, -1, -1],
    ]
)
shapes = {
    "box": [[1, 1, 1], [1, -1, 1], [1, 1, 1]],
    "vertical": [[-1, 1, -1], [-1, 1, -1], [-1, 1, -1]],
    "diagonal": [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]],
}
filters = np.array(list(shapes.values())) / 9

# %%
# One window
# ----------
# Place the box filter on the window at the top, with its left edge in the second column. The ring
# of the nine fits the ring of the filter, and the dark pixel inside it fits the centre. All nine
# products are 1, and so is their mean.

window = nine[0:3, 1:4]
products = window * shapes["box"]
print(products)
assert products.sum() == 9

# One column to the left, five of the nine pixels disagree: (4 - 5) / 9.
assert (nine[0:3, 0:3] * shapes["box"]).sum() == -1

# %%
# All windows
# -----------
# `ConvFeatureExtractor` moves the three filters over the image. A window of 3 x 3 fits into 7 rows
# at 5 places and into 5 columns at 3 places, so each map has 5 rows and 3 columns. Without
# activation and pooling, `transform` returns the plain responses. X is an array of images; here it
# holds only one.


def maps_of(image, **params):
    """Return the maps of one image, shape (filters, rows, columns), in ninths."""
    extractor = ConvFeatureExtractor(filters, padding="valid", flatten=False, **params)
    return 9 * np.moveaxis(extractor.fit_transform(image[None].astype(float))[0], -1, 0)


maps = maps_of(nine, activation="identity", pooling=None)
by_hand = np.array(
    [
        [[-1, 9, -1], [-5, 1, -3], [-3, 3, -3], [-5, -1, -5], [-3, -5, -3]],
        [[5, -5, 5], [5, -5, 7], [3, -3, 7], [1, 1, 5], [3, 1, 3]],
        [[1, -5, 1], [1, -1, -1], [3, -3, -1], [1, 1, 5], [-1, 9, -1]],
    ]
)
np.testing.assert_allclose(maps, by_hand, atol=1e-12)
assert by_hand[0, 0, 1] == 9  # the box: a full match at the top, second column

# %%
# Two responses are a full match: that of the box at the ring of the nine, and that of the diagonal
# at its foot. The vertical line comes close with 7 ninths, along the right side of the nine.
#
# The rectifier
# -------------
# ReLU keeps the positive responses, where the image agrees with a filter, and sets the others to 0.

rectified = maps_of(nine, activation="relu", pooling=None)
np.testing.assert_allclose(rectified, np.maximum(by_hand, 0), atol=1e-12)

# %%
# Pooling
# -------
# Max pooling keeps the largest value of each window of 2 x 2. With a stride of one pixel, 5 rows
# and 3 columns become 4 rows and 2 columns. The full matches are still there, at the top and at the
# foot.

pooled = maps_of(nine, activation="relu", pool_size=2, pool_stride=1)
pooled_by_hand = np.array(
    [
        [[9, 9], [3, 3], [3, 3], [0, 0]],
        [[5, 7], [5, 7], [3, 7], [3, 5]],
        [[1, 1], [3, 0], [3, 5], [9, 9]],
    ]
)
np.testing.assert_allclose(pooled, pooled_by_hand, atol=1e-12)

# %%
# The figure shows all steps, with all values in ninths:


def draw_numbers(axes, values, title):
    """Draw an array as an image with its numbers in the cells."""
    axes.imshow(values, cmap="RdBu_r", norm=CenteredNorm(halfrange=9))
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 5 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set(xticks=[], yticks=[], title=title)


def draw_image(axes, image, title=""):
    """Draw an image of 1 (white) and -1 (black)."""
    axes.pcolormesh(image, cmap="gray", vmin=-1, vmax=1, edgecolors="0.5", linewidth=0.5)
    axes.invert_yaxis()
    axes.set(xticks=[], yticks=[], title=title, aspect="equal")


figure = plt.figure(figsize=(8, 6.6), layout="constrained")
grid = figure.add_gridspec(3, 5, width_ratios=(5, 2.6, 3, 3, 2.6))
draw_image(whole := figure.add_subplot(grid[:, 0]), nine, "image\n7 x 5")
steps = [("response", maps), ("ReLU", rectified), ("pooled", pooled)]
for k, (name, shape) in enumerate(shapes.items()):
    draw_image(axes := figure.add_subplot(grid[k, 1]), shape, "filter\n3 x 3" if k == 0 else "")
    axes.set_xlabel(name)
    for column, (step, values) in enumerate(steps, start=2):
        rows, columns = values[k].shape
        title = f"{step}\n{rows} x {columns}" if k == 0 else ""
        draw_numbers(figure.add_subplot(grid[k, column]), values[k], title)
    for row, column in np.argwhere(maps[k] > 8.5):  # a full match: frame its window and its filter
        colour = ("tab:orange", "tab:green", "tab:cyan")[k]
        whole.add_patch(plt.Rectangle((column, row), 3, 3, fill=False, color=colour, linewidth=5))
        axes.spines[:].set(color=colour, linewidth=5)
figure.suptitle("where the nine agrees with three filters (values in ninths)")
plt.show()

# %%
# Flattened and joined
# --------------------
# With ``flatten=True``, the default, the maps of an image become one row of a table, which any
# classifier accepts: 3 filters times 4 rows times 2 columns are 24 features, ordered by filter.

extractor = ConvFeatureExtractor(filters, padding="valid", pool_size=2, pool_stride=1)
features = extractor.fit_transform(nine[None].astype(float))
assert features.shape == (1, 24)
np.testing.assert_allclose(9 * features[0], pooled_by_hand.ravel(), atol=1e-12)
print(extractor.get_feature_names_out()[:4])

# %%
# A classifier
# ------------
# The classifier decides whether an image is a nine. The data are many copies of ten digits in the
# same typeface; in each copy every pixel has changed its colour with a probability of one in ten. A
# logistic regression learns to distinguish nines from the other digits.

digits = np.array(
    [
        [list(row) for row in glyph.split()]
        for glyph in (
            ".###. .#.#. .#.#. .#.#. .#.#. .#.#. .###.",
            "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
            ".###. .#.#. ...#. ..#.. .#... .#... .###.",
            ".###. ...#. ...#. .###. ...#. ...#. .###.",
            ".#.#. .#.#. .#.#. .###. ...#. ...#. ...#.",
            ".###. .#... .#... .###. ...#. ...#. .###.",
            "...#. ..#.. .#... .#... .###. .#.#. .###.",
            ".###. ...#. ...#. ..#.. ..#.. .#... .#...",
            ".###. .#.#. .#.#. .###. .#.#. .#.#. .###.",
            ".###. .#.#. .###. ...#. ...#. ..#.. .#...",
        )
    ]
)
digits = np.where(digits == "#", 1, -1)
np.testing.assert_array_equal(digits[9], nine)

rng = np.random.default_rng(0)
labels = np.concatenate([np.repeat(np.arange(9), 50), np.full(450, 9)])  # half of all are nines
X = digits[labels] * rng.choice([1.0, -1.0], p=[0.9, 0.1], size=(len(labels), 7, 5))
y = labels == 9

model = make_pipeline(extractor, LogisticRegression())
scores = cross_val_score(model, X, y, cv=5)
print(f"accuracy on digits with one pixel in ten wrong: {scores.mean():.3f}")
assert scores.mean() > 0.9

model.fit(X, y)
np.testing.assert_array_equal(model.predict(digits.astype(float)), np.arange(10) == 9)

# %%
# What the classifier looked at
# -----------------------------
# Each feature has a coefficient, which is positive if the feature speaks for a nine.
# `inverse_importance` spreads a value for each feature over the pixels that the feature was
# computed from. For each digit without noise the figure shows how much its pixels contribute, and
# the probability of a nine that the model predicts.

features = extractor.transform(digits.astype(float))
evidence = extractor.inverse_importance(features * model[-1].coef_)
probabilities = model.predict_proba(digits.astype(float))[:, 1]

figure, axes = plt.subplots(2, 10, figsize=(8, 2.7), layout="constrained")
norm = CenteredNorm(halfrange=np.abs(evidence).max())
for digit, (above, below) in enumerate(axes.T):
    draw_image(above, digits[digit])
    drawn = below.imshow(evidence[digit].reshape(7, 5), cmap="RdBu_r", norm=norm)
    below.set(xticks=[], yticks=[], xlabel=f"{probabilities[digit]:.2f}")
figure.colorbar(drawn, ax=axes, label="evidence", aspect=20)
figure.suptitle("which pixels speak for a nine (red) or against it (blue); probability below")
plt.show()

# %%
# Filters that nobody wrote
# -------------------------
# A network with the same architecture learns its filters from the data: three filters of 3 x 3, the
# same pooling, and one logistic unit. It starts from random filters.

network = CNNClassifier(
    (Conv(3, 3, padding="valid"), MaxPool(2, stride=1)),
    learning_rate="onecycle",
    learning_rate_init=0.03,
    max_iter=50,
    random_state=0,
)
scores = cross_val_score(network, X, y, cv=5)
print(f"accuracy with learned filters: {scores.mean():.3f}")
assert scores.mean() > 0.9

learned = network.fit(X, y).coefs_[0][..., 0]
figure, axes = plt.subplots(1, 3, figsize=(6, 2.4), layout="constrained")
for one, ax in zip(learned, axes, strict=True):
    drawn = ax.imshow(one, cmap="PuOr_r", norm=CenteredNorm(halfrange=np.abs(learned).max()))
    ax.set(xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes, label="weight")
figure.suptitle("the filters that the network has learned")
plt.show()
