"""The events that a run reports while it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from app.monitor.records import BatchRecord


class Listener:
    """Receives what happens in a run. This one ignores it."""

    def started(self, rows: int | None) -> None:
        """The query is about to start; about ``rows`` rows are still to be read."""

    def ready(self, version: int) -> None:
        """The query is up, with the model at a version."""

    def committed(self, record: BatchRecord) -> None:
        """A batch is done."""

    def described(self, lines: Sequence[str]) -> None:
        """A new model is made for an input that looks like this."""

    def warned(self, message: str) -> None:
        """Something deserves the user's attention, and the run goes on."""
