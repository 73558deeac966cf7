"""A model's versions as a table, whatever made them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from app.errors import DamagedRecordError, UserError
from app.monitor.records import BatchRecord
from app.registry.version import ModelVersion, snapshot_name
from app.registry.version_log import VersionLog
from app.report.history import history_lines, version_history

QUERY = "0a1b2c3d-4e5f-6789-abcd-ef0123456789"


def record(version: int, origin: dict) -> ModelVersion:
    return ModelVersion(
        version=version,
        state_sha256=f"{version:02d}" * 32,
        snapshot=snapshot_name(version, f"{version:02d}" * 32),
        published_at=f"2024-01-01T00:00:{version:02d}.000+00:00",
        commit=f"commit-{version}",
        origin=origin,
    )


def batch(version: int, number: int, rows: int, errors: int) -> ModelVersion:
    learned = BatchRecord(
        query=QUERY,
        batch=number,
        rows_scored=rows + 1,
        rows_learned=rows,
        dead_letters={},
        served_errors=0,
        prequential_errors=errors,
        version=version,
        alpha=[0.5, 0.5],
        finished_at="2024-01-01T00:00:00.000+00:00",
    )
    told = {"query": QUERY, "batch": number, "record": dataclasses.asdict(learned)}
    return record(version, {"kind": "batch", **told})


RECORDS = [
    record(0, {"kind": "created"}),
    batch(1, 0, 5000, 1250),
    batch(2, 1234, 3, 1),
    record(3, {"kind": "rollback", "to": 1}),
    batch(4, 1235, 1, 0),
]


def write(workdir: Path, records: list[ModelVersion]) -> Path:
    chain = VersionLog(workdir / "snapshots", "m")
    for each in records:
        chain.append(each)
    return workdir


@pytest.fixture
def workdir(tmp_path) -> Path:
    return write(tmp_path, RECORDS)


def test_what_made_each_version_is_told(workdir):
    told = [
        {name: version[name] for name in ("version", "kind", "query", "batch", "to")}
        for version in version_history(workdir)
    ]

    nothing = {"query": None, "batch": None, "to": None}
    assert told == [
        {"version": 0, "kind": "created"} | nothing,
        {"version": 1, "kind": "batch", "query": QUERY, "batch": 0, "to": None},
        {"version": 2, "kind": "batch", "query": QUERY, "batch": 1234, "to": None},
        {"version": 3, "kind": "rollback"} | nothing | {"to": 1},
        {"version": 4, "kind": "batch", "query": QUERY, "batch": 1235, "to": None},
    ]


def test_rows_and_error_of_each_batch_are_told(workdir):
    versions = version_history(workdir)

    assert [v["rows_learned"] for v in versions] == [None, 5000, 3, None, 1]
    assert [v["prequential_error"] for v in versions] == [None, 0.25, 1 / 3, None, 0.0]


def test_hash_and_time_of_each_version_are_told(workdir):
    versions = version_history(workdir)

    assert [v["state_sha256"] for v in versions] == [each.state_sha256 for each in RECORDS]
    assert [v["published_at"] for v in versions] == [each.published_at for each in RECORDS]


@pytest.mark.parametrize(
    ("last", "shown"),
    [(0, [0, 1, 2, 3, 4]), (1, [4]), (2, [3, 4]), (5, [0, 1, 2, 3, 4]), (99, [0, 1, 2, 3, 4])],
)
def test_only_the_newest_so_many_are_shown(workdir, last, shown):
    assert [v["version"] for v in version_history(workdir, "m", last)] == shown


def test_10_comes_after_9(tmp_path):
    write(tmp_path, [record(version, {"kind": "created"}) for version in range(12)])

    assert [v["version"] for v in version_history(tmp_path)] == list(range(12))


def test_missing_record_is_passed_over(workdir):
    [path] = workdir.glob("*/versions/*/0000000002.json")
    path.unlink()
    VersionLog(workdir / "snapshots", "m").write_current(RECORDS[-1])

    assert [v["version"] for v in version_history(workdir)] == [0, 1, 3, 4]


def test_damaged_record_is_told(workdir):
    [path] = workdir.glob("*/versions/*/0000000002.json")
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DamagedRecordError, match=str(path)):
        version_history(workdir)


@pytest.mark.parametrize("model", [None, "m"])
def test_work_directory_without_a_model_is_told(tmp_path, model):
    with pytest.raises(UserError, match=f"{tmp_path} holds no model"):
        version_history(tmp_path, model)


def test_model_of_another_name_is_told(workdir):
    with pytest.raises(UserError, match="holds no model 'other'"):
        version_history(workdir, "other")


def test_lines_are_aligned(workdir):
    h0, h1, h2, h3, h4 = (each.state_sha256[:16] for each in RECORDS)

    assert history_lines(version_history(workdir)) == [
        "version  made by        query     batch  rows   error   SHA-256           published",
        f"0        created                                        {h0}  {RECORDS[0].published_at}",
        f"1        batch          0a1b2c3d  0      5,000  0.2500  {h1}  {RECORDS[1].published_at}",
        f"2        batch          0a1b2c3d  1,234  3      0.3333  {h2}  {RECORDS[2].published_at}",
        f"3        rollback to 1                                  {h3}  {RECORDS[3].published_at}",
        f"4        batch          0a1b2c3d  1,235  1      0.0000  {h4}  {RECORDS[4].published_at}",
    ]


def test_no_versions_are_a_header_alone():
    [line] = history_lines([])

    names = "version made by query batch rows error SHA-256 published"
    assert line.split() == names.split()
