"""The command ``stream``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.config.run import StreamSettings

if TYPE_CHECKING:
    from app.cli.progress import ConsoleListener
    from app.monitor.metrics import RunSummary
    from app.streaming.query import StopRequest


def stream(settings: StreamSettings, listener: ConsoleListener, stop: StopRequest) -> RunSummary:
    """Score events as they come, and learn from each when its label comes.

    Runs until it is interrupted or terminated (SIGTERM), which ends it after the batch in
    hand. Run again, it goes on where it stopped.
    """
    from app.streaming.stream import stream

    return stream(settings, listener, stop)
