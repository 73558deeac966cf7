"""What the release before wrote is gone on with: a work directory in the middle of its input."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from app.files.workdir import FORMAT, check_format
from app.monitor.batch_log import BatchLog
from app.report.history import version_history
from app.streaming.replay import replay
from tests.integration.streams import read_predictions, small_csv, small_settings


@pytest.fixture
def inputs(tmp_path) -> Path:
    """Return a directory whose files do not come in the order of their names."""
    (tmp_path / "in").mkdir()
    small_csv(tmp_path / "in" / "z.csv", 250)
    return tmp_path / "in"


def to_format_1(workdir: Path) -> None:
    """Rewrite a work directory as the release before would have left it."""
    looks = [json.loads(line) for line in (workdir / "input.files").read_text().splitlines()]
    files = [file for look in looks for file in look["files"]]
    (workdir / "input.json").write_text(json.dumps(files, indent=1))
    (workdir / "input.files").unlink()
    (workdir / "format.json").unlink()
    snapshots = workdir / "snapshots"
    for path in (snapshots / "HEAD.json", *snapshots.glob("versions/*/*.json")):
        record = json.loads(path.read_text())
        for name in ("format", "checksum", "metadata_sha256", "record_sha256"):
            record.pop(name, None)
        model = record.pop("model")
        seal = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps(record | {"seal": seal, "model": model}))
    for path in workdir.glob("predictions/*/batches=*/*.parquet"):
        directory = path.parents[1] / f"batch={path.stem}"
        directory.mkdir()
        path.rename(directory / "predictions.parquet")
    for path in workdir.glob("predictions/*/batches=*"):
        path.rmdir()
    for record in BatchLog(workdir / "batches").read():
        path = workdir / "batches" / record.query / f"{record.batch:08d}.json"
        path.write_text(json.dumps(dataclasses.asdict(record)))
    for path in workdir.glob("batches/*/*.jsonl"):
        path.unlink()
    for path in (snapshots / "inputs").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text())["files"]))


def test_a_replay_goes_on_where_the_release_before_stopped(inputs, tmp_path):
    settings = small_settings(inputs, tmp_path / "w", rows_per_batch=100)
    replay(settings)
    to_format_1(tmp_path / "w")
    assert check_format(tmp_path / "w") is None
    # Before the first by name, and after it in the order that the offsets count in.
    small_csv(inputs / "a.csv", 130, seed=1)
    summary = replay(settings)
    assert (summary.run.rows_learned, summary.total.rows_learned) == (130, 380)
    assert check_format(tmp_path / "w") == FORMAT
    assert sorted(set(read_predictions(tmp_path / "w")["batch_id"])) == [0, 1, 2, 3, 4]
    assert not list((tmp_path / "w").glob("batches/*/*.json"))
    assert len(version_history(tmp_path / "w")) == summary.version + 1

    (inputs / "a.csv").rename(inputs / "zz.csv")
    undisturbed = replay(small_settings(inputs, tmp_path / "other", rows_per_batch=100))
    assert summary.state_sha256 == undisturbed.state_sha256
