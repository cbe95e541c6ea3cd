"""Property tests with hypothesis; where it is not installed they are skipped."""

try:
    from hypothesis import HealthCheck, assume, given, settings
    from hypothesis import strategies as st
except ImportError:
    from unittest.mock import MagicMock

    import pytest

    HealthCheck, assume, settings, st = (MagicMock() for _ in range(4))
    settings.return_value = lambda test: test

    def given(*args, **kwargs):
        return pytest.mark.skip(reason="needs hypothesis")

else:
    settings.register_profile("skcnn", deadline=None, derandomize=True, database=None)
    settings.load_profile("skcnn")

__all__ = ["HealthCheck", "assume", "given", "settings", "st"]
