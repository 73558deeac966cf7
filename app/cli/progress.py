"""What a run shows on a terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.monitor.listener import Listener
from app.monitor.records import BatchRecord

SECONDS_BETWEEN_LINES = 10.0


class ConsoleListener(Listener):
    """Shows a progress bar where ``console`` is a terminal, lines elsewhere, warnings everywhere.

    The bar has rows, rows per second, the version, and the running prequential error. Without a
    terminal, a line says that a stream is ready, and one the same as the bar, at most every ten
    seconds and while there is work. Use it as a context manager.

    Parameters
    ----------
    console
    what
        Name of the command.
    clock
        Returns seconds.
    """

    def __init__(
        self,
        console: Console,
        what: str = "replay",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console, clock
        self._is_stream = what == "stream"
        self._told, self._told_rows = clock(), 0
        self._rows = self._learned = self._errors = 0
        self._progress = Progress(
            BarColumn(bar_width=16),
            TextColumn("{task.completed:,.0f} rows"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("version {task.fields[version]}"),
            TextColumn("error {task.fields[error]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            what, total=None, rate="starting", version="-", error="-"
        )

    def started(self, rows: int | None) -> None:
        self._progress.update(self._task, total=rows)

    def ready(self, version: int) -> None:
        self._told = self._clock()
        if self._progress.disable and self._is_stream:
            self._print(f"ready, at version {version}")

    def committed(self, record: BatchRecord) -> None:
        self._rows += record.rows_in
        self._learned += record.rows_learned
        self._errors += record.prequential_errors
        error = f"{self._errors / self._learned:.4f}" if self._learned else "-"
        if self._progress.disable:
            self._tell(record.version, error)
        speed = self._progress.tasks[0].speed
        self._progress.update(
            self._task,
            completed=self._rows,
            rate=f"{speed:,.0f} rows/s" if speed else "",
            version=record.version,
            error=error,
        )

    def _tell(self, version: int, error: str) -> None:
        seconds = self._clock() - self._told
        if seconds < SECONDS_BETWEEN_LINES:
            return
        rate = (self._rows - self._told_rows) / seconds
        self._print(f"{self._rows:,} rows, {rate:,.0f} rows/s, version {version}, error {error}")
        self._told, self._told_rows = self._clock(), self._rows

    def described(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._print(line)

    def warned(self, message: str) -> None:
        self._print(f"note: {message}")

    def _print(self, line: str) -> None:
        self._progress.console.print(
            line, markup=False, emoji=False, highlight=False, soft_wrap=True
        )

    def __enter__(self) -> ConsoleListener:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Older versions of rich print an empty line when what was never shown is stopped.
        if not self._progress.disable:
            self._progress.stop()
