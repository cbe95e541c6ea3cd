"""
======================================================
A bank of learned filters, searched like any parameter
======================================================

Coates, Ng and Lee (2011) showed that features learned without labels can be very good. Their recipe
is: cut patches from the images, normalise, whiten and cluster them, and take the cluster centres as
filters of a convolution; encode the responses, pool them on a coarse grid, standardise them, and
train a linear classifier on the result.

Here the whole recipe is one `Pipeline`, and `GridSearchCV` chooses the filter bank, the number of
filters and the grid on the digits of `sklearn.datasets.load_digits`. The figure shows the chosen
filters, the scores of the search, and the pixels that speak for each digit.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcnn import ConvFeatureExtractor

# %%
# The recipe as a Pipeline
# ------------------------
# ``activation="crelu"`` encodes each response by two values, one for each sign. With
# ``pool_grid=3`` they are averaged over a grid of 3 x 3 windows, whatever the size of the image.

digits = load_digits()
X, y = digits.images.astype(np.float32), digits.target
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

recipe = make_pipeline(
    ConvFeatureExtractor(kernel_size=3, activation="crelu", pooling="avg", random_state=0),
    StandardScaler(),
    RidgeClassifier(),
)

# %%
# The search
# ----------
# The search covers the filter bank, the number of filters, the pooling grid and the penalty of the
# classifier together. It uses the training images only.

grid = {
    "convfeatureextractor__filters": ["random", "patches", "kmeans"],
    "convfeatureextractor__n_filters": [16, 64],
    "convfeatureextractor__pool_grid": [2, 3, 4],
    "ridgeclassifier__alpha": [10, 100, 1000],
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
search = GridSearchCV(recipe, grid, cv=folds, n_jobs=2).fit(X_train, y_train)

best = {name.partition("__")[2]: value for name, value in search.best_params_.items()}
print("chosen:", ", ".join(f"{name}={value!r}" for name, value in best.items()))
print(f"accuracy over five folds of the training images: {search.best_score_:.4f}")
print(f"accuracy on the test images: {search.score(X_test, y_test):.4f}")

# %%
# Which pixels speak for a digit
# ------------------------------
# A linear classifier has one coefficient for each feature and class. The product of a coefficient
# and the mean of its feature over the test images of a class shows how much this feature speaks for
# the class. `inverse_importance` spreads each product over the pixels that the feature was computed
# from.

extractor, scaler, classifier = search.best_estimator_
evidence = np.stack(
    [
        (scaler.transform(extractor.transform(X_test[y_test == digit])) * coefficients).mean(axis=0)
        for digit, coefficients in enumerate(classifier.coef_)
    ]
)
heat = extractor.inverse_importance(evidence)
print("heat maps:", heat.shape)

# %%
# The figure
# ----------


def draw_filters(figure, filters):
    """Draw filters of shape (filters, rows, columns) side by side, on one scale."""
    side = int(np.ceil(np.sqrt(len(filters))))
    framed = np.pad(filters, ((0, side**2 - len(filters)), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns = framed.shape[1:]
    mosaic = framed.reshape(side, side, rows, columns).swapaxes(1, 2)
    axes = figure.subplots()
    drawn = axes.imshow(
        mosaic.reshape(side * rows, side * columns)[:-1, :-1],
        cmap="PuOr_r",
        norm=CenteredNorm(halfrange=np.abs(filters).max()),
    )
    axes.set_axis_off()
    axes.set_title(f"the {len(filters)} filters chosen, whitening included")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="weight")


def draw_scores(axes, results):
    """Draw the best accuracy of each bank, number of filters and grid."""
    banks, numbers, grids = (
        grid[f"convfeatureextractor__{name}"] for name in ("filters", "n_filters", "pool_grid")
    )
    for bank, colour in zip(banks, ("tab:gray", "tab:orange", "tab:blue"), strict=True):
        for number, style in zip(numbers, ("--", "-"), strict=True):
            best = [
                max(
                    score
                    for score, params in zip(
                        results["mean_test_score"], results["params"], strict=True
                    )
                    if params["convfeatureextractor__filters"] == bank
                    and params["convfeatureextractor__n_filters"] == number
                    and params["convfeatureextractor__pool_grid"] == size
                )
                for size in grids
            ]
            axes.plot(
                grids, best, style, marker="o", color=colour, label=f"{bank}, {number} filters"
            )
    axes.set(
        xlabel="windows of the pooling grid, each way", ylabel="accuracy, five folds", xticks=grids
    )
    axes.set_title("what the search found, with the best penalty")
    axes.legend(fontsize="small")


def draw_heat(figure, heat, images):
    """Draw for each digit its mean image and the heat map over it."""
    grid = figure.subplots(2, len(heat))
    norm = CenteredNorm(halfrange=np.abs(heat).max())
    for digit, (top, bottom) in enumerate(grid.T):
        top.imshow(images[digit], cmap="gray_r")
        drawn = bottom.imshow(heat[digit], cmap="RdBu_r", norm=norm)
        top.set_title(str(digit))
        for axes in (top, bottom):
            axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=grid, shrink=0.8, label="evidence")
    figure.suptitle(
        "mean image of each digit, and the pixels that speak for it (red) or against it"
    )


figure = plt.figure(figsize=(13, 8.5), layout="constrained")
figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
above, below = figure.subfigures(2, 1, height_ratios=(1.7, 1))
left, right = above.subfigures(1, 2, width_ratios=(1, 1))
draw_filters(left, extractor.filters_[..., 0])
draw_scores(right.subplots(), search.cv_results_)
means = np.stack([X_test[y_test == digit].mean(axis=0).reshape(8, 8) for digit in range(10)])
draw_heat(below, heat, means)
plt.show()
