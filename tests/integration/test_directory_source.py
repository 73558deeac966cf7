"""Files that appear while a query reads: every row once, in order, whatever happens to them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from app.config.connectors import parse_source
from app.contract import Contract
from app.errors import UserError
from app.parsing.packed_rows import unpacked
from app.parsing.row_parser import RowParser
from app.streaming.sources.directory import layout_of, read_directory
from tests.waiting import wait_until

COLUMNS = ("x", "y")
CONTRACT = Contract(columns=COLUMNS, features=("x",), n_features=1, classes=("0", "1"), label="y")


class Stream:
    """A place that grows, and queries over it that note what each batch held."""

    def __init__(self, spark: SparkSession, root: Path, source: str, name: str = "in") -> None:
        self.spark = spark
        self.root = root
        self.place = root / name
        self.spec = parse_source(f"{source}:{self.place}", "events")
        self.manifest = root / f"{name}.jsonl"
        self.batches: dict[int, list[dict]] = {}
        self.during: Callable[[int], object] = lambda number: None

    def add(self, name: str, values: list[int]) -> Path:
        """Have a file appear whole. A row's label is the parity of its value."""
        if self.spec.kind == "delta":
            from deltalake import write_deltalake

            write_deltalake(self.place, self.table(values), mode="append")
            return self.place
        self.place.mkdir(exist_ok=True)
        written = self.root / f".{name}"
        if self.spec.format == "parquet":
            pq.write_table(self.table(values), written)
        elif self.spec.format == "csv":
            written.write_text("x,y\n" + "".join(f"{v},{v % 2}\n" for v in values))
        else:
            written.write_text("".join(json.dumps({"x": v, "y": v % 2}) + "\n" for v in values))
        return written.rename(self.place / name)

    @staticmethod
    def table(values: list[int]) -> pa.Table:
        return pa.table({"x": list(map(float, values)), "y": [v % 2 for v in values]})

    def rows(self, n: int = 1000) -> DataFrame:
        return read_directory(
            self.spark, self.spec, COLUMNS, manifest=self.manifest, max_rows_per_batch=n
        )

    def start(self, rows: DataFrame, *, once: bool, fail_at: int | None = None) -> StreamingQuery:
        """Start a query; it fails after it has seen batch ``fail_at``, before the commit."""

        def see(batch: DataFrame, number: int) -> None:
            seen = parsed(batch)
            # A batch that is tried again holds the same rows.
            assert self.batches.setdefault(number, seen) == seen
            self.during(number)
            if number == fail_at:
                raise RuntimeError("as planned")

        writer = rows.writeStream.foreachBatch(see)
        writer = writer.option("checkpointLocation", f"file://{self.root}/checkpoint")
        return (writer.trigger(availableNow=True) if once else writer).start()

    def run(self, n: int = 1000, *, fail_at: int | None = None) -> None:
        """Read what is there to the end, or to the failure."""
        query = self.start(self.rows(n), once=True, fail_at=fail_at)
        if fail_at is None:
            query.awaitTermination()
        else:
            with pytest.raises(StreamingQueryException, match="as planned"):
                query.awaitTermination()

    @contextlib.contextmanager
    def running(self, rows: DataFrame) -> Iterator[StreamingQuery]:
        query = self.start(rows, once=False)
        try:
            yield query
        finally:
            query.stop()

    def failure(self, n: int = 1000) -> str:
        with pytest.raises(StreamingQueryException) as caught:
            self.run(n)
        return str(caught.value)

    def seen(self) -> list[dict]:
        return [row for number in sorted(self.batches) for row in self.batches[number]]

    def values(self) -> list[int]:
        """Return the values in order of batch, after a look at the row numbers."""
        rows = self.seen()
        assert [row["sequence"] for row in rows] == list(range(len(rows)))
        return list(map(value, rows))

    def sizes(self) -> list[int]:
        return [len(self.batches[number]) for number in sorted(self.batches)]


def parsed(batch: DataFrame) -> list[dict]:
    """Return what becomes of the rows of a batch, each with what else its columns say of it."""
    columns = batch.toArrow().to_pydict()
    parser = RowParser(CONTRACT)
    return [
        {**dict(zip(columns, place, strict=True)), **row}
        for place in zip(*columns.values(), strict=True)
        for rows in unpacked(pa.array([place[0]], pa.binary()))
        for row in parser.parse(rows).to_pylist()
    ]


def value(row: dict) -> int:
    assert row["reason"] is None
    return int(row["features"][0])


@pytest.fixture
def open_stream(spark: SparkSession, tmp_path: Path):
    def open_(source: str, name: str = "in") -> Stream:
        if source == "delta":
            pytest.importorskip("deltalake", reason="the package deltalake is not installed")
        return Stream(spark, tmp_path, source, name)

    return open_


