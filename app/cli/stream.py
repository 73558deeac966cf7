"""The command ``stream``."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from app.config.run import StreamSettings

if TYPE_CHECKING:
    from app.cli.progress import ConsoleListener
    from app.monitor.metrics import RunSummary


def stream(settings: StreamSettings, listener: ConsoleListener) -> RunSummary:
    """Score events as they come, and learn from each when its label comes.

    Runs until it is interrupted or terminated (SIGTERM), which ends it after the batch in
    hand. Run again, it goes on where it stopped.
    """
    from app.streaming.query import StopRequest
    from app.streaming.stream import stream

    stop = StopRequest()

    def end(number: int, frame: object) -> None:
        if stop.was_made:
            raise KeyboardInterrupt
        listener.warned("ending after the batch in hand")
        stop()

    signal.signal(signal.SIGTERM, end)
    return stream(settings, listener, stop)
