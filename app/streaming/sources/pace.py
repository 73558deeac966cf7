"""Two sources with a backlog are read in step, by the times in their rows.

The clock of a source is the newest time read from it, so one that is read ahead of the other
would make the other's rows late before they are read. Each reader writes down the time of the
oldest row of the batch that it reads next, when it is certain that there is one; the other reads no
further than that allows. Of two readers the one with the older row always goes on.

Holding back never ends a stream or keeps it standing: a reader does so only as long as the other
one keeps reading, and what it returns to Spark then is a new offset without rows, after which it
is asked again. A reader that has come to its live tail is not held back at all.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.errors import StorageError
from app.files.documents import parse_json
from app.parsing.row_parser import row_times
from app.parsing.times import TimeRules

Position = dict[str, Any]
Take = Callable[[Position, int], tuple[list[pa.RecordBatch], Position]]
"""Returns at most so many rows after a position, and the position after them."""

HELD = "held"
"""In an offset, how often in a row the reader held back there."""

UNKNOWN_TIME = -(2**63)
"""Of a row that is there, and whose time cannot be read before it is parsed."""


@dataclass(frozen=True)
class Pace:
    """How the reader of one source keeps step with that of the other.

    Attributes
    ----------
    own
        File in which the reader says what it reads next.
    other
        The same file of the other reader, None for a source whose reader is Spark's own.
    column
        Column of the rows' time.
    unit, zone
        What it means, see :class:`app.parsing.times.TimeRules`.
    lateness
        Microseconds by which the oldest row of a batch may be newer than the other reader's.
    ahead
        The same of every row of a batch; None reads on to where the batch is full.
    is_new
        Whether the query has never been started.
    """

    own: Path
    other: Path | None
    column: str
    lateness: int
    ahead: int | None
    is_new: bool
    unit: str | None = None
    zone: str = "UTC"

    def to_option(self) -> str:
        paths = {"own": str(self.own), "other": self.other and str(self.other)}
        return json.dumps(vars(self) | paths)

    @classmethod
    def from_option(cls, text: str) -> Pace:
        content = json.loads(text)
        own, other = content.pop("own"), content.pop("other")
        return cls(Path(own), other and Path(other), **content)


def oldest_unread(files: Iterable[Path]) -> int | None:
    """Return the time of the oldest row that readers are certain to read next, None when of none.

    Parameters
    ----------
    files
        Those that the readers write.
    """
    times = [word["next"] for word in map(_word, files) if word is not None]
    return min((each for each in times if each is not None), default=None)


class Pacer:
    """The reading of one source in step with the other.

    Parameters
    ----------
    pace
        None reads what there is.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace
        self._run = secrets.token_hex(4)
        self._reads = 0
        own = None if pace is None else _word(pace.own)
        # Left by the run before.
        self._next: int | None = None if own is None else own["next"]
        self._is_first = own is None
        self._tried = None if own is None else own.get("try")
        self._try: dict[str, Any] | None = None
        self._ends = False
        self._heeded: dict[str, Any] | None = None
        self._ahead: tuple[Position, list[pa.RecordBatch], Position] | None = None
        # Those asked for last: a batch that is held, or was looked at ahead, is asked for again.
        self._known_times: list[tuple[pa.RecordBatch, list[int | None]]] = []

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Pacer:
        """Return what a data source's option ``pace`` asks for, if it has one."""
        return cls(Pace.from_option(options["pace"]) if "pace" in options else None)

    def end_with_backlog(self, beginning: Position, n: int, take: Take) -> None:
        """Take all there is for a backlog: the stream ends when it is read.

        Parameters
        ----------
        beginning
            Where a new query begins to read. What is there is said before either source is read.
        n
            Rows of a batch.
        take
        """
        self._ends = True
        if self._pace is not None and self._pace.is_new and self._is_first:
            self._look_ahead(beginning, n, take)

    def read(self, start: Position, n: int, take: Take) -> tuple[list[pa.RecordBatch], Position]:
        """Return at most ``n`` rows from ``start`` on that may be read now."""
        place = {name: value for name, value in start.items() if name != HELD}
        rows, end = self._take(place, n, take)
        if self._pace is None or not rows:
            self._tell(None)
            return rows, start if end == place else end
        count = sum(map(len, rows))
        allowed = self._allowed(self._pace, rows, self._heard(start))
        if allowed == 0:
            self._ahead = place, rows, end
            self._tell(self._oldest(rows))
            return [], place | {HELD: start.get(HELD, 0) + 1}
        if allowed < count:
            rows, end = self._take(place, allowed, take)
        if allowed < count or count == n:
            self._look_ahead(end, n, take)
        else:
            self._tell(None)
        return rows, end

    def _look_ahead(self, start: Position, n: int, take: Take) -> None:
        """Say what there is in the batch that is read next."""
        following, after = take(start, n)
        self._ahead = start, following, after
        self._tell(self._oldest(following) if following else None)

    def _take(self, start: Position, n: int, take: Take) -> tuple[list[pa.RecordBatch], Position]:
        """Take rows, beginning with those that were looked at and not returned."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[0] != start:
            return take(start, n)
        _, known, after = ahead
        missing = n - sum(map(len, known))
        if missing < 0:
            return take(start, n)
        rows, end = take(after, missing) if missing else ([], after)
        return [*known, *rows], end

    def _heard(self, start: Position) -> dict[str, Any] | None:
        """Return what the other reader has said.

        A read that a crash has undone is decided as at first, so that batches are the same.
        """
        if self._pace is None or self._pace.other is None:
            return None
        tried, self._tried = self._tried, None
        if isinstance(tried, dict) and tried.get("start") == start:
            self._next, self._is_first = tried.get("next"), bool(tried.get("is_first"))
            other: dict[str, Any] | None = tried.get("other")
        else:
            word = _word(self._pace.other)
            other = word and {name: word.get(name) for name in ("next", "run", "reads")}
        self._try = {
            "start": start, "next": self._next, "is_first": self._is_first, "other": other
        }  # fmt: skip
        return other

    def _allowed(self, pace: Pace, rows: list[pa.RecordBatch], word: dict[str, Any] | None) -> int:
        """Return how many of some rows, the next of this source, may be read now."""
        count = sum(map(len, rows))
        if pace.other is None or not self._has_backlog():
            return count
        if word is None:
            # Both are at their beginning. The other hears what is here before this one goes on.
            return 0 if pace.ahead is not None and self._is_first else count
        if word["next"] is None or word == self._heeded:
            return count
        if self._oldest(rows) > word["next"] + pace.lateness:
            self._heeded = word
            return 0
        if pace.ahead is None:
            return count
        limit = word["next"] + pace.ahead
        beyond = (i for i, t in enumerate(self._times_of(rows)) if t is not None and t > limit)
        # The first row goes with the older ones behind it, or neither reader would go on.
        return max(next(beyond, count), 1)

    def _has_backlog(self) -> bool:
        return self._ends or self._is_first or self._next is not None

    def _times_of(self, rows: list[pa.RecordBatch]) -> Iterator[int | None]:
        pace = self._pace
        assert pace is not None, "without a pace no time is asked for"
        rules = TimeRules(pace.unit, pace.zone)
        known = {id(batch): times for batch, times in self._known_times}
        self._known_times = [
            (batch, known.get(id(batch)) or list(row_times(batch, pace.column, rules)))
            for batch in rows
        ]
        return itertools.chain.from_iterable(times for _, times in self._known_times)

    def _oldest(self, rows: list[pa.RecordBatch]) -> int:
        """Return the time of the oldest row; where none can be read, the one known before."""
        known = UNKNOWN_TIME if self._next is None else self._next
        return min((t for t in self._times_of(rows) if t is not None), default=known)

    def _tell(self, next_time: int | None) -> None:
        """Write down what is read next, unless it was nothing before as well."""
        if self._pace is None or (next_time is None and self._next is None and self._reads):
            return
        self._is_first = False
        self._reads += 1
        self._next = next_time
        word = {"next": next_time, "run": self._run, "reads": self._reads, "try": self._try}
        temporary = self._pace.own.with_name(f".{self._pace.own.name}.{self._run}.tmp")
        try:
            # Not synced: it is of use to this run, and a lost one costs no row its place.
            temporary.write_text(json.dumps(word))
            os.replace(temporary, self._pace.own)
        except OSError as error:
            raise StorageError(
                f"{self._pace.own} cannot be written: {error.strerror or error}"
            ) from error


def _word(path: Path) -> dict[str, Any] | None:
    """Return what a reader has said last, None when it has said nothing that can be read."""
    try:
        word = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    sound = isinstance(word, dict) and isinstance(word.get("next", ""), (int, type(None)))
    return word if sound else None