@pytest.fixture(params=["csv", "json", "parquet", "delta"])
def stream(request, open_stream) -> Stream:
    return open_stream(request.param)


@pytest.mark.parametrize("source", ["csv", "delta"])
def test_rows_come_once_and_in_order_while_files_arrive(open_stream, source):
    stream = open_stream(source)
    with stream.running(stream.rows()):
        for i in range(3):
            stream.add(f"{i}", list(range(10 * i, 10 * i + 10)))
            wait_until(lambda n=10 * i + 10: len(stream.seen()) == n, f"file {i} read", 60)
    assert stream.values() == list(range(30))


def test_batches_are_full_within_and_across_files_until_the_last(stream):
    for i, length in enumerate((5, 0, 12, 1, 7)):
        stream.add(f"{i}", [i] * length)
    stream.run(4)
    assert stream.sizes() == [4, 4, 4, 4, 4, 4, 1]
    assert stream.values() == [0] * 5 + [2] * 12 + [3] + [4] * 7


@pytest.mark.parametrize("source", ["json", "delta"])
def test_another_run_goes_on_where_the_last_one_ended(open_stream, source):
    stream = open_stream(source)
    stream.add("b", [0, 1, 2])
    stream.run(2)
    stream.add("a", [3, 4, 5])
    stream.run(2)
    stream.run(2)
    assert stream.values() == list(range(6))


@pytest.mark.parametrize(
    ("source", "fail_at", "sizes"),
    [("csv", 0, [4, 3]), ("delta", 0, [4, 3]), ("json", 1, [4, 2, 1]), ("parquet", 1, [4, 2, 1])],
)
def test_a_batch_that_is_tried_again_has_the_same_rows(open_stream, source, fail_at, sizes):
    stream = open_stream(source)
    stream.add("b", [0, 1, 2])
    stream.add("c", [3, 4, 5])
    stream.run(4, fail_at=fail_at)
    stream.add("a", [6])
    stream.run(4)
    assert stream.values() == list(range(7))
    assert stream.sizes() == sizes


def test_a_run_reads_what_was_there_at_its_start(open_stream):
    stream = open_stream("csv")
    stream.add("a", [0, 1])
    stream.during = lambda number: stream.add(f"b{number}", [2])
    stream.run(1)
    assert stream.values() == [0, 1]


@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_files_that_were_read_may_be_removed(open_stream, source):
    stream = open_stream(source)
    for i in range(3):
        path = stream.add(f"{i}", [i, i])
        empty = stream.add(f"{i}-empty", [])
        stream.run(1)
        path.unlink()
        empty.unlink()
    stream.run(1)
    assert stream.values() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("source", ["csv", "json", "parquet"])
def test_a_file_that_vanished_before_it_was_read_is_told(open_stream, source):
    stream = open_stream(source)
    stream.add("0", [0, 1])
    stream.add("1", [2, 3])
    stream.run(2, fail_at=0)
    (stream.place / "1").unlink()
    message = stream.failure(2)
    assert "DataLossError" in message
    assert f"{stream.place}/1 is gone and was not read to its end" in message


def test_a_manifest_that_a_crash_tore_is_gone_on_with(open_stream):
    stream = open_stream("csv")
    stream.add("b", [0, 1])
    stream.run()
    whole = stream.manifest.read_bytes()
    stream.manifest.write_bytes(whole + whole[:-3])
    stream.add("a", [2])
    stream.run()
    assert stream.values() == [0, 1, 2]


def test_a_manifest_of_another_checkpoint_is_refused(open_stream):
    stream = open_stream("csv")
    stream.add("a", [0, 1])
    stream.add("b", [2])
    stream.run()
    stream.manifest.unlink()
    (stream.place / "b").unlink()
    message = stream.failure()
    assert "the checkpoint has read 2 files, and the list of the source's files has 1" in message


def test_a_file_that_changed_before_its_batch_was_tried_again_is_told(open_stream):
    stream = open_stream("csv")
    stream.add("a", [0, 1, 2])
    stream.run(fail_at=0)
    stream.add("a", [0])
    assert "rows 1 to 2 were read once and are gone" in stream.failure()


def test_a_compaction_of_a_delta_table_adds_no_rows(open_stream):
    from deltalake import DeltaTable

    stream = open_stream("delta")
    for v in range(3):
        stream.add("", [v])
    with stream.running(stream.rows()):
        wait_until(lambda: len(stream.seen()) == 3, "the first rows", 60)
        DeltaTable(stream.place).optimize.compact()
        stream.add("", [3])
        wait_until(lambda: len(stream.seen()) > 3, "the row after the compaction", 60)
    stream.run()
    assert stream.values() == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["delete", "overwrite"])
