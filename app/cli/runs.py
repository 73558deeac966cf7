"""What the commands that learn have in common: options, progress, and the summary at the end."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import rich_click as click

from app.cli.options import given_options, json_option, settings_options
from app.config.model import ModelOptions
from app.config.options import PANELS
from app.config.run import SettingsT, settings_from

if TYPE_CHECKING:
    from app.cli.progress import ConsoleListener
    from app.monitor.metrics import RunSummary
    from app.streaming.query import StopRequest

    Learn = Callable[[SettingsT, ConsoleListener, StopRequest], RunSummary]


def run_command(settings: type[SettingsT], learn: Learn[SettingsT]) -> click.RichCommand:
    """Return the command that makes settings from its options, and learns.

    Parameters
    ----------
    settings
        The class whose fields are the command's options, beside those of the model.
    learn
        Has the command's name, and its help as a docstring.
    """

    options = settings_options(settings) + settings_options(ModelOptions)
    panels = [click.RichOptionPanel(title) for title in PANELS]

    @click.command(learn.__name__, params=options, panels=panels, help=learn.__doc__)
    @json_option("End with one line of JSON instead of a table.")
    @click.pass_context
    def command(context: click.Context, /, as_json: bool, **options: Any) -> None:
        checked = settings_from(settings, given_options(context, options))
        # Here and not above: options are checked, and --help is shown, before more is imported.
        from rich.console import Console

        from app.cli.progress import ConsoleListener
        from app.report.summary import summary_lines
        from app.streaming.query import StopRequest

        with ConsoleListener(Console(stderr=True), learn.__name__) as listener:
            stop = StopRequest()
            with _ended_by_sigterm(stop, listener):
                done = learn(checked, listener, stop)
        summary = done.to_dict()
        shown = json.dumps(summary) if as_json else "\n".join(summary_lines(summary))
        print(shown, flush=True)
        if done.problem is not None:
            raise done.problem

    return command


@contextlib.contextmanager
def _ended_by_sigterm(stop: StopRequest, listener: ConsoleListener) -> Iterator[None]:
    """Have SIGTERM end the run after the batch in hand, and a second one at once."""

    def end(number: int, frame: object) -> None:
        if stop.was_made:
            raise KeyboardInterrupt
        listener.warned("ending after the batch in hand")
        stop()

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
