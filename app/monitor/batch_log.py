"""What each batch did, one line of JSON a batch: ``<query>/<day>.jsonl``.

A line holds, beside its record, the sums over the other batches of its query under ``before``. So
the last line of each query says what all of them add up to, however many there are; also when a
batch is tried again, whose later line counts. The lines are statistics, and decide nothing: one
that is damaged is passed over.

An older release kept one file a batch, ``<query>/<batch>.json``. Those are read too, and become
lines before the first new one is written.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.files.aside import set_aside
from app.files.atomic import sync_directory
from app.files.documents import parse_json
from app.monitor.day_files import DayFiles
from app.monitor.metrics import Tally, Totals
from app.monitor.records import BatchRecord

_RECENT_LINES = 1000


@dataclass(frozen=True)
class _Line:
    record: BatchRecord
    before: Tally

    @classmethod
    def from_bytes(cls, data: bytes) -> _Line | None:
        """Return what a line holds, None when it is damaged."""
        try:
            content = parse_json(data)
            if content.pop("crc32") != _crc32(content):
                return None
            before = Tally.from_json(content.pop("before"))
            return cls(BatchRecord.from_dict(content), before)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def to_bytes(self) -> bytes:
        content = dataclasses.asdict(self.record) | {"before": self.before.to_json()}
        return json.dumps(content | {"crc32": _crc32(content)}).encode() + b"\n"

    def sums(self) -> Tally:
        """Return the sums with this batch."""
        return self.before.with_record(self.record)


class BatchLog:
    """The records of a work directory's batches.

    Parameters
    ----------
    directory
        Made with the first record.
    warn
        Called with a message when records were found damaged.
    """

    def __init__(self, directory: Path, warn: Callable[[str], None] = lambda message: None) -> None:
        self.directory = directory
        self._warn = warn
        self._has_imported = False

    def write(self, record: BatchRecord) -> None:
        """Append a record. If its batch has one, that does not count any more.

        Raises
        ------
        StorageError
            When the filesystem refuses.
        """
        if not self._has_imported:
            self._import_older()
            self._has_imported = True
        self._append(record.query, record.finished_at[:10], [record])

    def find(self, query: str, batch: int) -> BatchRecord | None:
        """Return a batch's record, None when it has none; quick for one of the newest batches."""
        older = self._older_file(query, batch)
        if older.exists():
            return _read_older(older)
        newest = _whole(self._files(query).newest_first())
        for line in itertools.islice(newest, _RECENT_LINES):
            if line.record.batch <= batch:
                return line.record if line.record.batch == batch else None
        found = None
        for line in _whole(self._files(query)):
            if line.record.batch == batch:
                found = line.record
        return found

    def has(self, query: str, batch: int) -> bool:
        return self.find(query, batch) is not None

    def read(self) -> list[BatchRecord]:
        """Return all records, oldest first."""
        records: dict[tuple[str, int], BatchRecord] = {}
        damaged = 0
        for query in self._queries():
            older = (_read_older(path) for path in self._older_files(query))
            lines = (_Line.from_bytes(line) for line in self._files(query))
            newer = (line.record if line else None for line in lines)
            for record in itertools.chain(older, newer):
                if record is None:
                    damaged += 1
                else:
                    records[record.query, record.batch] = record
        if damaged:
            self._warn(f"{damaged:,} records of batches in {self.directory} are damaged: left out")
        return sorted(records.values(), key=lambda r: (r.finished_at, r.batch))

    def totals(self) -> Totals:
        """Return what all records add up to, in a time that does not grow with their number."""
        if any(self._older_files(query) for query in self._queries()):
            return Totals.of(self.read())
        last = [next(_whole(self._files(query).newest_first()), None) for query in self._queries()]
        tally = Tally()
        for line in sorted(filter(None, last), key=lambda line: line.record.finished_at):
            tally.add_sums(line.sums())
        return tally.totals()

    def _append(self, query: str, day: str, records: Iterable[BatchRecord]) -> None:
        def lines_after(newest: Iterator[bytes]) -> bytes:
            last = next(_whole(newest), None)
            lines = []
            for record in records:
                last = _Line(record, self._before(record, last))
                lines.append(last.to_bytes())
            return b"".join(lines)

        self._files(query).append(day, lines_after)

    def _before(self, record: BatchRecord, last: _Line | None) -> Tally:
        """Return the sums over the other batches of a query whose last line is ``last``."""
        if last is None:
            return Tally()
        if record.batch > last.record.batch:
            return last.sums()
        if record.batch == last.record.batch:
            return last.before
        # Out of turn, after a checkpoint was put back.
        others = {line.record.batch: line.record for line in _whole(self._files(record.query))}
        others.pop(record.batch, None)
        return Tally.of(others.values())

    def _import_older(self) -> None:
        """Turn the files of an older release into lines; set aside what cannot be read."""
        for query in self._queries():
            paths = self._older_files(query)
            if not paths:
                continue
            # A crash may have left some both as lines and as files.
            known = {line.record.batch for line in _whole(self._files(query))}
            records = []
            for path in paths:
                record = _read_older(path)
                if record is None:
                    set_aside(path)
                else:
                    records.append(record)
            missing = [record for record in records if record.batch not in known]
            missing.sort(key=lambda record: record.batch)
            for day, of_day in itertools.groupby(missing, lambda r: r.finished_at[:10]):
                self._append(query, day, of_day)
            for record in records:
                self._older_file(query, record.batch).unlink(missing_ok=True)
            sync_directory(self.directory / query)

    def _queries(self) -> list[str]:
        if not self.directory.is_dir():
            return []
        return sorted(path.name for path in self.directory.iterdir() if path.is_dir())

    def _files(self, query: str) -> DayFiles:
        return DayFiles(self.directory / query)

    def _older_file(self, query: str, batch: int) -> Path:
        return self.directory / query / f"{batch:08d}.json"

    def _older_files(self, query: str) -> list[Path]:
        return sorted((self.directory / query).glob("[0-9]*.json"))


def _whole(lines: Iterable[bytes]) -> Iterator[_Line]:
    return (line for line in map(_Line.from_bytes, lines) if line is not None)


def _crc32(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _read_older(path: Path) -> BatchRecord | None:
    """Return the record in a file of an older release, None when it is damaged."""
    try:
        record = BatchRecord.from_dict(parse_json(path.read_bytes()))
        # It has no checksum: what can be added up, and told apart, is whole enough.
        Tally.of([record]).totals()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    is_sound = path.stem == f"{record.batch:08d}" and isinstance(record.finished_at, str)
    return record if is_sound else None
