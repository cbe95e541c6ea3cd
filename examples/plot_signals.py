"""
=====================
Signals and spectra
=====================

A signal is an image of one row, and a network processes it with filters of one row. The signals on
this page are simulated spectra: each has two peaks on a sloping baseline, and a broad peak that is
irrelevant. A regressor predicts the concentration of a substance, and a classifier predicts which
substance it is. The regressor is compared with Ridge and PLS while the peaks move further and
further, the classifier with support vector machines.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import savgol_filter
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import RidgeCV
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from skcnn import CNNClassifier, CNNRegressor, ConvFeatureExtractor
from skcnn.inspection import saliency
from skcnn.layers import Conv, Dense, GlobalAvgPool, MaxPool

# %%
# The spectra
# -----------
# A substance has two narrow peaks at a fixed distance from each other; their height is the
# concentration. ``shift`` is the largest distance by which the pair moves to either side. The broad
# peak, the height and the slope of the baseline, and the noise are random for each spectrum. X is
# 2-D, with one spectrum in each row.

n_points = 128
places = np.arange(n_points)


def peaks(middle, width):
    """Return one bell curve for each middle."""
    return np.exp(-0.5 * ((places - middle[:, None]) / width) ** 2)


def make_spectra(n_samples, shift, distances, seed):
    """Return spectra, the concentrations, the numbers of the substances and the first peaks' places."""
    rng = np.random.default_rng(seed)
    substance = rng.integers(len(distances), size=n_samples)
    concentration = rng.uniform(0.2, 2, n_samples)
    first = 48 + rng.uniform(-shift, shift, n_samples)
    second = first + np.asarray(distances)[substance]
    X = concentration[:, None] * (peaks(first, 2.5) + 0.7 * peaks(second, 2.5))
    X += rng.uniform(0, 2, (n_samples, 1)) * peaks(rng.uniform(20, 108, n_samples), 7)
    X += rng.normal(0, 1, (n_samples, 1))
    X += rng.normal(0, 1.5, (n_samples, 1)) * (places / n_points - 0.5)
    X += rng.normal(0, 0.05, X.shape)
    return X.astype(np.float32), concentration, substance, first


figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
for ax, shift in zip(axes, (0, 32), strict=True):
    X, concentration, *_ = make_spectra(4, shift, [18], seed=5)
    for number, (spectrum, amount) in enumerate(zip(X, concentration, strict=True)):
        ax.plot(spectrum - spectrum.min() + 3 * number, color=plt.cm.cividis(0.25 * number))
        ax.text(n_points + 3, 3 * number + 0.5, f"{amount:.1f}", va="center")
    ax.set(title=f"peaks within ±{shift} points", xlabel="point", yticks=[], xlim=(0, n_points))
    ax.text(n_points + 3, 12.2, "conc.", va="center", fontsize=9)
axes[0].set_ylabel("intensity, moved apart")
plt.show()

# %%
# How much is it?
# ---------------
# ``image_shape=(1, 128)`` declares that each row of X is an image of one row, and the kernel size
# ``(1, 9)`` that a filter covers nine points. `GlobalAvgPool` takes the mean of each map over all
# places, so the position of a peak does not matter. The filters of the first layer are initialised
# with the principal components of pieces of such spectra. PLS is tuned by cross-validation, with
# and without Savitzky-Golay derivatives, the usual remedy for baselines; Ridge chooses its penalty.


def derivative(X):
    """Return the smoothed slopes of spectra."""
    return savgol_filter(X, 11, 2, deriv=1)


bank = ConvFeatureExtractor(
    "pca", n_filters=8, kernel_size=(1, 11), image_shape=(1, n_points), random_state=0
)
bank.fit(make_spectra(1000, 32, [18], seed=1)[0])
start = bank.filters_ / np.linalg.norm(bank.filters_, axis=2, keepdims=True)
layers = (Conv(8, (1, 11), init=start), Conv(16, (1, 9)), GlobalAvgPool(), Dense(16))
settings = {
    "image_shape": (1, n_points),
    "learning_rate": "onecycle",
    "learning_rate_init": 1e-2,
    "max_iter": 20,
    "batch_size": 64,
    "random_state": 0,
}
regressor = CNNRegressor(layers, **settings)
regressor.summary()

# %%
# All three models are trained on the same 1,000 spectra and tested on the same 500 others, for five
# data sets in which the peaks move further and further.

