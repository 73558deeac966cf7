"""A batch is in the table once, whoever tries how often, and whoever else writes."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from app.errors import StorageError, UserError
from app.streaming.sinks.delta import append_to_delta


def rows(*ids: str) -> pa.Table:
    return pa.table({"event_id": ids, "p": pa.array([[0.5]] * len(ids), pa.list_(pa.float32()))})


def ids(table: Path) -> list[str]:
    return sorted(DeltaTable(table).to_pyarrow_table()["event_id"].to_pylist())


@pytest.fixture
def table(tmp_path) -> Path:
    return tmp_path / "tables/predictions"


def test_a_batch_is_appended_once(table):
    assert append_to_delta(table, rows("a"), query="q", batch=0)
    assert append_to_delta(str(table), rows("b"), query="q", batch=1)
    assert not append_to_delta(table, rows("b"), query="q", batch=1)
    assert not append_to_delta(table, rows("a"), query="q", batch=0)
    assert append_to_delta(table, rows("c"), query="q", batch=5)
    assert ids(table) == ["a", "b", "c"]


def test_a_new_checkpoint_that_starts_at_batch_0_again_is_not_skipped(table):
    for query in ("q1", "q2"):
        for batch in (0, 1):
            assert append_to_delta(table, rows(f"{query}-{batch}"), query=query, batch=batch)
    assert ids(table) == ["q1-0", "q1-1", "q2-0", "q2-1"]
    assert DeltaTable(table).transaction_version("hedgestream-q1") == 1


def test_batches_are_known_by_number_and_not_by_text(table):
    assert append_to_delta(table, rows("a"), query="q", batch=9)
    assert append_to_delta(table, rows("b"), query="q", batch=10)


def test_what_was_appended_is_still_known_after_a_checkpoint_of_the_log(table):
    for batch in range(3):
        append_to_delta(table, rows(str(batch)), query="q", batch=batch)
    DeltaTable(table).create_checkpoint()
    for commit in (table / "_delta_log").glob("*[012].json"):
        commit.unlink()
    assert not append_to_delta(table, rows("2"), query="q", batch=2)
    assert append_to_delta(table, rows("3"), query="q", batch=3)


def test_a_batch_without_rows_writes_nothing(table):
    assert not append_to_delta(table, rows(), query="q", batch=0)
    assert not table.exists()


def test_a_compaction_in_between_changes_nothing(table):
    for batch in range(2):
        append_to_delta(table, rows(str(batch)), query="q", batch=batch)
    DeltaTable(table).optimize.compact()
    assert not append_to_delta(table, rows("1"), query="q", batch=1)
    assert ids(table) == ["0", "1"]


@pytest.mark.parametrize("queries", [["q0", "q1", "q2"], ["q", "q", "q"]], ids=["own", "same"])
@pytest.mark.parametrize("seed", range(3))
def test_appenders_at_the_same_time_from_the_first_commit_on(table, queries, seed):
    n_batches, start, outcomes = 6, threading.Barrier(len(queries)), []

    def append(query: str) -> None:
        start.wait()
        for batch in range(n_batches):
            wrote = append_to_delta(table, rows(f"{query}-{batch}"), query=query, batch=batch)
            outcomes.append(wrote)

    threads = [threading.Thread(target=append, args=(query,)) for query in queries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sorted(f"{query}-{b}" for query in set(queries) for b in range(n_batches))
    assert ids(table) == expected
    assert sum(outcomes) == len(expected)
    assert len(outcomes) == n_batches * len(queries)


def test_columns_may_come_in_another_order(table):
    append_to_delta(table, rows("a"), query="q", batch=0)
    append_to_delta(table, rows("b").select(["p", "event_id"]), query="q", batch=1)
    assert ids(table) == ["a", "b"]


def test_timestamps_of_any_unit_fit(table):
    for batch, unit in enumerate(("us", "ns", "ms", "s")):
        times = pa.array([datetime(2024, 1, 1)], pa.timestamp(unit, "UTC"))
        append_to_delta(table, pa.table({"t": times}), query="q", batch=batch)
    assert DeltaTable(table).to_pyarrow_table().num_rows == 4


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"event_id": ["b"]}, "lacks column 'p'"),
        ({"event_id": ["b"], "p": [[0.5]]}, "has column 'p' as "),
        ({"event_id": [1], "p": None}, "has column 'event_id' as long, not string"),
        ({"event_id": ["b"], "p": None, "z": [1]}, "has a column 'z' that the table has not"),
    ],
)
def test_columns_that_do_not_fit_are_named_and_nothing_is_written(table, columns, fault):
    append_to_delta(table, rows("a"), query="q", batch=0)
    given = pa.table({k: rows("b")["p"] if v is None else v for k, v in columns.items()})
    with pytest.raises(UserError) as caught:
        append_to_delta(table, given, query="q", batch=1)
    assert str(caught.value).startswith(f"Delta table {table} has other columns than the rows")
    assert fault in str(caught.value)
    assert ids(table) == ["a"]
    assert DeltaTable(table).transaction_version("hedgestream-q") == 0


def test_a_table_of_someone_else_may_be_appended_to(table):
    table.parent.mkdir()
    write_deltalake(table, rows("theirs"))
    assert append_to_delta(table, rows("a"), query="q", batch=0)
    assert ids(table) == ["a", "theirs"]


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file, and a Delta table is a directory"):
        append_to_delta(tmp_path / "file", rows("a"), query="q", batch=0)


def test_a_table_that_cannot_be_written_is_named(table, tmp_path):
    (tmp_path / "tables").touch()
    with pytest.raises(StorageError, match=f"Delta table {table} cannot be written: "):
        append_to_delta(table, rows("a"), query="q", batch=0)
