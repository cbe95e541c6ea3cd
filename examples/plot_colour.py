"""
================================
Colour images and colour filters
================================

A colour image has three channels, and each filter covers all of them at once. This page learns
filters from two photos that come with scikit-learn. Without labels, k-means finds the edges and
colour contrasts that occur in patches; with labels, a network finds the filters that distinguish a
flower from a temple.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.inspection import ErrorDisplay, FilterDisplay
from skcnn.layers import Conv, Dropout, GlobalAvgPool, MaxPool

# %%
# Small images out of two large ones
# ----------------------------------
# The images are squares of 24 x 24 pixels, drawn at random from photos of a temple in China and of
# a dahlia. The training images come from the left halves of the photos and the test images from the
# right halves, so that no pixel is in both. They stay integers of one byte, because an estimator
# converts only the current batch to floats.

names = ["temple", "flower"]
photos = load_sample_images().images
SIDE, N = 24, 600


def squares(photos, columns, random_state):
    """Return squares of both photos, some of their columns only, and which photo each is from."""
    X = np.concatenate(
        [
            extract_patches_2d(
                photo[:, columns], (SIDE, SIDE), max_patches=N, random_state=random_state
            )
            for photo in photos
        ]
    )
    return X, np.repeat(names, N)


middle = photos[0].shape[1] // 2
X_train, y_train = squares(photos, slice(None, middle), 0)
X_test, y_test = squares(photos, slice(middle, None), 1)
print(X_train.shape, X_train.dtype)

figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
for ax, photo, name in zip(axes, photos, names, strict=True):
    ax.imshow(photo)
    ax.axvline(middle, color="white", linestyle="--")
    ax.set_title(f"{name}: trained on the left, tested on the right")
    ax.axis("off")
plt.show()

# %%
# Filters without labels
# ----------------------
# The extractor whitens and clusters patches of 7 x 7 pixels and three channels. Some cluster
# centres are grey edges; others have a colour but no shape, or contrast one colour with another, as
# cells of the eye do.

features = ConvFeatureExtractor(
    "kmeans",
    n_filters=64,
    kernel_size=7,
    activation="crelu",
    pooling="avg",
    pool_grid=2,
    random_state=0,
)
model = make_pipeline(features, StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
model.fit(X_train, y_train)
unsupervised = model.score(X_test, y_test)
print(f"k-means filters and logistic regression: {unsupervised:.3f}")

FilterDisplay.from_estimator(model[0])
plt.show()

# %%
# A network, with augmentation
# ----------------------------
# A square may be mirrored, made brighter or shifted and still belongs to the same photo. With
# ``augment`` the network is trained on a slightly different version of each square in every epoch.

clf = CNNClassifier(
    (Conv(16, 5), MaxPool(), Conv(32), MaxPool(), Conv(32), GlobalAvgPool(), Dropout(0.2)),
    augment={"flip": True, "shift": 2, "brightness": 0.2, "contrast": 0.2},
    learning_rate="onecycle",
    learning_rate_init=5e-3,
    max_iter=25,
    batch_size=64,
    random_state=0,
    n_jobs=2,
)
clf.fit(X_train, y_train)
supervised = clf.score(X_test, y_test)
pixels = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=1000))
flat = pixels.fit(X_train.reshape(2 * N, -1), y_train).score(X_test.reshape(2 * N, -1), y_test)
print(f"network: {supervised:.3f}; logistic regression on pixels: {flat:.3f}")
assert min(unsupervised, supervised) > 0.85

# %%
# Where it is wrong
# -----------------
# The figure shows the test squares that the network classifies wrongly with the highest confidence.
# They are the trees on the right of the temple, which are as dark as the leaves behind the flower.

ErrorDisplay.from_estimator(clf, X_test, y_test, n_images=8)
plt.show()
