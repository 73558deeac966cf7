from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.console import run
from app.cli.main import cli
from app.redis_io.embedded import EmbeddedRedis
from app.registry import version_log
from app.registry.epochs import Lease
from app.registry.packs import feedback_packs, version_packs
from app.registry.registry import ModelRegistry
from tests.unit.command_lines import CSV
from tests.unit.places import METADATA, Place, state_of


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedRedis]:
    """Return a server that tests share: none may end it, or empty it of another's keys."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def place(server, tmp_path) -> Iterator[Place]:
    place = Place(server.url, tmp_path / "snapshots")
    yield place
    place.close()


@pytest.fixture
def registry(place) -> ModelRegistry:
    """Return the registry of a model at version 0."""
    place.registry.create(state_of(0), METADATA)
    return place.registry


@pytest.fixture
def lease(registry) -> Lease:
    return registry.acquire("q")


@pytest.fixture
def small_packs(monkeypatch):
    """Let five versions, or five batches, make a pack, and two stay out of one."""
    for module in (version_packs, feedback_packs):
        monkeypatch.setattr(module, "PER_PACK", 5)
    monkeypatch.setattr(version_log, "NEVER_PACKED", 2)
    monkeypatch.setattr(feedback_packs, "NEVER_PACKED", 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Run in a directory with a readable input and nothing else that matters."""
    monkeypatch.chdir(tmp_path)
    for variable in ("REDIS_URL", "EXECUTOR_REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)
    Path("in.csv").write_text(CSV)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs a command line in this process: code, output, errors."""

    def call_cli(*args, cli=cli):
        monkeypatch.setattr(sys, "argv", ["app", *args])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run(cli)
        return stopped.value.code, *capsys.readouterr()

    return call_cli


@pytest.fixture
def complaint(call):
    """Return a function that gives the one line with which a command line is refused."""

    def refused(*args, code=2):
        found, output, errors = call(*args)
        assert (found, output) == (code, "")
        assert errors.startswith("error: ") and errors.count("\n") == 1
        return errors.removeprefix("error: ").rstrip("\n")

    return refused
