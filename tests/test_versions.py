"""What an installation runs on, and the advice about its BLAS."""

import numpy as np
import pytest
import sklearn

from skcnn import __version__, show_versions
from skcnn.versions import older_kernels


def test_show_versions(capsys):
    show_versions()
    shown = capsys.readouterr().out
    for title in ("System", "Packages", "BLAS", "Workers"):
        assert title in shown
    for number in (np.__version__, sklearn.__version__):
        assert number in shown
    assert __version__.count(".") == 2


@pytest.mark.parametrize(
    ("kernel", "cpu_level", "advice"),
    [
        ("Haswell", 3, "OPENBLAS_CORETYPE=SkylakeX"),
        ("SandyBridge", 3, "OPENBLAS_CORETYPE=SkylakeX"),
        ("SandyBridge", 2, "OPENBLAS_CORETYPE=Haswell"),
        ("SkylakeX", 3, None),
        ("Haswell", 2, None),
        ("Haswell", 0, None),
        ("Unheard", 3, None),
    ],
)
def test_older_kernels(kernel, cpu_level, advice):
    library = {"user_api": "blas", "internal_api": "openblas", "architecture": kernel}
    got = older_kernels([library], cpu_level)
    assert got is None if advice is None else advice in got
    assert older_kernels([{**library, "internal_api": "mkl"}], cpu_level) is None
