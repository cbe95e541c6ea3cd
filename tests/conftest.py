"""The kinds of workers that fits are tested with, and the examples that need other packages."""

from importlib.util import find_spec

import pytest
from reference import use_workers

from skcnn._model import shards


@pytest.fixture(params=["processes", "threads"])
def workers(request, monkeypatch):
    """Have every fit with several workers use processes, or threads, and split small batches."""
    shards.shard_slices.cache_clear()
    use_workers(monkeypatch, request.param)
    yield request.param
    shards.shard_slices.cache_clear()


def pytest_collection_modifyitems(items):
    """Skip the examples of docstrings and documents that need a package that is absent."""
    signs = {"matplotlib": ("matplotlib", "Display"), "pandas": ("pandas", "as_frame")}
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            source = "".join(example.source for example in item.dtest.examples)
            for package, words in signs.items():
                if find_spec(package) is None and any(word in source for word in words):
                    item.add_marker(pytest.mark.skip(reason=f"needs {package}"))
