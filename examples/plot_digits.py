"""
==========================================
Handwritten digits: five ways to tell them
==========================================

The digits of `sklearn.datasets.load_digits` are 1797 images of 8 x 8 pixels. Five classifiers are
compared by their accuracy on the same five shuffled, stratified folds:

- logistic regression on the pixels;
- logistic regression on features that `ConvFeatureExtractor` makes from the pixels;
- `CNNClassifier`, which learns its filters;
- `sklearn.neural_network.MLPClassifier`, a network without convolutions;
- a support vector machine.

The figure shows the feature maps of one digit after convolution, activation and pooling, the
filters that the first layer of a network has learned, and the confusion matrix of this network on
images that it was not trained on.

Run ``python plot_digits.py [figure.png]``; it takes about a minute.
"""

import sys
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")  # the figure is saved, so no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm, PowerNorm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skcnn import CNNClassifier, ConvFeatureExtractor

# %%
# Five classifiers, the same folds
# --------------------------------
# Each row of X is one image. ``image_shape`` tells skcnn that its 64 values are 8 x 8 pixels. The
# networks compute in the float type of X; single precision takes half the time of double.

X, y = load_digits(return_X_y=True)
X = X.astype(np.float32)

models = {
    "pixels + LogisticRegression": make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "ConvFeatureExtractor + LogisticRegression": make_pipeline(
        ConvFeatureExtractor("sobel", padding="same", image_shape=(8, 8)),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    ),
    "CNNClassifier": CNNClassifier(image_shape=(8, 8), random_state=0),
    "MLPClassifier": make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=0)),
    "SVC": SVC(),
}


def compare(models, X, y):
    """Print the accuracy of each model over five folds, and the seconds that they took."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    print(f"{'model':<42}{'accuracy':>17}{'seconds':>9}")
    for name, model in models.items():
        start = perf_counter()
        scores = cross_val_score(model, X, y, cv=folds)
        seconds = perf_counter() - start
        print(f"{name:<42}{scores.mean():>8.4f} ± {scores.std():.4f}{seconds:>9.1f}", flush=True)


compare(models, X, y)

# %%
# The maps of one digit
# ---------------------
# The eight Sobel filters respond to edges, where one side is brighter than the other. Without
# activation and pooling the extractor returns the plain convolution. Each row of the figure adds
# one step.


def maps_of(image, **params):
    """Return the feature maps of one image, shape (filters, rows, columns)."""
    extractor = ConvFeatureExtractor("sobel", flatten=False, **params)
    return np.moveaxis(extractor.fit_transform(image[None])[0], -1, 0)


def draw_maps(figure, image, label):
    """Draw an image on the left, and the rows of its maps on the right."""
    steps = {
        "convolution": maps_of(image, activation="identity", pooling=None),
        "ReLU": maps_of(image, activation="relu", pooling=None),
        "max pooling": maps_of(image, activation="relu", pooling="max"),
    }
    names = ConvFeatureExtractor("sobel").fit(image[None]).filter_names_
    left, right = figure.subfigures(1, 2, width_ratios=(1, 4))

    axes = left.subplots()
    drawn = axes.imshow(image, cmap="gray_r")
    axes.set(title=f"image of a {label}", xticks=[], yticks=[])
    left.colorbar(drawn, ax=axes, orientation="horizontal", shrink=0.8, label="intensity")

    grid = right.subplots(len(steps), len(names))
    norm = CenteredNorm(halfrange=np.abs(steps["convolution"]).max())
    for row, (step, maps) in zip(grid, steps.items(), strict=True):
        for axes, one in zip(row, maps, strict=True):
            drawn = axes.imshow(one, cmap="RdBu_r", norm=norm)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{step}\n{maps.shape[1]} x {maps.shape[2]}")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize="medium")
    right.colorbar(drawn, ax=grid, shrink=0.8, label="value")
    right.suptitle("feature maps of the eight Sobel filters after each step")


# %%
# A fitted network
# ----------------
# ``coefs_[0]`` holds the filters of the first convolution, shape (filters, rows, columns,
# channels). A quarter of the images is held out for the confusion matrix.


def draw_filters(figure, filters):
    """Draw filters of shape (filters, rows, columns), eight in a row, on one scale."""
    grid = figure.subplots(-(-len(filters) // 8), 8)
    norm = CenteredNorm(halfrange=np.abs(filters).max())
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, one in zip(grid.flat, filters, strict=False):
        drawn = axes.imshow(one, cmap="PuOr_r", norm=norm)
    figure.colorbar(drawn, ax=grid, shrink=0.8, label="weight")
    figure.suptitle("filters learned by the first convolution")


def draw_confusion(figure, y_true, y_predicted):
    """Draw the confusion matrix, colours on a compressed scale so that single errors show."""
    matrix = ConfusionMatrixDisplay.from_predictions(
        y_true, y_predicted, ax=figure.subplots(), cmap="Blues", colorbar=False
    )
    matrix.im_.set_norm(PowerNorm(0.4, vmin=0, vmax=matrix.confusion_matrix.max()))
    for text in matrix.text_[matrix.confusion_matrix == 0]:
        text.set_visible(False)
    n_wrong = int(np.sum(y_true != y_predicted))
    figure.suptitle(f"{len(y_true)} images held out, {n_wrong} of them misclassified")


X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
network = CNNClassifier(image_shape=(8, 8), random_state=0).fit(X_train, y_train)

# %%
# The figure
# ----------

path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png")
figure = plt.figure(figsize=(13, 10), layout="constrained")
figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
draw_maps(above, X[0].reshape(8, 8), y[0])
left, right = below.subfigures(1, 2)
draw_filters(left, network.coefs_[0][..., 0])
draw_confusion(right, y_test, network.predict(X_test))
figure.savefig(path, dpi=120)
print(f"figure saved as {path.name}")