def test_a_delta_table_that_lost_rows_ends_the_query(open_stream, mode):
    from deltalake import DeltaTable, write_deltalake

    stream = open_stream("delta")
    stream.add("", [0, 1])
    stream.run()
    if mode == "delete":
        DeltaTable(stream.place).delete("x = 0")
    else:
        write_deltalake(stream.place, stream.table([5]), mode="overwrite")
    assert f"version 1 of Delta table {stream.place} removed or changed rows" in stream.failure()


def test_a_delta_log_cleaned_up_too_early_ends_the_query(open_stream):
    stream = open_stream("delta")
    stream.add("", [0])
    stream.run()
    for v in range(1, 4):
        stream.add("", [v])
    (stream.place / f"_delta_log/{1:020d}.json").unlink()
    message = stream.failure()
    assert "DataLossError" in message
    assert "versions 1 to 1 of Delta table" in message


@pytest.mark.parametrize("fail_at", [None, 1])
def test_two_sources_in_one_query(open_stream, fail_at):
    events, feedback = open_stream("parquet", "events"), open_stream("csv", "feedback")

    def both(n: int) -> DataFrame:
        kinds = (events, "e"), (feedback, "f")
        ours, theirs = (each.rows(n).selectExpr("*", f"'{kind}' as kind") for each, kind in kinds)
        return ours.union(theirs)

    def run(fail_at: int | None = None) -> None:
        query = events.start(both(2), once=True, fail_at=fail_at)
        with (
            contextlib.suppress(StreamingQueryException)
            if fail_at is not None
            else (contextlib.nullcontext())
        ):
            query.awaitTermination()

    events.add("0", [0, 1, 2])
    feedback.add("0", [10, 11, 12, 13, 14])
    run(fail_at)
    events.add("1", [3])
    run()
    feedback.add("1", [15])
    run()
    for source, expected in (("e", [0, 1, 2, 3]), ("f", [10, 11, 12, 13, 14, 15])):
        rows = [row for row in events.seen() if row["kind"] == source]
        assert [row["sequence"] for row in rows] == list(range(len(expected)))
        assert list(map(value, rows)) == expected


def test_a_file_that_is_no_parquet_is_one_dead_letter(open_stream):
    stream = open_stream("parquet")
    stream.add("0", [0, 1])
    os.utime(stream.place / "0", (0, 0))
    (stream.place / "1").write_bytes(b"no Parquet at all")
    os.utime(stream.place / "1", (1, 1))
    pq.write_table(pa.table({"y": [1], "x": ["2"]}), stream.place / "2")
    stream.run()
    seen = [(row["sequence"], row["features"], row["reason"]) for row in stream.seen()]
    assert seen == [
        (0, [0.0], None),
        (1, [1.0], None),
        (2, None, "unparsable"),
        (3, [2.0], None),
    ]
    told = json.loads(stream.seen()[2]["row"])["_corrupt_line"]
    assert told.startswith(f"{stream.place}/1 is damaged: ")


def test_a_csv_with_another_header_is_read_by_name_or_is_dead_letters(open_stream):
    stream = open_stream("csv")
    stream.add("0", [0])
    for i, content in enumerate(("y,more,x\n1,9,7\n1,2\n", "0.5,1\n0.25,0\n"), start=1):
        (stream.place / f"{i}").write_text(content)
    for i in range(3):
        os.utime(stream.place / f"{i}", (i, i))
    stream.run()
    told = [(row["features"], row["label_index"], row["reason"]) for row in stream.seen()]
    unusable = (None, None, "wrong_length")
    assert told == [([0.0], 0, None), ([7.0], 1, None), unusable, unusable, unusable]
    letters = [json.loads(row["row"])["_corrupt_line"] for row in stream.seen()[2:]]
    assert letters == ["1,2", "0.5,1", "0.25,0"]


def test_the_layout_is_told_once_there_is_something(stream):
    assert layout_of(stream.spec) is None
    stream.add("0", [0, 1])
    assert layout_of(stream.spec).columns == COLUMNS


def test_the_layout_is_of_the_first_file_that_has_one(open_stream):
    stream = open_stream("parquet")
    stream.place.mkdir()
    (stream.place / "0").write_bytes(b"no Parquet")
    os.utime(stream.place / "0", (0, 0))
    with pytest.raises(UserError, match="/0 is not Parquet"):
        layout_of(stream.spec)
    stream.add("1", [0])
    assert layout_of(stream.spec).columns == COLUMNS


def test_a_place_that_is_none_is_refused_at_the_start(stream):
    stream.place.touch()
    with pytest.raises(UserError, match=f"{stream.spec}: {stream.place} is a file"):
        stream.rows()


def test_a_directory_that_is_no_delta_table_is_refused_at_the_start(open_stream):
    stream = open_stream("delta")
    stream.place.mkdir()
    stream.rows()
    (stream.place / "a.parquet").touch()
    with pytest.raises(UserError, match=f"{stream.place} holds files and is not a Delta table"):
        stream.rows()
