"""Hypothesis in this folder: the same examples at every run in CI, new ones elsewhere."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "domain",
    derandomize="CI" in os.environ,
    # A busy machine must not fail a property.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("domain")
