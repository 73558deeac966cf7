from __future__ import annotations

import uuid
from pathlib import Path

import pytest


@pytest.fixture
def model() -> str:
    """Return a name that no other test uses on the shared server."""
    return f"m-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def workdir(tmp_path) -> Path:
    workdir = tmp_path / "work"
    workdir.mkdir()
    return workdir
