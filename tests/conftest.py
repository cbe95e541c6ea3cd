"""Settings of the property tests: the same examples in each run, nothing written to disk."""

from hypothesis import settings

settings.register_profile("skcnn", deadline=None, derandomize=True, database=None)
settings.load_profile("skcnn")
