"""
=========================================================
Convolutional features for forests, boosting and machines
=========================================================

A `ConvFeatureExtractor` is a transformer: the next step of a `Pipeline` receives a table of
features. Here five classifiers of scikit-learn learn the same digits twice, once from the pixels
and once from convolutional features whose filters were learned without labels. They are trained on
few images, because good features matter most then.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skcnn import ConvFeatureExtractor
from skcnn.inspection import FilterDisplay

X, y = load_digits(return_X_y=True)
X = X.astype(np.float32)

# %%
# The features
# ------------
# The extractor takes patches of 4 x 4 pixels from the images, whitens them and clusters them by
# k-means; the 32 cluster centres are the filters. "crelu" encodes each response by two values, one
# for each sign, and these are averaged over the cells of a grid of 3 x 3.

features = ConvFeatureExtractor(
    "kmeans",
    n_filters=32,
    kernel_size=4,
    activation="crelu",
    pooling="avg",
    pool_grid=3,
    image_shape=(8, 8),
    random_state=0,
)
table = features.fit_transform(X)
assert table.shape == (1797, 32 * 2 * 3 * 3)
print(
    f"{X.shape[1]} pixels become {table.shape[1]} features, {features.get_feature_names_out()[0]} first"
)

FilterDisplay.from_estimator(features)
plt.show()

# %%
# Five classifiers, twice
# -----------------------
# Each classifier is trained on 200 images and tested on 1,000 others, five times. The filters are
# learned from the 200 images as well, because the whole pipeline is cross-validated.

classifiers = {
    "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "SVC, RBF": make_pipeline(StandardScaler(), SVC(C=10)),
    "nearest neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
    "RandomForest": RandomForestClassifier(200, max_features=0.05, random_state=0, n_jobs=2),
    "HistGradientBoosting": HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=8, max_features=0.1, random_state=0
    ),
}
splits = StratifiedShuffleSplit(5, train_size=200, test_size=1000, random_state=0)
scores = pd.DataFrame(
    {
        (name, given): cross_val_score(model, X, y, cv=splits)
        for name, classifier in classifiers.items()
        for given, model in (
            ("pixels", classifier),
            ("features", make_pipeline(features, classifier)),
        )
    }
)
errors = 100 * (1 - scores).mean().unstack()[["pixels", "features"]].loc[list(classifiers)]
print(errors.round(1).rename_axis("error, percent"))
assert (errors["features"] < errors["pixels"]).all()

# %%
# Each classifier has a smaller error with the features; the linear model gains most.

figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
places = np.arange(len(errors))
spread = 100 * scores.std().unstack().loc[list(classifiers)]
for shift, (given, colour) in enumerate({"pixels": "#999999", "features": "#0072b2"}.items()):
    bars = ax.barh(
        places + 0.4 * shift, errors[given], 0.38, xerr=spread[given], color=colour, label=given
    )
    ax.bar_label(bars, fmt="%.1f", padding=3)
ax.set_yticks(places + 0.2, errors.index)
ax.invert_yaxis()
ax.set_xlim(0, 1.35 * errors["pixels"].max())
ax.set(xlabel="error on 1,000 other images, percent", title="200 images to learn from")
ax.legend()
plt.show()
