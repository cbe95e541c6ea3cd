"""Banks of filters: fixed filters, and filters learned from patches without labels."""

from dataclasses import dataclass

import numpy as np

from skcnn._features.patches import Whitener

LEARNED = ("kmeans", "patches", "pca", "random")
N_FILTERS = 64  # default; fewer if there are fewer patches or, for "pca", values in a patch


@dataclass
class Bank:
    """Filters as atoms: vectors in the space of whitened patches.

    Attributes
    ----------
    names : list of str
        Names of the filters.
    shape : (int, int, int)
        Rows, columns and channels of a patch.
    whitener : Whitener
        Maps patches to the space of the atoms.
    atoms : ndarray of shape (n_filters, patch_size)
    """

    names: list
    shape: tuple
    whitener: Whitener
    atoms: np.ndarray

    def directions(self):
        """Return the vectors that whitened patches are multiplied by."""
        return self.atoms

    def filters(self):
        """Return the filters that are applied to images, of shape (n_filters, *shape)."""
        return self.whitener.fold(self.directions())[0].reshape(-1, *self.shape)


@dataclass
class LearnedBank(Bank):
    """Atoms learned from whitened patches, in one call or in several.

    The whitener is fitted to the patches of the first call, so that the space of the atoms stays
    the same.

    Attributes
    ----------
    method : str
        One of `LEARNED`.
    learner : MiniBatchKMeans, IncrementalPCA or None
        Estimator that learns the atoms; None for "patches" and "random".
    n_seen : int
        Number of patches seen so far.
    """

    method: str = "random"
    learner: object = None
    n_seen: int = 0

    @classmethod
    def fit(cls, method, patches, shape, n_filters, random_state, whitener, *, in_pieces=False):
        """Return a bank learned from patches; with `in_pieces`, `partial_fit` may follow."""
        n_filters = _count(method, n_filters, patches)
        names = [f"{method}{i}" for i in range(n_filters)]
        atoms = np.zeros((n_filters, patches.shape[1]), patches.dtype)
        bank = cls(names, shape, whitener, atoms, method)
        if method == "random":
            bank.atoms[...] = random_state.normal(size=bank.atoms.shape)
        elif method == "kmeans":
            bank.learner = _kmeans(n_filters, random_state)
        elif method == "pca":
            bank.learner = _pca(n_filters)
        if in_pieces or bank.learner is None:
            bank.partial_fit(patches, random_state)
        else:
            bank._take(bank.learner.fit(whitener.transform(patches)))
            bank.n_seen = len(patches)
        return bank

    def partial_fit(self, patches, random_state):
        """Learn from more patches, converted to the float type of the first ones."""
        patches = patches.astype(self.atoms.dtype, copy=False)
        if self.method == "patches":
            self._sample(self.whitener.transform(patches), random_state)
        elif self.learner is not None:
            self._take(self.learner.partial_fit(self.whitener.transform(patches)))
        self.n_seen += len(patches)

    def _take(self, learner):
        is_kmeans = self.method == "kmeans"
        self.atoms[...] = learner.cluster_centers_ if is_kmeans else learner.components_

    def _sample(self, white, random_state):
        """Keep a random sample of all patches seen (reservoir sampling, Vitter, 1985)."""
        n_filters = len(self.atoms)
        if self.n_seen == 0:
            self.atoms[...] = white[random_state.choice(len(white), n_filters, replace=False)]
            return
        places = random_state.randint(self.n_seen + 1 + np.arange(len(white)))
        for index in np.flatnonzero(places < n_filters):
            self.atoms[places[index]] = white[index]

    def directions(self):
        """Return the atoms scaled to length 1, or unchanged if their length is 0."""
        length = np.linalg.norm(self.atoms, axis=1, keepdims=True)
        return self.atoms / np.where(length > 0, length, 1)


def _count(method, n_filters, patches):
    """Return the number of filters, or raise a `ValueError` if there are too few patches."""
    n_patches, size = patches.shape
    most = {"random": np.inf, "pca": min(patches.shape)}.get(method, n_patches)
    if n_filters is None:
        return int(min(N_FILTERS, most))
    if n_filters > most:
        of_values = f" of {size} values" if method == "pca" else ""
        raise ValueError(
            f"n_filters must be at most {most} for filters={method!r}, which learns from "
            f"{n_patches} patches{of_values}. Got {n_filters} instead."
        )
    return n_filters


def _kmeans(n_filters, random_state):
    from sklearn.cluster import MiniBatchKMeans  # takes long to import

    return MiniBatchKMeans(
        n_filters,
        batch_size=max(1024, 2 * n_filters),
        init_size=3 * max(1024, n_filters),
        n_init=1,
        compute_labels=False,  # of the patches, which nobody asks for and a pickle would hold
        random_state=random_state.randint(np.iinfo(np.int32).max),
    )


def _pca(n_filters):
    from sklearn.decomposition import IncrementalPCA  # takes long to import

    return IncrementalPCA(n_filters)
