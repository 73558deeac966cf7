"""The benchmark of growth, in short: few files, and the same answers."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from app.files.batches.merging import merge_closed
from app.registry.packs.upkeep import EVERY
from tests.bench import growth
from tests.bench.growth import ROWS, Life, without_syncs
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.slow]

BATCHES = 4 * EVERY + 1
# Two hundreds of versions and of batches are packed by then.
LOOSE = BATCHES - 200


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    root = tmp_path_factory.mktemp("growth")
    with RedisServer(root) as server, without_syncs():
        life = Life(root / "w", server.url)
        life.live(BATCHES)
        yield life
        life.close()


def names(life: Life, pattern: str) -> list[str]:
    return sorted(path.name for path in life.path.glob(pattern))


def test_a_few_files_hold_what_many_batches_left(life):
    assert len(names(life, "snapshots/versions/*/*.jsonl")) == 2
    # Version 0 is no batch's.
    assert len(names(life, "snapshots/versions/*/*.json")) == LOOSE + 1
    assert len(names(life, "snapshots/feedback/*/batches=*")) == 2
    assert len(names(life, "snapshots/feedback/*/batch=*")) == LOOSE
    # Two when midnight passes.
    assert len(names(life, "batches/*/*")) in (1, 2)
    assert len(names(life, "snapshots/*.safetensors")) == 50 + 3
    assert len(names(life, "predictions/*/*/*")) == BATCHES
    assert sum(life.files().values()) < 2 * LOOSE + BATCHES + 90


def test_a_run_starts_with_all_that_it_needs_of_the_past(life):
    life.start_up()


def test_commands_see_every_version(call, life):
    workdir = ["--workdir", str(life.path)]
    _, out, _ = call("status", *workdir, "--json")
    assert json.loads(out)["version"] == BATCHES
    _, out, _ = call("history", *workdir, "--json")
    assert [json.loads(line)["version"] for line in out.splitlines()] == [*range(BATCHES + 1)]
    _, out, _ = call("history", *workdir, "--last", "2", "--json")
    assert [json.loads(line)["version"] for line in out.splitlines()] == [BATCHES - 1, BATCHES]
    for version in (7, BATCHES - 5):
        code, out, _ = call("rebuild", *workdir, "--to", str(version), "--json")
        assert code == 0 and json.loads(out)["version"] == version


def test_predictions_are_read_as_ever(life):
    table = pd.read_parquet(life.path / "predictions")
    assert sorted(table["event_id"].map(int)) == [*range(ROWS * BATCHES)]
    assert {"query", "batch_id", "prediction", "model_version"} < set(table.columns)
    assert merge_closed(life.path / "predictions").files == 0, "its only thousand is the newest"


def test_an_hour_is_counted_in_batches(life, monkeypatch):
    assert life.older_than_an_hour() == 0
    monkeypatch.setattr(growth, "HOUR", 100)
    old = life.older_than_an_hour()
    assert 0 < old < 80
