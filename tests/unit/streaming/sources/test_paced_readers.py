"""The readers of directories and of Redis keep step, and read again what they read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from app.contract import Contract
from app.errors import DataLossError
from app.files.finders import DirectoryFinder
from app.files.manifest import FileManifest
from app.parsing.packed_rows import unpacked
from app.parsing.row_parser import RowParser
from app.streaming.sources.directory import DirectoryStreamReader
from app.streaming.sources.pace import HELD, Pace, Pacer, oldest_unread
from app.streaming.sources.redis import RedisStreamReader
from tests.redis_server import RedisServer

SECOND = 1_000_000
KEY = "events"
PARSER = RowParser(Contract(("id", "t"), (), 0, ("0",), id="id", time="t"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def pacer(directory: Path) -> Pacer:
    own, other = directory / "own.next", directory / "other.next"
    pace = Pace(own, other, "t", 5 * SECOND, 60 * SECOND, is_new=False, unit="s")
    return Pacer.of({"pace": pace.to_option()})


def let_other_say(directory: Path, next_time: float, reads: int) -> None:
    word = {"next": round(next_time * SECOND), "run": "r", "reads": reads}
    (directory / "other.next").write_text(json.dumps(word))


def redis_reader(directory: Path, server: RedisServer) -> RedisStreamReader:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        for i in range(10):
            client.xadd(KEY, {"id": i, "t": 1000 + 20 * i})
    return RedisStreamReader(server.url, KEY, 8, True, 1.0, pacer(directory))


def directory_reader(directory: Path, row_format: str) -> DirectoryStreamReader:
    place = directory / "rows"
    place.mkdir(exist_ok=True)
    rows = [{"id": str(i), "t": 1000 + 20 * i} for i in range(10)]
    for part, some in enumerate((rows[:6], rows[6:])):
        path = place / f"{part}.{row_format}"
        # Each file has an order of its own.
        names = sorted(some[0], reverse=part == 0)
        if row_format == "parquet":
            pq.write_table(pa.Table.from_pylist(some).select(names), path)
        elif row_format == "csv":
            lines = [names, *([str(row[name]) for name in names] for row in some)]
            path.write_text("".join(",".join(line) + "\n" for line in lines))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in some))
    return DirectoryStreamReader(
        FileManifest(directory / "rows.files", DirectoryFinder(place)),
        row_format,
        ["id", "t"],
        8,
        pacer(directory),
    )


@pytest.fixture(
    params=["csv", "json", "parquet", pytest.param("redis", marks=pytest.mark.redis)],
)
def reader(request, tmp_path: Path):
    if request.param == "redis":
        return redis_reader(tmp_path, request.getfixturevalue("server"))
    return directory_reader(tmp_path, request.param)


def sequences(batches) -> list[int]:
    """Return the numbers of rows, after a look at their ids, which are numbered likewise."""
    rows = [
        (number, number_of_id)
        for batch in batches
        for found in unpacked(batch["rows"])
        for number, number_of_id in zip(
            found["sequence"].to_pylist(),
            PARSER.parse(found)["event_id"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    ]
    assert all(number == number_of_id for number, number_of_id in rows)
    return [number for number, _ in rows]


def test_a_reader_holds_back_then_reads_up_to_the_lag_and_then_all(reader, tmp_path):
    let_other_say(tmp_path, 900, 1)
    reader.prepareForTriggerAvailableNow()
    start = reader.initialOffset()
    batches, held = reader.read(start)
    assert (list(batches), held) == ([], start | {HELD: 1})
    let_other_say(tmp_path, 1000, 2)
    batches, cut = reader.read(held)
    assert sequences(batches) == [0, 1, 2, 3]
    assert oldest_unread([tmp_path / "own.next"]) == 1080 * SECOND
    let_other_say(tmp_path, 5000, 3)
    batches, full = reader.read(cut)
    assert sequences(batches) == [4, 5, 6, 7, 8, 9]
    assert oldest_unread([tmp_path / "own.next"]) is None
    batches, end = reader.read(full)
    assert (list(batches), end) == ([], full)
    # As an executor does after a crash, also where nothing was read.
    assert sequences(reader.readBetweenOffsets(start, held)) == []
    assert sequences(reader.readBetweenOffsets(held, cut)) == [0, 1, 2, 3]
    assert sequences(reader.readBetweenOffsets(cut, full)) == [4, 5, 6, 7, 8, 9]


def test_positions_are_those_of_a_reader_that_looks_at_nothing_ahead(reader, tmp_path):
    let_other_say(tmp_path, 5000, 1)
    reader.prepareForTriggerAvailableNow()
    batches, middle = reader.read(reader.initialOffset())
    assert sequences(batches) == list(range(8))
    assert oldest_unread([tmp_path / "own.next"]) == 1160 * SECOND
    batches, end = reader.read(middle)
    assert sequences(batches) == [8, 9]
    assert sequences(reader.readBetweenOffsets(middle, end)) == [8, 9]
    assert (middle["row"], end["row"]) == (8, 10)


def test_a_list_of_files_that_was_made_again_in_another_order_is_refused(tmp_path):
    let_other_say(tmp_path, 5000, 1)
    reader = directory_reader(tmp_path, "json")
    _, position = reader.read(reader.initialOffset())
    (tmp_path / "rows.files").unlink()
    (tmp_path / "rows" / "0.json").rename(tmp_path / "rows" / "9.json")
    again = directory_reader(tmp_path, "json")
    (tmp_path / "rows" / "0.json").unlink()
    with pytest.raises(DataLossError, match="the list of the source's files"):
        again.read(position)