pls_grid = {
    "functiontransformer__func": [None, derivative],
    "plsregression__n_components": [1, 2, 4, 8, 16],
}
models = {
    "Ridge": RidgeCV(np.logspace(-3, 4, 15)),
    "PLS": GridSearchCV(
        make_pipeline(FunctionTransformer(), PLSRegression()),
        pls_grid,
        scoring="neg_root_mean_squared_error",
        cv=3,
    ),
    "CNN": regressor,
}
shifts = [0, 2, 4, 8, 32]
errors = {name: [] for name in models}
for shift in shifts:
    X_train, y_train, *_ = make_spectra(1000, shift, [18], seed=1)
    X_test, y_test, *_ = make_spectra(500, shift, [18], seed=2)
    for name, model in models.items():
        predicted = model.fit(X_train, y_train).predict(X_test)
        errors[name].append(root_mean_squared_error(y_test, predicted))
    print(f"±{shift:2d}: " + ", ".join(f"{name} {errors[name][-1]:.3f}" for name in models))

# %%
# If the peaks do not move, a weight for each point is enough, and the two linear models are better
# than the network. Once the peaks move, the network is better, because its error hardly changes.

linear = np.minimum(errors["Ridge"], errors["PLS"])
assert linear[0] < 0.75 * errors["CNN"][0]
assert max(errors["CNN"]) < 0.15
assert errors["CNN"][-1] < 0.4 * linear[-1]

colours = {"Ridge": "#e69f00", "PLS": "#d55e00", "CNN": "#0072b2"}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), width_ratios=(1.3, 1), layout="constrained")
for name, marker in zip(models, "s^o", strict=True):
    axes[0].plot(errors[name], marker=marker, color=colours[name], label=name)
axes[0].axhline(y_test.std(), color="0.5", linestyle=":")
axes[0].text(0, y_test.std(), "always the mean", va="bottom", color="0.4")
axes[0].set_xticks(range(len(shifts)), [f"±{shift}" for shift in shifts])
axes[0].set(xlabel="the peaks move by, points", ylabel="error (RMSE)", ylim=(0, 0.6))
axes[0].legend(loc="center left", bbox_to_anchor=(0, 0.65))
for name, marker in (("PLS", "^"), ("CNN", "o")):
    axes[1].plot(
        y_test, models[name].predict(X_test), marker, color=colours[name], markersize=3, label=name
    )
axes[1].plot([0.2, 2], [0.2, 2], color="black", linewidth=1)
axes[1].set(xlabel="concentration", ylabel="predicted", title=f"peaks within ±{shifts[-1]}")
axes[1].legend(markerscale=2)
plt.show()

# %%
# Filters as lines
# ----------------
# A filter of one row can be drawn as a line. The figure shows the filters of the first layer before
# and after training, for the network that was trained last. The first components are slope and
# curvature, as in the filters of Savitzky and Golay; the last components are noise. Training
# changes them little, so most of the learning takes place in the later layers.

filters = regressor.coefs_[0][:, 0, :, 0]
change = np.linalg.norm(filters - start[:, 0, :, 0]) / np.linalg.norm(start)
print(f"length of what training added to the filters: {change:.0%} of theirs")
assert change < 0.3
assert filters.shape == (8, 11)
figure, axes = plt.subplots(2, 4, figsize=(8, 3.4), sharex=True, sharey=True, layout="constrained")
for number, (ax, weights) in enumerate(zip(axes.flat, filters, strict=True)):
    ax.axhline(0, color="0.8", linewidth=1)
    ax.plot(np.arange(-5, 6), start[number, 0, :, 0], color="0.5", linestyle="--", label="before")
    ax.plot(np.arange(-5, 6), weights, "o-", color=colours["CNN"], markersize=4, label="after")
    ax.set_title(f"filter {number}", fontsize=10)
    ax.set_xticks([-5, 0, 5])
figure.supxlabel("point", fontsize=10)
figure.supylabel("weight", fontsize=10)
figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()

# %%
# What did it look at?
# --------------------
# Integrated gradients distribute over the points the difference between the prediction for a
# spectrum and that for a baseline without information, here a straight line through the ends of the
# spectrum. Red points raise the prediction, blue points lower it. Over 40 spectra the narrow peaks
# get most of the difference, and the values elsewhere cancel. The broad peak alone changes the
# prediction little (left); where it lies under a narrow peak, there are values of both signs side
# by side (middle and right).


def straight_line(spectrum):
    """Return the line through the medians of the first and the last ten points."""
    ends = np.median(spectrum[:10]), np.median(spectrum[-10:])
    return np.interp(places, [4.5, n_points - 5.5], ends)


