"""
=======================
LeNet-5, layer by layer
=======================

LeNet-5 read the amounts on bank cheques (LeCun, Bottou, Bengio and Haffner, 1998). It is small
enough to follow every number: it has three convolutions of 5 x 5, two average poolings and two
dense layers, with tanh between them. This page counts its weights, draws it, trains it and shows
its feature maps.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from skcnn import CNNClassifier
from skcnn.architectures import lenet5
from skcnn.inspection import ArchitectureDisplay, FeatureMapDisplay

# %%
# The plan
# --------
# `lenet5` returns a tuple of layers. The output layer, with ten units for ten digits, follows from
# y. `summary` lists the output shapes and weights of the layers on images of 32 x 32 pixels before
# training.

clf = CNNClassifier(
    lenet5(),
    image_shape=(32, 32),
    learning_rate="onecycle",
    learning_rate_init=5e-3,
    max_iter=15,
    batch_size=64,
    random_state=0,
)
clf.summary(n_outputs=10)

# %%
# You can compute the numbers in the table by hand. For each filter, a convolution has a weight for
# each pixel of its window in each channel, and an intercept. It uses them at every place of its
# output.

table = clf.summary(n_outputs=10, as_frame=True)
by_hand = [
    (28 * 28 * 6, 6 * (5 * 5 * 1 + 1)),
    (14 * 14 * 6, 0),
    (10 * 10 * 16, 16 * (5 * 5 * 6 + 1)),
    (5 * 5 * 16, 0),
    (1 * 1 * 120, 120 * (5 * 5 * 16 + 1)),
    (84, 84 * (120 + 1)),
    (10, 10 * (84 + 1)),
]
for (values, weights), row in zip(by_hand, table.itertuples(), strict=True):
    assert np.prod(row[2]) == values
    assert row.weights == weights
assert table["weights"].sum() == 61_706

# %%
# The third convolution has four fifths of the weights, but the first two convolutions do nearly all
# of the work: the first one uses its 156 weights at 784 places.

ArchitectureDisplay.from_estimator(clf, n_outputs=10)
plt.show()

# %%
# Training
# --------
# scikit-learn's digits have 8 x 8 pixels. They are enlarged to 28 x 28 pixels, and a border of two
# pixels brings them to the size that LeNet-5 was made for.

X, y = load_digits(return_X_y=True)
X = zoom(X.reshape(-1, 8, 8), (1, 3.5, 3.5), order=1, grid_mode=True, mode="nearest")
X = np.pad(X, ((0, 0), (2, 2), (2, 2))).astype(np.float32)
assert X.shape == (1797, 32, 32)

X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
clf.fit(X_train, y_train)
accuracy = clf.score(X_test, y_test)
print(f"{clf.n_iter_} epochs, accuracy on {len(X_test)} other images: {accuracy:.3f}")
assert accuracy > 0.96

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
axes[0].semilogy(np.arange(1, clf.n_iter_ + 1), clf.loss_curve_, marker="o")
axes[0].set(xlabel="epoch", ylabel="loss", title="cross-entropy while training")
ConfusionMatrixDisplay.from_estimator(
    clf, X_test, y_test, cmap="cividis", colorbar=False, ax=axes[1], im_kw={"aspect": "equal"}
)
axes[1].set_title(f"test images, {accuracy:.1%} right")
plt.show()

# %%
# What the layers see
# -------------------
# The figure shows one digit, its six maps after the first convolution, and its sixteen maps after
# the second. tanh lies between -1 and 1, so a map can show both agreement and disagreement with its
# filter.

nine = X_test[y_test == 9][:1]
FeatureMapDisplay.from_estimator(clf, nine, layers=["input", "0 Conv tanh", "2 Conv tanh"])
plt.show()

# %%
# `trace` returns the arrays themselves, from the image to the probabilities.

clf.trace(nine)
