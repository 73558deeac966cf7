"""The commands that learn, in Python: for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.config.run import ReplaySettings, SettingsT, StreamSettings, settings_from

if TYPE_CHECKING:
    from app.monitor.listener import Listener
    from app.monitor.metrics import RunSummary
    from app.streaming.query import StopRequest


def replay(
    settings: ReplaySettings | None = None,
    *,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
    **options: Any,
) -> RunSummary:
    """Replay files as a stream: score each batch, learn from it, publish the new version.

    Run again, it goes on where it stopped; run when all is read, it learns nothing.

    Parameters
    ----------
    settings
        What to do; or leave it out, and give its fields as keywords.
    listener
        Hears of what happens while it happens.
    stop
        When it is made, by another thread, the run ends after the batch in hand.
    **options
        Fields of :class:`ReplaySettings` and :class:`ModelOptions`, as values or as texts.

    Raises
    ------
    UserError
        When an option, a column or a file cannot be used.
    HedgestreamError
        When the run cannot go on.

    Examples
    --------
    >>> replay(input="in.csv", format="csv", label="y", workdir="run1", rows_per_batch=0)
    Traceback (most recent call last):
    app.errors.InvalidParameterError: rows_per_batch must be an integer of at least 1, not 0
    """
    checked = _checked(ReplaySettings, settings, options)
    # Here and not above: settings are checked before Spark is imported.
    from app.streaming.replay import replay

    return replay(checked, listener, stop)


def stream(
    settings: StreamSettings | None = None,
    *,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
    **options: Any,
) -> RunSummary:
    """Score events as they come, and learn from each when its label comes.

    Runs until ``stop`` is made or, with ``available_now``, until what is there has been read.
    Run again, it goes on where it stopped.

    Parameters
    ----------
    settings
        What to do; or leave it out, and give its fields as keywords.
    listener
        Hears of what happens while it happens.
    stop
        When it is made, by another thread, the run ends after the batch in hand.
    **options
        Fields of :class:`StreamSettings` and :class:`ModelOptions`, as values or as texts.

    Raises
    ------
    UserError
        When an option, a column or a source cannot be used.
    HedgestreamError
        When the run cannot go on.

    Examples
    --------
    >>> stream(workdir="run1", events="redis", available_now=True)
    Traceback (most recent call last):
    app.errors.InvalidParameterError: events must be json:DIR, csv:DIR, arff:DIR, \
parquet:DIR, delta:TABLE, redis:STREAM or kafka://HOST:PORT/TOPIC, not 'redis'
    """
    checked = _checked(StreamSettings, settings, options)
    from app.streaming.stream import stream

    return stream(checked, listener, stop)


def _checked(
    kind: type[SettingsT], settings: SettingsT | None, options: dict[str, Any]
) -> SettingsT:
    if settings is None:
        return settings_from(kind, options)
    if options:
        raise TypeError(f"give {kind.__name__} or its fields as keywords, not both: {[*options]}")
    return settings
