"""The one pass over a batch of rows: raw columns in, what a model needs of each row out.

Whatever reads a row goes through here: the scorers, the driver for labels and replays, REST.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contract import (
    ALL_MISSING,
    FUTURE_TIME,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_LABEL,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Category,
    Contract,
)
from app.files.reading.lines import CsvDialect
from app.files.sequence import SEQUENCE_COLUMN
from app.parsing import cells
from app.parsing.cells import MISSING_TOKENS, NULL
from app.parsing.csv_rows import CsvBatch
from app.parsing.json_rows import JsonBatch
from app.parsing.partitions import PartitionedBatch
from app.parsing.raw_batch import DamagedBatch, RawBatch, TypedBatch
from app.parsing.times import DEFAULT_TIMES, TimeRules, times

_DAY = 86_400_000_000

_STRING = pa.string()
_TIME = pa.timestamp("us", "UTC")

FAULTS = {
    NULL: NULL_FEATURE,
    cells.UNPARSABLE: UNPARSABLE,
    cells.NAN: NAN_FEATURE,
    cells.INFINITE: INFINITE_FEATURE,
}
"""Reasons for features that are no finite numbers. The first of a row's is told."""


@dataclass(frozen=True)
class ParsingRules:
    """What a row means that its columns do not say.

    Attributes
    ----------
    missing
        Lower-case texts that stand for a missing value.
    times
    rejects_future
        Whether a row dated more than a day ahead of the clock is of no use. It would carry the
        watermark of a live stream along, and every row after it would be late.
    """

    missing: tuple[str, ...] = MISSING_TOKENS
    times: TimeRules = DEFAULT_TIMES
    rejects_future: bool = False


DEFAULT_RULES = ParsingRules()


