"""Whether a run has more dead letters than a user would want to hear of late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from app.config.rows import RowSettings
from app.errors import TooManyDeadLettersError
from app.monitor.metrics import Totals
from app.parsing.explain import explain
from app.parsing.row_parser import RowParser
from app.streaming.rows.rules import text_format

if TYPE_CHECKING:
    from app.streaming.batch_writer import BatchWriter

TOLD_SHARE = 0.1
"""Of the rows, or of the labels: above it the run says so."""

_REASONS_SHOWN = 4

_LABEL = "label"


class DeadLetterWatch:
    """Tells of a run's dead letters, and whether they are too many.

    Parameters
    ----------
    writer
        Has the first dead letter of each reason.
    settings
        Say how rows are written, and above which share of them dead letters are too many.
    warn
        Called once, after a batch in which more than a tenth were dead.
    """

    def __init__(
        self, writer: BatchWriter, settings: RowSettings, warn: Callable[[str], None]
    ) -> None:
        self._writer = writer
        self._limit = settings.max_dead_letters
        # Cells are what is looked at, and not what stands between them.
        self._dialect = text_format(settings).dialect("")
        self._warn = warn
        self._has_warned = False

    def look(self, run: Totals) -> None:
        """Look at what a run adds up to so far."""
        if not self._has_warned and (said := self._said(run, TOLD_SHARE)):
            self._has_warned = True
            self._warn(said)

    def problem(self, run: Totals) -> TooManyDeadLettersError | None:
        """Return the error of a run that ended with too many."""
        said = self._said(run, self._limit)
        return TooManyDeadLettersError(said) if said else None

    def _said(self, run: Totals, share: float) -> str | None:
        parts = []
        kinds = [kind for kind in self._writer.parsers if kind != _LABEL]
        labels = run.labels
        # Labels that an earlier run was given may have died in this one.
        settled = run.rows_learned + sum(labels.dead.values())
        for what, kind, dead, given, of in (
            ("rows", kinds[0], run.dead_letters_by_reason, run.rows_in, run.rows_in),
            ("labels", _LABEL, labels.dead, labels.received, max(labels.received, settled)),
        ):
            count = sum(dead.values())
            if count and given and (count > share * of or count == of):
                parts.append(
                    f"{count:,} of {of:,} {what} are dead letters, {self._firsts(kind, dead)}"
                )
        return "; ".join(parts) or None

    def _firsts(self, kind: str, dead: Mapping[str, int]) -> str:
        most = sorted(dead, key=lambda reason: -dead[reason])[:_REASONS_SHOWN]
        first = [self._first(kind, reason, dead[reason]) for reason in most]
        return (
            "first: " + first[0] if len(first) == 1 else "first of each kind: " + "; ".join(first)
        )

    def _first(self, kind: str, reason: str, count: int) -> str:
        row = self._writer.files.examples.get((kind, reason))
        if row is None:
            return f"{reason} ({count:,})"
        parser: RowParser = self._writer.parsers[kind]
        return explain(reason, row, parser.contract, parser.rules, self._dialect)
