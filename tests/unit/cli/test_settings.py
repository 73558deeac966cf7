"""The options of a command are the fields of its settings, in name, default and meaning."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace

import click
import pytest
from docstring_parser import parse

from app.cli.main import cli
from app.cli.runs import run_command
from app.config.connectors import SinkSpec
from app.config.model import ModelOptions
from app.config.options import option_name, options_of
from app.config.rows import RowSettings
from app.config.run import ReplaySettings, StreamSettings
from app.config.variants import DEFAULT_VARIANT, VARIANTS
from app.errors import TooManyDeadLettersError
from tests.unit.command_lines import replay_with

pytestmark = pytest.mark.usefixtures("here")

COMMANDS = {"replay": ReplaySettings, "stream": StreamSettings}
both = pytest.mark.parametrize(("name", "settings"), COMMANDS.items(), ids=COMMANDS)
every_class = pytest.mark.parametrize("settings", [*COMMANDS.values(), ModelOptions])

LEARNING = (
    "--encoding --delimiter --escapes --decimal --thousands --missing-values --time-unit "
    "--time-zone --max-dead-letters "
    "--workdir --features --classes --categorical --max-categories --missing --contract --learn "
    "--redis-url --executor-redis-url --model --snapshots "
    "--keep-snapshots --keep-every --keep-predictions --keep-dead-letters --on-registry-outage "
    "--max-staleness --registry-patience --if-running --allow-relearn --layers --units --variant "
    "--learning-rate --beta --smoothing --hedge-loss "
    "--head-rate --input-head --trees --horizon --gradient-clip-norm --update-batch-size "
    "--class-weight --seed "
    "--json "
    "--header --no-header --quote --comment"
)
OWN = {
    "replay": "--input --format --label --id --time --rows-per-batch",
    "stream": "--events --feedback --sink --available-now --feature-count --id --time "
    "--feedback-time --label --events-schema --feedback-schema --max-rows-per-batch "
    "--fail-on-data-loss --no-fail-on-data-loss --label-timeout --lateness --max-lag "
    "--state-store",
}
SUMMARY = {
    "dead_letters_by_reason": {},
    "labels": {"received": 0},
    "total": {"rows_in": 1},
    "rows_in": 1,
    "rows_scored": 1,
    "rows_learned": 1,
    "served_error": None,
    "prequential_error": None,
    "version": 1,
    "state_sha256": "ab" * 32,
    "seconds": 1.0,
    "learn_seconds": 0.5,
}


def options(command: str) -> dict[str, click.Option]:
    return {each.name: each for each in cli.commands[command].params}


@pytest.fixture
def settings_of(call):
    """Return a function that gives the settings which a command line makes."""

    def parse_settings(settings, *arguments):
        seen = []

        def learn(checked, listener, stop):
            seen.append(checked)
            return SimpleNamespace(to_dict=lambda: SUMMARY, problem=None)

        code, output, errors = call(*arguments, cli=run_command(settings, learn))
        assert (code, errors) == (0, "")
        return seen[0], output

    return parse_settings


@both
def test_the_command_has_the_options_it_always_had(name, settings):
    names = [part for each in options(name).values() for part in (*each.opts, *each.secondary_opts)]
    assert sorted(names) == sorted(f"{LEARNING} {OWN[name]}".split())


@both
def test_each_option_is_required_as_its_field_is(name, settings):
    fields = {field.name: field for field in dataclasses.fields(settings)}
    required = {each.name for each in options(name).values() if each.required}
    assert required == {name for name in options_of(settings) if needs_value(fields[name])}


@both
def test_each_option_shows_the_default_that_its_field_has(name, settings):
    variant = VARIANTS[DEFAULT_VARIANT]
    expected = {"as_json": None}
    for kind in (settings, ModelOptions):
        for field in dataclasses.fields(kind):
            default = variant.get(field.name) if field.default is None else field.default
            is_empty = default is None or default is False or default == ()
            is_shown = not needs_value(field) and not is_empty
            expected[field.name] = str(default) if is_shown else None
    shown = {
        name: str(each.default) if each.show_default else None
        for name, each in options(name).items()
    }
    assert shown == {name: expected[name] for name in shown}


def needs_value(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


@both
def test_each_option_is_explained_in_the_help(name, settings):
    assert [each.name for each in options(name).values() if not each.help] == []


@every_class
def test_each_field_is_described_in_a_docstring(settings):
    named = {
        parameter.arg_name
        for each in settings.__mro__
        for parameter in parse(each.__doc__ or "").params
        if parameter.description
    }
    assert {field.name for field in dataclasses.fields(settings)} <= named


@every_class
def test_each_choice_of_an_option_stands_in_its_description(settings):
    described = {
        parameter.arg_name: re.findall(r'"(.+?)"', parameter.type_name or "")
        for each in reversed(settings.__mro__)
        for parameter in parse(each.__doc__ or "").params
    }
    for name, (option, _) in options_of(settings).items():
        assert sorted(described[name]) == sorted(option.choices), name


@both
def test_the_help_describes_each_option_under_its_heading(call, name, settings, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, output, errors = call(name, "--help")
    assert (code, errors) == (0, "")
    # A box a heading, without the frame.
    headings = re.split(r"^╭─ (.+?) ─+╮$", output, flags=re.MULTILINE)
    boxes = dict(zip(headings[1::2], headings[2::2], strict=True))
    for kind in (settings, ModelOptions):
        for field, (option, _) in options_of(kind).items():
            assert option_name(field) in boxes[option.panel], field
    assert "[default: 0.04]" in output
    assert "[env var: REDIS_URL]" in output
    assert "[default: " + ("5000]" if name == "replay" else "redis:events]") in output


def test_what_is_not_given_is_left_to_the_settings(settings_of):
    replay, _ = settings_of(ReplaySettings, *replay_with()[1:])
    named = {"input": replay.input, "format": "csv", "label": "y", "workdir": replay.workdir}
    assert replay == ReplaySettings(**named)
    assert replay.model_options == {}

    stream, _ = settings_of(StreamSettings, "--workdir", "w")
    assert stream == StreamSettings(workdir=stream.workdir)


def test_a_model_option_counts_as_given_even_when_it_is_the_default(settings_of):
    given = {"units": "100", "learning_rate": "0.04", "variant": "fast"}
    settings, _ = settings_of(ReplaySettings, *replay_with(**given)[1:])
    expected = {"n_hidden_units": 100, "learning_rate": 0.04, "variant": "fast"}
    assert settings.model_options == expected


def test_lists_switches_and_repeated_options_are_read(settings_of):
    line = "--workdir w --features a,b --sink console --sink delta:t --no-fail-on-data-loss"
    settings, _ = settings_of(StreamSettings, *line.split(), "--available-now", "--json")
    assert settings.features == ("a", "b")
    assert settings.sinks == (SinkSpec("console"), SinkSpec("delta", "t"))
    assert (settings.fail_on_data_loss, settings.available_now) == (False, True)


def test_how_rows_are_written_is_read(settings_of):
    line = "--decimal , --thousands . --escapes --missing-values -999,x --time-unit ms"
    rest = ["--delimiter", ";", "--encoding", "cp1252", "--max-dead-letters", "0.1"]
    settings, _ = settings_of(StreamSettings, "--workdir", "w", *line.split(), *rest)
    expected = RowSettings(
        encoding="cp1252",
        delimiter=";",
        escapes=True,
        decimal=",",
        thousands=".",
        missing_values=("-999", "x"),
        time_unit="ms",
        max_dead_letters=0.1,
    )
    names = [field.name for field in dataclasses.fields(RowSettings)]
    assert [getattr(settings, name) for name in names] == list(dataclasses.astuple(expected))


def test_a_url_of_the_environment_is_given(settings_of, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://u:secret@cache")
    monkeypatch.setenv("EXECUTOR_REDIS_URL", "redis://v:secret@cache")
    settings, _ = settings_of(StreamSettings, "--workdir", "w")
    assert settings.redis_url == "redis://u:secret@cache"
    assert settings.executor_redis_url == "redis://v:secret@cache"


def test_the_summary_is_a_table_or_one_line_of_json(settings_of):
    _, table = settings_of(StreamSettings, "--workdir", "w")
    assert ["state", "SHA-256", "ab" * 32] in [line.split() for line in table.splitlines()]
    _, line = settings_of(StreamSettings, "--workdir", "w", "--json")
    assert line.count("\n") == 1
    assert json.loads(line) == SUMMARY


def test_what_a_run_did_is_told_before_what_was_wrong_with_it(call):
    problem = TooManyDeadLettersError("2 of 2 rows are dead letters")

    def learn(checked, listener, stop):
        return SimpleNamespace(to_dict=lambda: SUMMARY, problem=problem)

    learned = run_command(StreamSettings, learn)
    code, output, errors = call("--workdir", "w", "--json", cli=learned)
    assert (code, errors) == (5, "error: 2 of 2 rows are dead letters\n")
    assert json.loads(output) == SUMMARY


@both
def test_each_option_that_is_no_switch_is_refused_without_its_value(complaint, name, settings):
    for each in options(name).values():
        if not each.is_flag:
            assert "requires an argument" in complaint(name, each.opts[0]), each.name


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["replay", "--lable", "y"], "--label"), (["stream", "--feature-cuont=3"], "--feature-count")],
)
def test_an_unknown_option_is_named_beside_what_may_be_meant(complaint, arguments, meant):
    message = complaint(*arguments)
    assert arguments[1].partition("=")[0] in message and meant in message


@pytest.mark.parametrize("option", ["events", "feedback", "sink"])
def test_a_place_that_is_none_is_refused_by_name(complaint, option):
    message = complaint("stream", "--workdir", "w", f"--{option}", "nowhere")
    assert message.startswith(f"--{option} must be ") and message.endswith("not 'nowhere'")
