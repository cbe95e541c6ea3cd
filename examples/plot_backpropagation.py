"""
================================================
Two hundred digits, forward and backward by hand
================================================

The network of this page is small enough to write down: three filters of 5 x 5, a sigmoid, one dense
unit, a sigmoid. It learns from two hundred digits to distinguish 0 to 4 from 5 to 9. The page
computes every array of the forward pass and every gradient of the backward pass with NumPy alone,
and compares the gradients with what the package computes in one step of gradient descent.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import zoom
from scipy.special import expit as sigmoid
from sklearn.datasets import load_digits

from skcnn import CNNClassifier, CNNRegressor
from skcnn.layers import Conv, Dense

# %%
# The data
# --------
# The network is trained on the first 200 digits of scikit-learn, enlarged to 28 x 28 pixels with
# values between 0 and 1.

digits, labels = load_digits(return_X_y=True)
images = zoom(digits.reshape(-1, 8, 8) / 16, (1, 3.5, 3.5), order=1, grid_mode=True, mode="nearest")
targets = (labels > 4).astype(float)
X, y = images[:200], targets[:200]
print(f"{np.sum(y == 0):.0f} digits of 0 to 4, {np.sum(y == 1):.0f} of 5 to 9")

# %%
# The weights
# -----------
# There are three filters, and the dense unit has one weight for each of their responses: a filter
# fits into an image at 24 x 24 = 576 places.

rng = np.random.default_rng(0)
filters = rng.normal(0, 0.2, (3, 5, 5))
weights = rng.normal(0, 0.03, (3, 576))
filter_bias, bias = np.zeros(3), 0.0

# %%
# Forward
# -------
# The forward pass works on all patches of all images at once.

patches = sliding_window_view(X, (5, 5), axis=(1, 2)).reshape(200, 576, 5, 5)
assert patches.shape == (200, 576, 5, 5)


def forward(patches, filters, filter_bias, weights, bias):
    """Return what each step makes of the patches: Z1, A1, Z2, and the output."""
    Z1 = np.einsum("npij,fij->nfp", patches, filters) + filter_bias[:, None]  # convolution
    A1 = sigmoid(Z1)
    Z2 = np.einsum("nfp,fp->n", A1, weights) + bias  # dense unit
    return Z1, A1, Z2, sigmoid(Z2)


Z1, A1, Z2, output = forward(patches, filters, filter_bias, weights, bias)
assert A1.shape == (200, 3, 576)
loss = np.mean((output - y) ** 2) / 2
print(f"loss before any training: {loss:.4f}")

# %%
# The figure shows one image, the three filters, their responses, and the responses after the
# sigmoid.

five = np.argmax(labels[:200] == 5)
figure, axes = plt.subplots(3, 4, figsize=(7, 5.4), layout="constrained")
axes[1, 0].imshow(X[five], cmap="gray")
axes[1, 0].set_title("X")
for ax in axes[[0, 2], 0]:
    ax.axis("off")
for f, row in enumerate(axes[:, 1:]):
    norm = CenteredNorm(halfrange=np.abs(Z1[five]).max())
    row[0].imshow(filters[f], cmap="PuOr_r", norm=CenteredNorm(halfrange=0.5))
    row[1].imshow(Z1[five, f].reshape(24, 24), cmap="PuOr_r", norm=norm)
    row[2].imshow(A1[five, f].reshape(24, 24), cmap="cividis", vmin=0, vmax=1)
for ax, title in zip(
    axes[0, 1:], ("filters, 5 x 5", "Z1, 24 x 24", "A1 = sigmoid(Z1)"), strict=True
):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Backward
# --------
# The backward pass applies the chain rule from the last step to the first. Each line takes the
# gradient of the loss with respect to the output of a step, and computes the gradient with respect
# to its input. The derivative of a sigmoid is ``s * (1 - s)``; that of a product with respect to
# one factor is the other factor; a sum passes its gradient on to each of its terms.

d_output = (output - y) / len(y)  # of the mean of (output - y)^2 / 2
d_Z2 = d_output * output * (1 - output)
d_weights = np.einsum("n,nfp->fp", d_Z2, A1)
d_bias = d_Z2.sum()
d_A1 = d_Z2[:, None, None] * weights
d_Z1 = d_A1 * A1 * (1 - A1)
d_filters = np.einsum("nfp,npij->fij", d_Z1, patches)  # patches, weighted by d_Z1
d_filter_bias = d_Z1.sum(axis=(0, 2))

# %%
# You can check a gradient with a finite difference: change one weight a little and compute the loss
# again. This is the slowest way to compute a gradient, and the most reliable one.

step = 1e-6
moved = filters.copy()
moved[1, 2, 3] += step
loss_moved = np.mean((forward(patches, moved, filter_bias, weights, bias)[-1] - y) ** 2) / 2
print(f"by moving a weight: {(loss_moved - loss) / step:.8f}, by hand: {d_filters[1, 2, 3]:.8f}")
np.testing.assert_allclose((loss_moved - loss) / step, d_filters[1, 2, 3], rtol=1e-4)

# %%
# The package's step
# ------------------
# Now the same network is built from layers. `CNNRegressor` minimises the same loss, but measures it
# in units of the standard deviation of y, and adds a linear unit after the last layer. Predictions are
# this unit's outputs times ``y_scale_``, plus ``y_center_``: with the weight and the intercept below
# it passes its input on unchanged. ``coefs_`` are views of the weights, so the weights above can be
# written into them. The squared error in these units is smaller by the square of ``y_scale_``, which
# therefore is the learning rate that subtracts the gradients above.

network = CNNRegressor(
    (Conv(3, 5, padding="valid", activation="logistic"), Dense(1, activation="logistic")),
    solver="sgd",
    momentum=0,
    learning_rate_init=y.std() ** 2,
    alpha=0,
    batch_size=200,
    shuffle=False,
    standardize=False,
)
network.partial_fit(X, y)  # creates the arrays of weights
scale, center = network.y_scale_, network.y_center_
before = [filters[..., None], weights.reshape(-1, 1), 1 / scale[:, None]]
before_intercepts = [filter_bias, np.array([bias]), -center / scale]
for own, given in zip(
    network.coefs_ + network.intercepts_, before + before_intercepts, strict=True
):
    own[...] = given
np.testing.assert_allclose(network.predict(X), output)

network.partial_fit(X, y)
np.testing.assert_allclose(before[0] - network.coefs_[0], d_filters[..., None], atol=1e-12)
np.testing.assert_allclose(before[1] - network.coefs_[1], d_weights.reshape(-1, 1), atol=1e-12)
np.testing.assert_allclose(-network.intercepts_[0], d_filter_bias, atol=1e-12)
np.testing.assert_allclose(-network.intercepts_[1], [d_bias], atol=1e-12)
print("four gradients, the same by hand and by the package")

# %%
# Three hundred steps
# -------------------
# A loop repeats the same computation, with matrix products in place of `einsum`: one table holds
# all patches, one in each row. The loss falls, and the filters take shape.

table = patches.reshape(-1, 25)
first_filters, losses = filters.copy(), []
for _ in range(300):
    Z1 = (table @ filters.reshape(3, 25).T + filter_bias).reshape(200, 576, 3)
    A1 = sigmoid(Z1)
    output = sigmoid(A1.reshape(200, -1) @ weights.T.ravel() + bias)
    losses.append(np.mean((output - y) ** 2) / 2)
    d_Z2 = (output - y) / len(y) * output * (1 - output)
    d_Z1 = d_Z2[:, None, None] * weights.T * A1 * (1 - A1)
    weights = weights - 0.05 * (A1.reshape(200, -1).T @ d_Z2).reshape(576, 3).T
    bias = bias - 0.05 * d_Z2.sum()
    filters = filters - 0.05 * (d_Z1.reshape(-1, 3).T @ table).reshape(3, 5, 5)
    filter_bias = filter_bias - 0.05 * d_Z1.sum(axis=(0, 1))
assert losses[-1] < losses[150] < losses[0]

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
left.plot(losses, color="#0072b2")
left.set(xlabel="step", ylabel="loss", title="mean squared error, halved", ylim=0)
grid = np.pad(
    np.stack([first_filters, filters]), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan
)
shown = right.imshow(np.hstack(np.hstack(grid.transpose(1, 0, 2, 3))), cmap="PuOr_r",
                     norm=CenteredNorm(halfrange=np.abs(filters).max()))  # fmt: skip
figure.colorbar(shown, ax=right, label="weight")
right.set(xticks=[], yticks=[], title="filters, before (above) and after")
plt.show()

# %%
# Beside the defaults
# -------------------
# How many of the other 1,597 digits are classified correctly after training on two hundred? Two
# networks are compared: the one computed by hand, and the package's default network, which has more
# filters, ReLU, cross-entropy and Adam.

others = sliding_window_view(images[200:], (5, 5), axis=(1, 2)).reshape(-1, 576, 5, 5)
by_hand = np.mean((forward(others, filters, filter_bias, weights, bias)[-1] > 0.5) == targets[200:])
clf = CNNClassifier(max_iter=30, random_state=0).fit(images[:200].astype(np.float32), y)
default = clf.score(images[200:], targets[200:])
print(f"accuracy on other digits: by hand {by_hand:.3f}, CNNClassifier {default:.3f}")
assert default > by_hand > 0.6
