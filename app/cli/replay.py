"""The command ``replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.config.run import ReplaySettings

if TYPE_CHECKING:
    from app.cli.progress import ConsoleListener
    from app.monitor.metrics import RunSummary
    from app.streaming.query import StopRequest


def replay(settings: ReplaySettings, listener: ConsoleListener, stop: StopRequest) -> RunSummary:
    """Replay files as a stream: score each batch, learn from it, publish the new version.

    Run again, it goes on where it stopped; run when all is read, it learns nothing.
    """
    from app.streaming.replay import replay

    return replay(settings, listener, stop)
