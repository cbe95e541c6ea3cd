"""
=======================================================
Searching over architecture, augmentation and step size
=======================================================

You can search the parameters of a `CNNClassifier` like those of any other estimator: stacks of
layers, parameters of single layers, augmentations and learning rates are entries of one grid. Here
two processes share the work. A progress bar shows the progress of the whole search, and a monitor
records the score of every epoch of each fit.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from skcnn import CNNClassifier
from skcnn.layers import BatchNorm, Conv, Dropout, MaxPool

digits = load_digits()
X, y = digits.images.astype(np.float32), digits.target
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The grid
# --------
# The grid has twelve candidates: two architectures, with and without augmentation, and three
# learning rates. ``layers`` is a parameter like any other; ``layers__0__filters`` would be a
# parameter of the first layer.

plain = (Conv(16), MaxPool(), Conv(32), MaxPool())
deeper = (
    Conv(16),
    Conv(16),
    BatchNorm(),
    MaxPool(),
    Conv(32),
    BatchNorm(),
    MaxPool(),
    Dropout(0.2),
)
grid = {
    "layers": [plain, deeper],
    "augment": [None, {"shift": 1, "rotate": 10, "zoom": 0.1}],
    "learning_rate_init": [1e-3, 5e-3, 2e-2],
}
clf = CNNClassifier(learning_rate="onecycle", max_iter=15, batch_size=64, tol=0, random_state=0)
search = GridSearchCV(clf, grid, cv=StratifiedKFold(3, shuffle=True, random_state=0), n_jobs=2)

# %%
# A bar outside, a monitor inside
# -------------------------------
# Callbacks need scikit-learn 1.9 or newer; with older versions the search runs without them. The
# progress bar needs rich.

monitor = None
try:
    from sklearn.callback import ProgressBar, ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    clf.set_callbacks(monitor)
    search.set_callbacks(ProgressBar(max_propagation_depth=0))
except ImportError as reason:
    print(f"without {'the bar' if monitor else 'callbacks'}: {reason}")

search.fit(X_train, y_train)
accuracy = search.score(X_test, y_test)
print(f"best in cross-validation: {search.best_score_:.4f}; on the test images: {accuracy:.4f}")
print(search.best_params_)
assert accuracy > 0.97

# %%
# What the search found
# ---------------------
# The tables show the mean accuracy over the folds, one table for each architecture. In fifteen
# epochs augmentation does not help: every candidate is worse with it than without.

results = pd.DataFrame(search.cv_results_["params"])
results["layers"] = np.where(
    [len(layers) == len(plain) for layers in results["layers"]], "plain", "deeper"
)
results["augment"] = np.where(results["augment"].isna(), "as they are", "augmented")
results["accuracy"] = search.cv_results_["mean_test_score"]
tables = results.pivot_table("accuracy", ["layers", "augment"], "learning_rate_init")

figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True, layout="constrained")
limits = {"vmin": results["accuracy"].min(), "vmax": results["accuracy"].max()}
middle = sum(limits.values()) / 2
for ax, name in zip(axes, ("plain", "deeper"), strict=True):
    table = tables.loc[name].loc[["as they are", "augmented"]]
    drawn = ax.imshow(table, cmap="cividis", aspect="auto", **limits)
    for (row, column), value in np.ndenumerate(table):
        colour = "black" if value > middle else "white"
        ax.text(column, row, f"{value:.4f}", ha="center", va="center", color=colour)
    ax.set_xticks(range(3), [f"{rate:g}" for rate in table.columns])
    ax.set_yticks(range(2), table.index)
    ax.set(title=f"{name} network", xlabel="step size")
figure.colorbar(drawn, ax=axes, label="accuracy")
plt.show()

# %%
# How they learned
# ----------------
# The log of the monitor has a row for each epoch of each fit, with the tasks that the epoch belongs
# to: the search and the number of the fit. Each line shows the accuracy of one candidate in one fold,
# on the images that it was trained on. The black line shows the refit of the best candidate on all
# training images.

if monitor is not None:
    epochs = pd.DataFrame(monitor.get_logs().data).query("task_name == 'epoch'")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    colours = dict(zip(tables.columns, ("#56b4e9", "#009e73", "#d55e00"), strict=True))
    for path, curve in epochs.groupby("parent_task_id_path"):
        curve = curve.sort_values("task_id")
        if len(path) == 2:  # not one of the folds
            ax = axes[int(len(search.best_params_["layers"]) != len(plain))]
            ax.plot(curve["task_id"] + 1, curve["accuracy"], color="black")
            continue
        candidate = results.loc[path[-1] // 3]
        rate = candidate["learning_rate_init"]
        style = "-" if candidate["augment"] == "as they are" else ":"
        ax = axes[int(candidate["layers"] == "deeper")]
        ax.plot(curve["task_id"] + 1, curve["accuracy"], style, color=colours[rate], linewidth=1)
    for ax, name in zip(axes, ("plain", "deeper"), strict=True):
        ax.set(title=f"{name} network", xlabel="epoch")
    axes[0].set_ylabel("accuracy while training")
    for rate, colour in colours.items():
        axes[1].plot([], [], color=colour, label=f"step size {rate:g}")
    axes[1].plot([], [], color="black", label="refit of the best")
    axes[1].plot([], [], ":", color="0.4", label="augmented")
    axes[1].legend(loc="lower right", fontsize="small")
    plt.show()