class RowParser:
    """Parses the rows of one source.

    Parameters
    ----------
    contract
        Without features the rows are feedback, and of no use without a label.
    rules

    Attributes
    ----------
    needed
        The columns that are read.
    schema
        Of what :meth:`parse` returns.
    """

    def __init__(self, contract: Contract, rules: ParsingRules = DEFAULT_RULES) -> None:
        self.contract = contract
        self.rules = rules
        roles = (contract.id, contract.time, contract.label)
        named = [*contract.features, *(name for name in roles if name is not None)]
        self.needed = tuple(dict.fromkeys(named))
        # Of a column that is more than a feature the text counts too.
        text = {*roles, *contract.encoding.categories}
        self._numeric = tuple(name for name in contract.features if name not in text)
        self._number_places = [
            place
            for place, name in enumerate(contract.features)
            if name not in contract.encoding.categories
        ]
        self._tells_missing_numbers = bool(cells.numbers_among(rules.missing))
        self._classes = pa.array(contract.classes, _STRING)
        self.schema = pa.schema(
            [
                (SEQUENCE_COLUMN, pa.int64()),
                ("event_id", _STRING),
                ("event_time", _TIME),
                ("features", pa.list_(pa.float64(), contract.n_features)),
                ("label_index", pa.int32()),
                ("reason", _STRING),
                ("row", _STRING),
            ]
        )

    def parse(self, batch: pa.RecordBatch, *, with_rows: bool = False) -> pa.RecordBatch:
        """Return each row of a batch with what a model needs of it, or why it is of no use.

        Parameters
        ----------
        batch
            ``sequence`` (int64), then ``text`` (binary) or typed columns. The metadata of its
            schema says what it is: see :func:`raw_batch_of`.
        with_rows
            Whether good rows are returned as JSON too.

        Returns
        -------
        pa.RecordBatch
            ``sequence`` (int64), ``event_id`` (string), ``event_time`` (timestamp[us, UTC]),
            ``features`` (fixed-size list of D float64, null in a bad row and in feedback;
            within it NaN is a missing number, and a category its slot),
            ``label_index`` (int32, null without a label), ``reason`` (string, null in a good
            row), ``row`` (string: a bad row as JSON, null in a good one unless asked for).
        """
        raw = self.raw(batch)
        sequence = batch.column(0)
        kept = raw.kept
        good = self._parse(raw, sequence if kept is None else sequence.take(pa.array(kept)))
        reason = good["reason"]
        rows: list[str | None] = [None] * len(sequence)
        if kept is not None:
            places = np.full(len(sequence), -1, np.int64)
            places[kept] = np.arange(len(kept))
            take = pa.array(np.where(places < 0, 0, places), mask=places < 0)
            good = {name: column.take(take) for name, column in good.items()}
            reason = pc.if_else(pa.array(places < 0), raw.malformed, good["reason"])
        wanted = range(len(sequence)) if with_rows else _places(pc.is_valid(reason))
        for place in wanted:
            rows[place] = raw.as_json(place)
        good |= {SEQUENCE_COLUMN: sequence, "reason": reason, "row": pa.array(rows, _STRING)}
        return pa.record_batch([good[name] for name in self.schema.names], self.schema)

    def raw(self, batch: pa.RecordBatch) -> RawBatch:
        """Return a batch with columns to ask for."""
        return raw_batch_of(batch, self.needed, self._numeric, self.rules.missing)

    def _parse(self, raw: RawBatch, sequence: pa.Array) -> dict[str, pa.Array]:
        """Return the columns of the rows that are rows."""
        contract, n = self.contract, len(sequence)
        reasons = _Reasons(n)
        ids = sequence.cast(_STRING)
        if contract.id is not None:
            ids = cells.texts(_column(raw, contract.id, n))
            reasons.add(NULL_ID, pc.is_null(ids))
        features, usable = pa.nulls(n, self.schema.field("features").type), None
        if contract.features:
            usable, faults = self._features(raw, n, reasons)
            if faults is not None and contract.encoding.imputes:
                is_missing = (faults == NULL) | (faults == cells.NAN)
                reasons.add(ALL_MISSING, is_missing.all(axis=1))
                faults = None if faults.max(initial=0) <= cells.NAN else faults * ~is_missing
            if faults is not None:
                for fault, reason in FAULTS.items():
                    reasons.add(reason, (faults == fault).any(axis=1))
        found = pa.nulls(n, _TIME)
        if contract.time is not None:
            column = _column(raw, contract.time, n)
            found = times(column, self.rules.times)
            reasons.add(NULL_TIME, _is_missing(column))
            reasons.add(UNPARSABLE, pc.is_null(found))
            if self.rules.rejects_future:
                reasons.add(FUTURE_TIME, _is_ahead(found))
        index = pa.nulls(n, pa.int32())
        if contract.label is not None:
            labels = self._labels(raw, n)
            index = pc.index_in(labels, self._classes)
            if not contract.features:
                reasons.add(NULL_LABEL, pc.is_null(labels))
            reasons.add(UNKNOWN_LABEL, pc.and_(pc.is_valid(labels), pc.is_null(index)))
        reason = reasons.array()
        if usable is not None:
            bad = np.asarray(pc.is_valid(reason))
            features = pa.FixedSizeListArray.from_arrays(
                pa.array(usable.reshape(-1)),
                contract.n_features,
                mask=pa.array(bad) if bad.any() else None,
            )
        return {
            "event_id": ids,
            "event_time": found,
            "features": features,
            "label_index": index,
            "reason": reason,
        }

    def _features(
        self, raw: RawBatch, n: int, reasons: _Reasons
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the features, shape (n, D), and the fault of each, None when all are sound."""
        contract = self.contract
        if contract.is_array:
            return self._array_features(raw, n, reasons)
        categories = contract.encoding.categories
        plain, missing = self._plain_numbers(raw)
        if plain is not None and not categories:
            return plain, missing
        matrix = np.empty((n, contract.n_features))
        faults = np.zeros((n, contract.n_features), np.uint8)
        for j, name in enumerate(contract.features):
            if name in categories:
                matrix[:, j] = self._slots(categories[name], _column(raw, name, n))
                faults[:, j] = np.where(matrix[:, j] == 0, NULL, cells.SOUND)
            elif plain is None:
                column = _column(raw, name, n)
                matrix[:, j], faults[:, j] = cells.numbers(column, self.rules.missing)
        if plain is not None:
            matrix[:, self._number_places] = plain
            if missing is not None:
                faults[:, self._number_places] = missing
        return matrix, faults

    def _plain_numbers(self, raw: RawBatch) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the features that are numbers, when each is one that is sound or missing.

        And the fault of each, None when none is missing.
        """
        numbers = [self.contract.features[place] for place in self._number_places]
        matrix = None if self._tells_missing_numbers or not numbers else raw.matrix(numbers)
        if matrix is None or cells.are_usable(matrix):
            return matrix, None
        is_missing = np.isnan(matrix)
        if not self.contract.encoding.imputes or not cells.are_usable(matrix[~is_missing]):
            return None, None
        return matrix, is_missing.astype(np.uint8) * np.uint8(NULL)

    def _slots(self, category: Category, column: pa.Array) -> np.ndarray:
        """Return the slot of each cell of a category's column."""
        missing = _unless_named(self.rules.missing, category.vocabulary)
        if pa.types.is_nested(column.type):
            column = cells.texts(column, missing)
        encoded = column.dictionary_encode()
        names = cells.texts(encoded.dictionary, missing)
        slots = np.array([*category.slots(names.to_pylist()), 0])
        # Missing cells have no place in the dictionary.
        found: np.ndarray = slots[pc.fill_null(encoded.indices, -1).to_numpy()]
        return found

    def _array_features(
        self, raw: RawBatch, n: int, reasons: _Reasons
    ) -> tuple[np.ndarray, np.ndarray | None]:
        name, width = self.contract.features[0], self.contract.n_features
        lists = raw.arrays(name)
        missing = _column(raw, name, n) if lists is None else lists
        if lists is None:
            lists = pa.nulls(n, pa.list_(pa.float64()))
        lengths = pc.fill_null(pc.list_value_length(lists), -1)
        reasons.add(NULL_FEATURE, missing.is_null())
        reasons.add(WRONG_LENGTH, pc.not_equal(lengths, width))
        fits = np.asarray(pc.equal(lengths, width))
        matrix, faults = np.zeros((n, width)), np.zeros((n, width), np.uint8)
        items = cells.plain(lists.filter(pa.array(fits)).flatten())
        values, faulty = cells.numbers(items, self.rules.missing)
        matrix[fits], faults[fits] = values.reshape(-1, width), faulty.reshape(-1, width)
        return matrix, faults

    def _labels(self, raw: RawBatch, n: int) -> pa.Array:
        assert self.contract.label is not None
        missing = _unless_named(self.rules.missing, self.contract.classes)
        return cells.texts(_column(raw, self.contract.label, n), missing)


def row_times(batch: pa.RecordBatch, column: str, rules: TimeRules) -> list[int | None]:
    """Return the time of each row in microseconds since 1970.

    None where it has none, or one more than a day ahead of the clock.
    """
    raw = raw_batch_of(batch, (column,))
    n = len(batch) if raw.kept is None else len(raw.kept)
    found = times(_column(raw, column, n), rules)
    found = pc.if_else(_is_ahead(found), pa.scalar(None, _TIME), found)
    micros: list[int | None] = found.cast(pa.int64()).to_pylist()
    if raw.kept is None:
        return micros
    every: list[int | None] = [None] * len(batch)
    for place, each in zip(raw.kept.tolist(), micros, strict=True):
        every[place] = each
    return every


def labels_of(batch: pa.RecordBatch, column: str, missing: Sequence[str]) -> pa.Array:
    """Return the labels of rows in canonical form, null where there is none."""
    raw = raw_batch_of(batch, (column,))
    return cells.texts(_column(raw, column, 0), missing)


def raw_batch_of(
    batch: pa.RecordBatch,
    needed: Sequence[str],
    numeric: Sequence[str] = (),
    missing: Sequence[str] = MISSING_TOKENS,
) -> RawBatch:
    """Return a batch with columns to ask for.

    The metadata of its schema says what it is: ``format`` (csv, json or parquet, which stands for
    typed columns), ``header`` (a CSV's names as a JSON list), ``partition`` (columns that are the
    same in all rows, as a JSON object; those that rows have of their own are passed over),
    ``damage`` (why one row stands for all that cannot be read).
    """
    said = {key.decode(): value.decode() for key, value in (batch.schema.metadata or {}).items()}
    if "damage" in said:
        return DamagedBatch(batch, said["damage"])
    named: dict[str, str | None] = json.loads(said.get("partition", "{}"))
    partition = {name: named[name] for name in needed if name in named}
    if said["format"] == "json":
        return JsonBatch(batch, partition)
    header = json.loads(said["header"]) if said["format"] == "csv" else batch.schema.names[1:]
    partition = {name: value for name, value in partition.items() if name not in header}
    raw: RawBatch
    if said["format"] == "csv":
        needed, numeric = ([x for x in names if x not in partition] for names in (needed, numeric))
        dialect = CsvDialect.from_metadata(said)
        raw = CsvBatch(batch, header, needed, numeric, missing, dialect)
    else:
        raw = TypedBatch(batch)
    n = len(batch) if raw.kept is None else len(raw.kept)
    return PartitionedBatch(raw, n, partition) if partition else raw


def _unless_named(missing: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return what stands for a missing value, but for what is the name of something."""
    taken = {name.lower() for name in names}
    return [token for token in missing if token not in taken]


class _Reasons:
    """The first reason that each of some rows is of no use for."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._names: list[str] = []
        self._first: np.ndarray | None = None

    def add(self, reason: str, holds: Any) -> None:
        """Add a reason for the rows where it holds, but for those that have one."""
        rows = np.asarray(holds if isinstance(holds, np.ndarray) else pc.fill_null(holds, False))
        if not rows.any():
            return
        if self._first is None:
            self._first = np.full(self._n, -1, np.int64)
        self._first[rows & (self._first < 0)] = len(self._names)
        self._names.append(reason)

    def array(self) -> pa.Array:
        if self._first is None:
            return pa.nulls(self._n, _STRING)
        places = pa.array(np.maximum(self._first, 0), mask=self._first < 0)
        return pa.array(self._names, _STRING).take(places)


def _is_ahead(found: pa.Array) -> pa.Array:
    latest = time.time_ns() // 1000 + _DAY
    return pc.greater(found.cast(pa.int64()), latest)


def _column(raw: RawBatch, name: str, n: int) -> pa.Array:
    column = raw.column(name)
    return pa.nulls(n, _STRING) if column is None else column


def _is_missing(column: pa.Array) -> pa.Array:
    """Return where there is no value: a null, or empty text."""
    if not cells.is_text(column.type):
        return column.is_null()
    text = pc.utf8_trim_whitespace(cells.as_strings(column))
    return pc.or_(column.is_null(), pc.fill_null(pc.equal(text, ""), False))


def _places(mask: pa.Array) -> list[int]:
    places: list[int] = np.flatnonzero(np.asarray(mask)).tolist()
    return places
