"""What a batch leaves for its readers, whichever kind of run it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from pyspark.sql import DataFrame

from app.contract import Contract
from app.files.batches.dataset import DIVERGED, PREDICTED, REJECTED, WriteOnceParquet
from app.files.workdir import WorkDirectory
from app.monitor.phases import PhaseTimer
from app.monitor.records import LabelCounts
from app.parsing.row_parser import RowParser
from app.registry.version import ModelVersion
from app.streaming.rows.labelled import LabelledRows
from app.streaming.rows.predictions import Served, prediction_table, read_served

ROW = "row"
"""The kind of rows where there is but one."""


@dataclass(frozen=True)
class BatchContext:
    """One try of one batch.

    Attributes
    ----------
    query, batch
        What Spark calls them.
    version
        The version to score with, unless a later one is found.
    timer
        Counts the time by phase.
    check_fence
        Called before something is written; raises when a newer learner has taken over.
    reached
        Called with ``predictions`` and ``dead_letters`` when those are written.
    on_labelled
        Called with the labelled rows where they are known before any row is scored.
    """

    query: str
    batch: int
    version: ModelVersion
    timer: PhaseTimer
    check_fence: Callable[[], None]
    reached: Callable[[str], None]
    on_labelled: Callable[[LabelledRows], None]


@dataclass(frozen=True)
class ScoredBatch:
    """What scoring a batch gave.

    Attributes
    ----------
    rows
        Rows predicted.
    rows_stale
        How many of those were predicted while Redis could not be asked for a newer version.
    dead_letters
        Rows by reason; of events, when labels come apart from them.
    labelled
        The rows to learn, in the order they are learned.
    labels
        What became of labels that come apart from their events.
    """

    rows: int
    rows_stale: int
    dead_letters: dict[str, int]
    labelled: LabelledRows
    labels: LabelCounts = field(default_factory=LabelCounts)


class BatchWriter(Protocol):
    """Scores a batch and writes what is to be read of it; used by the loop.

    Attributes
    ----------
    files
    parsers
        By kind of row.
    """

    files: BatchFiles
    parsers: Mapping[str, RowParser]

    def take_over(self, query: str) -> None:
        """Begin a query, or go on with it."""

    def write(self, df: DataFrame, context: BatchContext) -> ScoredBatch:
        """Score a batch and write it; what an earlier try has written or decided stays."""

    def unlearned_letters(
        self, df: DataFrame, batch: int, labelled: LabelledRows, reason: str
    ) -> pa.Table:
        """Return the labelled rows of a batch as the dead letters they become when they
        are not learned.
        """

    def close(self) -> None:
        """Let go of what belongs to the query. Safe to call again."""


class BatchFiles:
    """The predictions and dead letters of one work directory, each file written once.

    Attributes
    ----------
    examples
        Row of the first dead letter of each kind and reason.
    """

    def __init__(self, workdir: WorkDirectory, contract: Contract) -> None:
        self._contract = contract
        self._predictions = WriteOnceParquet(workdir.predictions, PREDICTED)
        self._rejected = WriteOnceParquet(workdir.dead_letters, REJECTED)
        self._unlearned = WriteOnceParquet(workdir.dead_letters, DIVERGED)
        self.examples: dict[tuple[str, str], str] = {}

    def has_predictions(self, query: str, batch: int) -> bool:
        return self._predictions.has(query, batch)

    def write_predictions(self, scored: pa.Table, query: str, batch: int) -> None:
        """Write what was predicted for the rows of :func:`prediction_table`, if there are any."""
        if len(scored):
            table = prediction_table(scored, self._contract, batch)
            self._predictions.write(table, query, batch)

    def predictions(self, query: str, batch: int) -> Served:
        """Read back what the readers of a batch's predictions were served."""
        return read_served(self._predictions, query, batch, self._contract)

    def write_rejected(self, letters: pa.Table, query: str, batch: int) -> None:
        """Write the rows of a batch that cannot be used, if there are any."""
        if len(letters):
            self._rejected.write(letters, query, batch)
            self._note_examples(letters)

    def _note_examples(self, letters: pa.Table) -> None:
        reasons = letters["reason"].to_pylist()
        kinds = (
            letters["kind"].to_pylist() if "kind" in letters.column_names else [ROW] * len(reasons)
        )
        for place, key in enumerate(zip(kinds, reasons, strict=True)):
            if key not in self.examples:
                self.examples[key] = letters["row"][place].as_py()

    def write_unlearned(self, letters: pa.Table, query: str, batch: int) -> None:
        """Write the labelled rows of a batch that are not learned."""
        self._unlearned.write(letters, query, batch)

    def has_unlearned(self, query: str, batch: int) -> bool:
        """Return whether an earlier try of a batch did not learn it."""
        return self._unlearned.has(query, batch)

    def unlearned_reason(self, query: str, batch: int) -> str | None:
        """Return why an earlier try of a batch did not learn it, None if there is none."""
        letters = self._unlearned.read(query, batch, ["reason"])
        return None if letters is None else letters["reason"][0].as_py()

    def predictions_path(self, query: str, batch: int) -> Path:
        """Return the file of a batch's predictions."""
        return self._predictions.path(query, batch)
