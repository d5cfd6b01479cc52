"""What is packaged is loaded from where packages really are."""

import pytest


@pytest.fixture(autouse=True)
def _few_roots() -> None:
    """All that this machine trusts."""
