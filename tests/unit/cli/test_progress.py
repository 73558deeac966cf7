"""A terminal shows a run's progress; anything else shows its warnings and no more."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from app.cli.progress import ConsoleListener
from app.monitor.listener import Listener
from app.monitor.records import BatchRecord


def record(batch, rows_scored, rows_learned, wrong, dead=0) -> BatchRecord:
    return BatchRecord(
        query="q",
        batch=batch,
        rows_scored=rows_scored,
        rows_learned=rows_learned,
        dead_letters={"unparsable": dead} if dead else {},
        served_errors=0,
        prequential_errors=wrong,
        version=batch + 1,
        alpha=[1.0],
        finished_at="2024-01-01T00:00:00+00:00",
    )


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def terminal(output, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Console(force_terminal=True, file=output, width=120)


def plain(output: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())


def run(console, *records, rows=10_000, warnings=()):
    with ConsoleListener(console) as listener:
        listener.started(rows)
        for message in warnings:
            listener.warned(message)
        for each in records:
            listener.committed(each)


class TestNotATerminal:
    def test_a_run_without_warnings_shows_nothing(self, output):
        run(Console(file=output), record(0, 100, 100, 10))
        assert output.getvalue() == ""

    def test_a_warning_is_one_line_however_long(self, output):
        message = "rare labels are left out" + ", and one more" * 30
        run(Console(file=output, width=40), record(0, 100, 100, 10), warnings=[message])
        assert output.getvalue() == f"note: {message}\n"

    @pytest.mark.parametrize("label", ["[red]", "[/b]", ":smile:"])
    def test_a_warning_is_shown_as_it_is_written(self, output, label):
        run(Console(file=output), warnings=[f"label {label} is left out"])
        assert output.getvalue() == f"note: label {label} is left out\n"

    def test_a_stream_says_when_it_is_ready_and_then_every_ten_seconds_of_work(self, output):
        now = [0.0]
        with ConsoleListener(Console(file=output), "stream", lambda: now[0]) as listener:
            listener.ready(7)
            for batch, now[0] in enumerate([4.0, 9.0, 16.0, 17.0, 25.9, 26.0, 300.0]):
                listener.committed(record(batch, 100, 100, 10))
        assert output.getvalue().splitlines() == [
            "ready, at version 7",
            "300 rows, 19 rows/s, version 3, error 0.1000",
            "600 rows, 30 rows/s, version 6, error 0.1000",
            "700 rows, 0 rows/s, version 7, error 0.1000",
        ]

    def test_what_a_new_model_is_made_for_is_shown(self, output):
        with ConsoleListener(Console(file=output)) as listener:
            listener.ready(0)
            listener.described(["2 numbers: a, [b]", "classes: no, yes"])
        assert output.getvalue() == "2 numbers: a, [b]\nclasses: no, yes\n"


class TestTerminal:
    def test_rows_version_and_error_are_shown(self, terminal, output):
        run(terminal, record(0, 1500, 1000, 250))
        shown = plain(output).splitlines()[-1]
        assert "1,500 rows" in shown
        assert "version 1" in shown
        assert "error 0.2500" in shown

    def test_rows_and_errors_are_of_the_whole_run(self, terminal, output):
        run(terminal, record(0, 1000, 1000, 500), record(1, 900, 500, 100, dead=100))
        shown = plain(output).splitlines()[-1]
        assert "2,000 rows" in shown
        assert "version 2" in shown
        assert "error 0.4000" in shown

    def test_no_error_is_shown_before_anything_is_learned(self, terminal, output):
        run(terminal, record(0, 1000, 0, 0))
        assert "error -" in plain(output).splitlines()[-1]

    def test_it_says_that_it_is_starting(self, terminal, output):
        run(terminal)
        assert "starting" in plain(output)

    def test_a_warning_stands_among_the_progress(self, terminal, output):
        run(terminal, record(0, 1000, 1000, 0), warnings=["look here"])
        assert "note: look here" in [line.strip() for line in plain(output).splitlines()]

    def test_an_error_ends_the_display_and_passes_through(self, terminal, output):
        with pytest.raises(RuntimeError), ConsoleListener(terminal):
            raise RuntimeError
        hidden, shown = output.getvalue().rfind("\x1b[?25l"), output.getvalue().rfind("\x1b[?25h")
        assert 0 <= hidden < shown, "the cursor stays hidden"


def test_the_silent_listener_says_nothing(capsys):
    listener = Listener()
    listener.described(["unheard"])
    listener.started(5)
    listener.ready(0)
    listener.committed(record(0, 5, 5, 0))
    listener.warned("unheard")
    assert capsys.readouterr() == ("", "")