X, concentration, _, first = make_spectra(40, 32, [18], seed=2)
values = np.stack(
    [
        saliency(regressor, x[None], baseline=straight_line(x)[None, :, None], n_steps=32)[0, 0]
        for x in X
    ]
)
distance = np.abs(places - first[:, None]), np.abs(places - first[:, None] - 18)
near = np.minimum(*distance) <= 6
share = np.abs(values[near]).sum() / np.abs(values).sum()
print(
    f"within 6 points of a narrow peak: {near.mean():.0%} of the points, {share:.0%} of the values"
)
on_balance = values[near].sum() / len(X), values[~near].sum() / len(X)
print("mean sum of the values there: {:.3f}, elsewhere: {:.3f}".format(*on_balance))
assert near.mean() < 0.25
assert share > 0.6
assert abs(on_balance[1]) < 0.15 * on_balance[0]

figure, axes = plt.subplots(
    2, 3, figsize=(8, 3.8), sharex=True, sharey="row", height_ratios=(1.4, 1), layout="constrained"
)
predicted = regressor.predict(X)
for (top, bottom), number in zip(axes.T, (14, 15, 16), strict=True):
    line = straight_line(X[number])
    top.plot(X[number] - line, color="black")
    top.axhline(0, color="0.5", linestyle=":")
    top.set_title(f"{concentration[number]:.2f}, predicted {predicted[number]:.2f}", fontsize=10)
    ours = values[number]
    bottom.axhline(0, color="0.5", linewidth=0.8)
    bottom.fill_between(places, np.maximum(ours, 0), color="#b2182b", step="mid")
    bottom.fill_between(places, np.minimum(ours, 0), color="#2166ac", step="mid")
    bottom.plot(places, ours, color="black", linewidth=0.6, drawstyle="steps-mid")
    bottom.set_xlabel("point")
axes[0, 0].set_ylabel("spectrum,\nless the line")
axes[1, 0].set_ylabel("integrated\ngradients")
plt.show()

# %%
# Which substance is it?
# ----------------------
# Three substances differ only in the distance of their peaks, which is 12, 16 or 20 points. A
# support vector machine is trained on each of three representations of a spectrum: the spectrum
# itself, its slopes, and the amplitudes of the frequencies of the slopes, which do not change when
# all peaks move together.

distances = [12, 16, 20]
X_train, _, y_train, _ = make_spectra(1000, 24, distances, seed=3)
X_test, _, y_test, first = make_spectra(500, 24, distances, seed=4)


def frequencies(X):
    """Return the amplitudes of the frequencies of the slopes."""
    return np.abs(np.fft.rfft(derivative(X)))


view_grid = {"svc__C": [10, 100], "svc__gamma": [1e-3, 3e-3, 1e-2]}
accuracies = {}
for name, view in (("as it is", None), ("slopes", derivative), ("frequencies", frequencies)):
    pipeline = make_pipeline(FunctionTransformer(view), StandardScaler(), SVC())
    search = GridSearchCV(pipeline, view_grid, cv=3).fit(X_train, y_train)
    accuracies[f"SVC, {name}"] = search.score(X_test, y_test)

layers = (Conv(8, (1, 9)), Conv(16, (1, 9)), MaxPool((1, 2)), Conv(16, (1, 9)), GlobalAvgPool())
clf = CNNClassifier(layers, **settings).fit(X_train, y_train)
accuracies["CNN"] = clf.score(X_test, y_test)
for name, accuracy in accuracies.items():
    print(f"{name:16s} {accuracy:.3f}")

# %%
# The representation matters more than the model: on the frequencies, which were chosen by hand, the
# support vector machine is as accurate as the network, which learned its representation from the
# spectra.

others = [accuracies["SVC, as it is"], accuracies["SVC, slopes"]]
assert accuracies["CNN"] > max(others) + 0.1
assert abs(accuracies["CNN"] - accuracies["SVC, frequencies"]) < 0.04

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(1, 1.1), layout="constrained")
for substance, distance in enumerate(distances):
    one = np.array([50.0])
    shape = (peaks(one, 2.5) + 0.7 * peaks(one + distance, 2.5))[0]
    axes[0].plot(places, shape + 1.3 * (2 - substance), color=plt.cm.cividis(0.35 * substance))
    axes[0].text(88, 1.3 * (2 - substance) + 0.12, f"distance {distance}")
axes[0].set(title="three substances", xlim=(30, 118), xlabel="point", yticks=[])
bars = axes[1].barh(
    list(accuracies), list(accuracies.values()), color=["#d55e00"] * 3 + ["#0072b2"]
)
axes[1].bar_label(bars, fmt=" {:.3f}")
axes[1].axvline(1 / 3, color="black", linestyle=":", linewidth=1)
axes[1].set(title="other spectra right (dotted: guessing)", xlim=(0, 1.15), xlabel="accuracy")
axes[1].invert_yaxis()
plt.show()
