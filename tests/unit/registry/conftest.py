from __future__ import annotations

import uuid

import pytest


@pytest.fixture
def model() -> str:
    """Return a name that no other test uses on the shared server."""
    return f"m-{uuid.uuid4().hex[:8]}"
