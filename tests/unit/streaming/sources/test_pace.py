"""Two sources with a backlog are read in step, and no word left behind stops either of them."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest

from app.errors import StorageError
from app.parsing.row_parser import row_times
from app.streaming.sources import pace as pace_module
from app.streaming.sources.pace import HELD, UNKNOWN_TIME, Pace, Pacer, oldest_unread
from tests.unit.rows import text_batch, typed_batch

SECOND = 1_000_000
LATENESS, LAG = 5, 60


class Source:
    """A source of rows with times in seconds, read as Spark reads it."""

    def __init__(self, directory: Path, name: str, other: str | None, is_exact: bool) -> None:
        self.times: list[float] = []
        self.read_times: list[float] = []
        self.position = {"row": 0}
        self._is_fixed = False
        self._pace = Pace(
            directory / name,
            other and directory / other,
            "t",
            LATENESS * SECOND,
            LAG * SECOND if is_exact else None,
            is_new=True,
            unit="s",
        )
        self._begin()

    def start(self) -> None:
        """Begin a run that is not the first."""
        self._pace = dataclasses.replace(self._pace, is_new=False)
        self._begin()

    def _begin(self) -> None:
        self._pacer = Pacer(Pace.from_option(self._pace.to_option()))
        if self._is_fixed:
            self.fix()

    def fix(self) -> None:
        """Have the stream end when all is read."""
        self._is_fixed = True
        self._pacer.end_with_backlog({"row": 0}, 20, self._take)

    def read(self, n: int) -> bool:
        """Read a batch, and return whether Spark has new data to go on with."""
        before = self.position
        batches, self.position = self._pacer.read(before, n, self._take)
        rows = [json.loads(text)["t"] for batch in batches for text in batch["text"].to_pylist()]
        self.read_times += rows
        assert self.read_times == self.times[: self.position["row"]]
        return self.position != before

    def _take(self, start: dict, n: int) -> tuple[list[pa.RecordBatch], dict]:
        assert start.keys() == {"row"}
        taken = self.times[start["row"] : start["row"] + n]
        end = {"row": start["row"] + len(taken)}
        texts = [json.dumps({"t": time}) for time in taken]
        return [text_batch("json", texts, first=start["row"])] if taken else [], end

    @property
    def is_read(self) -> bool:
        return len(self.read_times) == len(self.times)


@pytest.fixture(params=[False, True], ids=["by batch", "exact"])
def sources(request, tmp_path: Path) -> tuple[Source, Source]:
    return (
        Source(tmp_path, "a", "b", request.param),
        Source(tmp_path, "b", "a", request.param),
    )


def run_to_end(*sources: Source, n: int = 20) -> None:
    """Read until no source has new data, as a stream that ends when all is read."""
    for _ in range(10_000):
        # All are asked, and in this order.
        went_on = [source.read(n) for source in sources]
        if not any(went_on):
            return
    raise AssertionError("the stream does not end")


@pytest.mark.parametrize("seed", range(20))
def test_all_is_read_and_nothing_is_late(seed, tmp_path):
    """Exact reading keeps to the lag, however dense either source is and whatever gaps it has."""
    rng = random.Random(seed)
    pair = [Source(tmp_path, "a", "b", True), Source(tmp_path, "b", "a", True)]
    for source in pair:
        now = rng.choice([0, 0, 500])
        for _ in range(rng.choice([5, 60, 400])):
            now += rng.choice([0, 1, 1, 1, 5, rng.choice([20, 5000])])
            source.times.append(now - rng.uniform(0, LATENESS))
        source.fix()
    clocks = [0.0, 0.0]
    for _ in range(2000):
        late_before = max(clocks) - LAG - LATENESS
        went_on = []
        for i, source in enumerate(pair):
            known = len(source.read_times)
            went_on.append(source.read(20))
            assert all(time >= late_before for time in source.read_times[known:])
            clocks[i] = max(source.read_times, default=0.0)
        if not any(went_on):
            break
    assert all(source.is_read for source in pair)


def test_the_source_that_is_behind_is_read_first(sources):
    a, b = sources
    a.times, b.times = [float(t) for t in range(0, 2000, 2)], [float(t) for t in range(1000)]
    for source in sources:
        source.fix()
    leads = []
    while not (a.is_read or b.is_read):
        a.read(20)
        b.read(20)
        leads.append(a.read_times[-1] - b.read_times[-1] if a.read_times and b.read_times else 0)
    # By a batch at most, and by the lag where that is shorter.
    assert max(leads) <= 2 * LAG
    assert min(leads) >= -2 * LAG


def test_what_is_at_its_live_tail_is_not_held_back(sources):
    a, b = sources
    a.read(20)
    b.times = [float(t) for t in range(1000)]
    b.read(20)
    a.times = [5000.0]
    assert a.read(20)
    assert a.is_read


def test_a_source_of_sparks_own_holds_nothing_back(tmp_path):
    alone = Source(tmp_path, "a", None, True)
    alone.times = [float(100 * t) for t in range(100)]
    alone.fix()
    run_to_end(alone)
    assert alone.is_read


def test_a_reader_whose_other_one_never_reads_goes_on(sources):
    """Its word is from a run that crashed, or its rows have gone since."""
    a, b = sources
    b.times = [0.0, 1.0, 2.0]
    b.read(1)
    a.times = [float(1000 + t) for t in range(100)]
    a.fix()
    run_to_end(a)
    assert a.is_read


def test_a_reader_that_holds_back_does_not_end_the_stream(sources):
    """The rows that it waits for have gone: the other one has nothing new to return."""
    a, b = sources
    b.times = [0.0, 1.0, 2.0]
    b.read(1)
    b.times = b.times[:1]
    b.start()
    a.times = [float(1000 + t) for t in range(100)]
    for source in sources:
        source.fix()
    run_to_end(a, b)
    assert a.is_read


@pytest.mark.parametrize("seed", range(20))
def test_crashes_neither_stop_nor_end_a_stream(seed, sources, tmp_path):
    rng = random.Random(seed)
    for source in sources:
        source.times = sorted(rng.uniform(0, 3000) for _ in range(rng.choice([0, 10, 300])))
        source.fix()
    for _ in range(10):
        before = [(dict(source.position), len(source.read_times)) for source in sources]
        for source in rng.choice([sources, sources[::-1]]):
            if rng.random() < 0.8:
                source.read(20)
        if rng.random() < 0.5:
            # Before Spark has written down how far it read.
            for source, (position, rows) in zip(sources, before, strict=True):
                source.position, source.read_times = position, source.read_times[:rows]
        if rng.random() < 0.2:
            (tmp_path / rng.choice("ab")).write_text(rng.choice(["", "[", '{"next": "x"}']))
        for source in sources:
            source.start()
    run_to_end(*sources)
    assert all(source.is_read for source in sources)


@pytest.mark.parametrize("seed", range(20))
def test_a_read_that_a_crash_has_undone_is_decided_as_at_first(seed, tmp_path):
    """Or batches would be others than without the crash, and the model too."""
    rng = random.Random(seed)
    times = [sorted(rng.uniform(0, 3000) for _ in range(200)) for _ in "ab"]

    def batches(directory: Path, crashes: bool) -> list[tuple[int, ...]]:
        directory.mkdir()
        pair = [Source(directory, "a", "b", seed % 2 == 0), Source(directory, "b", "a", False)]
        for source, each in zip(pair, times, strict=True):
            source.times = each
            source.fix()
        sizes = []
        while not all(source.is_read for source in pair):
            starts = [(source.position, list(source.read_times)) for source in pair]
            if crashes and rng.random() < 0.5:
                for source in pair[: rng.randrange(3)]:
                    source.read(20)
                for source, (position, read_times) in zip(pair, starts, strict=True):
                    source.position, source.read_times = position, read_times[:]
                    source.start()
            for source in pair:
                source.read(20)
            sizes.append(tuple(len(source.read_times) for source in pair))
        return sizes

    assert batches(tmp_path / "crashed", True) == batches(tmp_path / "undisturbed", False)


def test_the_oldest_row_that_is_known_to_be_unread(sources, tmp_path):
    a, b = sources
    files = [tmp_path / "a", tmp_path / "b"]
    assert oldest_unread(files) is None
    a.times, b.times = [10.0, 11.0, 12.0], [20.0]
    for source in sources:
        source.fix()
    assert oldest_unread(files) == 10 * SECOND
    a.read(2)
    assert oldest_unread(files) == 12 * SECOND
    b.read(2)
    a.read(2)
    assert oldest_unread(files) == 20 * SECOND
    b.read(2)
    assert oldest_unread(files) is None


@pytest.mark.parametrize("place", [0, 1, 19, 20, 37])
def test_a_row_that_is_dated_far_ahead_does_not_hide_the_older_ones_behind_it(
    place, sources, tmp_path
):
    a, b = sources
    a.times, b.times = [float(t) for t in range(60)], [float(t) for t in range(300)]
    a.times.insert(place, 90_000.0)
    for source in sources:
        source.fix()
    while not all(source.is_read for source in sources):
        unread = [t for source in sources for t in source.times[source.position["row"] :]]
        assert oldest_unread([tmp_path / "a", tmp_path / "b"]) <= min(unread) * SECOND
        went_on = [source.read(20) for source in sources]
        assert any(went_on)


def test_the_times_of_a_batch_are_read_once_however_long_it_is_held(tmp_path, monkeypatch):
    read = []

    def counted(rows, *how):
        read.extend(rows["text"].to_pylist())
        return row_times(rows, *how)

    monkeypatch.setattr(pace_module, "row_times", counted)
    a, b = Source(tmp_path, "a", "b", False), Source(tmp_path, "b", "a", False)
    a.times, b.times = [5000.0 + t for t in range(40)], [float(t) for t in range(200)]
    for source in (a, b):
        source.fix()
    while not b.is_read:
        a.read(20)
        b.read(20)
    assert not a.read_times
    assert len(read) == len(set(read)) == 20 + 200


def test_a_row_whose_time_cannot_be_read_is_no_newer_than_the_one_before(tmp_path):
    source = Source(tmp_path, "a", None, False)
    source.times = [1.0, 2.0, float("nan"), 4.0]
    source.read(1)
    assert oldest_unread([tmp_path / "a"]) == 2 * SECOND


def test_the_time_of_a_row_may_not_be_known_at_all(tmp_path):
    pace = Pace(tmp_path / "a", None, "t", 0, None, is_new=False)
    pacer = Pacer(pace)
    rows = text_batch("json", ["?"])
    pacer.read({"row": 0}, 1, lambda start, n: ([rows], {"row": start["row"] + 1}))
    assert oldest_unread([tmp_path / "a"]) == UNKNOWN_TIME


@pytest.mark.parametrize(
    ("unit", "zone", "column"),
    [
        ("ms", "UTC", pa.array([1_767_268_800_000])),
        (None, "Europe/Berlin", pa.array(["2026-01-01T13:00:00"])),
    ],
)
def test_times_mean_to_a_reader_what_they_mean_to_the_parser(unit, zone, column, tmp_path):
    pace = Pace(tmp_path / "a", None, "t", 0, None, is_new=True, unit=unit, zone=zone)
    pacer = Pacer.of({"pace": pace.to_option()})
    rows = typed_batch({"t": column})
    pacer.end_with_backlog({"row": 0}, 1, lambda start, n: ([rows], {"row": 1}))
    assert oldest_unread([tmp_path / "a"]) == 1_767_268_800 * SECOND


def test_an_offset_says_how_often_it_was_held_and_nothing_of_it_reaches_the_reader(sources):
    a, b = sources
    b.times = [float(t) for t in range(100)]
    b.read(20)
    a.times = [1000.0, 1001.0]
    a.fix()
    assert a.read(20)
    b.read(20)
    assert a.read(20)
    assert a.position == {"row": 0, HELD: 2}


def test_a_word_that_cannot_be_written_is_one_error(tmp_path):
    source = Source(tmp_path / "missing", "a", None, False)
    with pytest.raises(StorageError, match="missing/a cannot be written"):
        source.read(1)
