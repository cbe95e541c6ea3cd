"""The kinds of workers that fits are tested with."""

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
