"""What this installation runs on, and which version of the package a file comes from."""

import platform
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import Options, validate_params
from threadpoolctl import threadpool_info

from skcnn._workers.blas import n_workers

__version__ = "0.1.0"

PACKAGES = (
    "skcnn",
    "numpy",
    "scipy",
    "scikit-learn",
    "joblib",
    "threadpoolctl",
    "matplotlib",
    "rich",
)

# OpenBLAS's kernels by the vector instructions they use: AVX, AVX2, AVX-512.
_KERNEL_LEVELS = {
    1: ("SandyBridge", "Bulldozer", "Piledriver", "Steamroller"),
    2: ("Haswell", "Zen", "Excavator"),
    3: ("SkylakeX", "Cooperlake", "SapphireRapids"),
}
_LEVEL_NAMES = {1: "AVX", 2: "AVX2", 3: "AVX-512"}
_BEST_KERNEL = {1: "SandyBridge", 2: "Haswell", 3: "SkylakeX"}


def _cpu_level() -> int:
    """Return the level of the CPU's vector instructions, 0 where NumPy does not tell."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features
    except ImportError:
        return 0
    for level, feature in ((3, "AVX512_SKX"), (2, "AVX2"), (1, "AVX")):
        if features.get(feature):
            return level
    return 0


@validate_params(
    {"libraries": [list], "cpu_level": [Options(Integral, {0, 1, 2, 3})]},
    prefer_skip_nested_validation=True,
)
def older_kernels(libraries: list[dict], cpu_level: int) -> str | None:
    """Return a line of advice if OpenBLAS runs kernels older than the CPU, else None.

    Parameters
    ----------
    libraries : list of dict
        As `threadpoolctl.threadpool_info` returns it.
    cpu_level : int
        1 for AVX, 2 for AVX2, 3 for AVX-512, 0 for unknown.
    """
    levels = {name: level for level, names in _KERNEL_LEVELS.items() for name in names}
    for library in libraries:
        kernel = library.get("architecture")
        if library.get("internal_api") == "openblas" and levels.get(str(kernel), 9) < cpu_level:
            return (
                f"OpenBLAS runs its {kernel} kernels, but this CPU has {_LEVEL_NAMES[cpu_level]}: "
                f"try OPENBLAS_CORETYPE={_BEST_KERNEL[cpu_level]} in the environment "
                "(docs/speed.md)."
            )
    return None


def show_versions() -> None:
    """Print the versions, the BLAS with its kernels, and the threads that are in use.

    Examples
    --------
    >>> from skcnn import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    System
    ...
    """
    print("System")
    print(f"  python        {sys.version.split()[0]}")
    print(f"  machine       {platform.platform()}")
    print("\nPackages")
    for package in PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "-"
        print(f"  {package:13s} {found}")
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    print("\nBLAS")
    for library in libraries:
        kernel = library.get("architecture", "unknown")
        print(
            f"  {library['internal_api']} {library['version']}, kernels: {kernel}, "
            f"threads: {library['num_threads']} ({library['prefix']})"
        )
    print(f"\nWorkers\n  n_jobs=None   {n_workers(None)}\n  n_jobs=-1     {n_workers(-1)}")

    advice = older_kernels(libraries, _cpu_level())
    if advice:
        print(f"\n{advice}")


class VersionWarning(UserWarning):
    """Warns of a loaded estimator that another version of skcnn has saved."""


class VersionedState:
    """Saves the version of skcnn with an estimator, and warns if another version loads it."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skcnn_version": __version__}  # type: ignore[dict-item]

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        saved_by = state.pop("_skcnn_version", "of an unknown version")
        if saved_by != __version__:
            warnings.warn(
                f"{type(self).__name__} was saved by skcnn {saved_by}, and is loaded by skcnn "
                f"{__version__}: it may fail, or predict something else. Load it with the version "
                "that has saved it, or fit it again.",
                VersionWarning,
                stacklevel=2,
            )
        super().__setstate__(state)  # type: ignore[misc]
