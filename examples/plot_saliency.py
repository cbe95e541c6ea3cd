"""
====================
What did it look at?
====================

A network that predicts correctly may do so for the wrong reason. This page shows which pixels a
prediction depends on. It compares four saliency methods, first on a task where the relevant pixels
are known, then on digits, and it maps the coefficients of a linear model on convolutional features
back to the pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcnn import CNNClassifier, ConvFeatureExtractor
from skcnn.inspection import SaliencyDisplay, saliency
from skcnn.layers import Conv, GlobalMaxPool, MaxPool

# %%
# A task with a known answer
# --------------------------
# Each image is noise with a cross in one of its corners, either upright or diagonal. Only the cross
# determines the class, so a saliency map is right if its peak lies there.

rng = np.random.default_rng(0)
UPRIGHT = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
DIAGONAL = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])
CORNERS = [(2, 2), (2, 11), (11, 2), (11, 11)]


def crosses(n):
    """Return images with a cross in a corner, which cross it is, and where."""
    images = rng.normal(0, 0.3, (n, 16, 16))
    labels, places = rng.integers(0, 2, n), rng.integers(0, 4, n)
    for image, label, place in zip(images, labels, places, strict=True):
        row, column = CORNERS[place]
        image[row : row + 3, column : column + 3] += 2 * (DIAGONAL if label else UPRIGHT)
    return images.astype(np.float32), labels, places


X, y, _ = crosses(600)
X_test, y_test, places = crosses(200)
clf = CNNClassifier(
    (Conv(8), Conv(16), GlobalMaxPool()), max_iter=30, batch_size=50, random_state=0
)
clf.fit(X, y)
accuracy = clf.score(X_test, y_test)
print(f"accuracy {accuracy:.3f}")
assert accuracy > 0.95

methods = ["gradient", "integrated_gradients", "grad_cam", "occlusion"]
SaliencyDisplay.from_estimator(clf, X_test[:3], method=methods)
plt.show()

# %%
# The next lines print how often the peak of the map lies on the cross or next to it.

for method in methods:
    options = {"patch_size": 3, "stride": 1} if method == "occlusion" else {}
    maps = np.abs(saliency(clf, X_test, method=method, **options))
    peaks = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), (16, 16))
    middles = np.array(CORNERS)[places] + 1
    hits = (np.abs(np.transpose(peaks) - middles) <= 2).all(axis=1).mean()
    print(f"{method:22}{hits:.2f}")
    assert hits > 0.75

# %%
# Digits
# ------
# On real images the relevant pixels are not known, but you can see where the methods agree. Red
# pixels speak for the predicted digit, blue pixels against it. Grad-CAM is left out: it gives each
# map a single weight, which means little before a dense layer that has separate weights for each
# place of the map.

digits, labels = load_digits().images, load_digits().target
digits = digits.astype(np.float32)
train, test, train_labels, test_labels = train_test_split(
    digits, labels, stratify=labels, random_state=0
)
network = CNNClassifier((Conv(16), MaxPool(), Conv(32)), max_iter=30, random_state=0)
network.fit(train, train_labels)
print(f"accuracy on digits {network.score(test, test_labels):.3f}")
chosen = [np.argmax(test_labels == digit) for digit in (3, 4, 8)]
methods.remove("grad_cam")
SaliencyDisplay.from_estimator(network, test[chosen], method=methods)
plt.show()

# %%
# Why not a nine?
# ---------------
# You can compute the saliency for any class, not only for the predicted one: ``target`` sets the
# class.

four = test[[chosen[1]]]
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.7), layout="constrained")
axes[0].imshow(four.reshape(8, 8), cmap="gray_r")
axes[0].set_title("a four")
maps = [saliency(network, four, target=target)[0] for target in (4, 9)]
norm = CenteredNorm(halfrange=np.abs(maps).max())
for ax, values, target in zip(axes[1:], maps, (4, 9), strict=True):
    shown = ax.imshow(values, cmap="RdBu_r", norm=norm)
    ax.set_title(f"for (red) and against\n(blue) a {target}")
figure.colorbar(shown, ax=axes, label="evidence")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# From coefficients back to pixels
# --------------------------------
# A linear model on convolutional features has a coefficient for each feature. `inverse_importance`
# spreads a value for each feature over the pixels under the filter, at all places that were pooled
# into the feature. Here the values are the coefficients times the mean features of each digit, so
# the figure shows which pixels of a typical digit speak for it.

features = ConvFeatureExtractor("sobel", pooling="avg", pool_grid=4)
model = make_pipeline(features, StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
model.fit(train, train_labels)
print(f"accuracy of the linear model {model.score(test, test_labels):.3f}")
scaled = model[:-1].transform(test)
means = np.stack([scaled[test_labels == digit].mean(axis=0) for digit in range(10)])
heat = model[0].inverse_importance(model[-1].coef_ * means)
images = np.stack([test[test_labels == digit].mean(axis=0).reshape(8, 8) for digit in range(10)])
figure, axes = plt.subplots(2, 10, figsize=(8, 2.4), layout="constrained")
norm = CenteredNorm(halfrange=np.abs(heat).max())
for digit, (above, below) in enumerate(axes.T):
    above.imshow(images[digit], cmap="gray_r")
    shown = below.imshow(heat[digit].reshape(8, 8), cmap="RdBu_r", norm=norm)
    for ax in (above, below):
        ax.set(xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, label="evidence", aspect=12)
plt.show()
