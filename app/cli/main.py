"""The command line: ``hedgestream``, or ``python -m app``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import rich_click as click

from app.cli.compact import compact
from app.cli.console import run
from app.cli.inspect import inspect
from app.cli.options import PATH, integer, is_from_environment, json_option, redis_url_option
from app.cli.replay import replay
from app.cli.runs import run_command
from app.cli.stream import stream
from app.cli.versions import history, rebuild, rollback
from app.config.run import ReplaySettings, StreamSettings
from app.errors import InvalidParameterError, UserError


@click.group(invoke_without_command=True)
@click.pass_context
def cli(context: click.Context) -> None:
    """Deep models that keep learning on a stream."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        context.exit(2)


@cli.command()
@click.option("--workdir", type=PATH, help="Work directory of a run.")
@redis_url_option("Redis of a model, if no work directory is given.")
@click.option("--model", help="Name of the model.")
@json_option()
@click.pass_context
def status(
    context: click.Context,
    workdir: Path | None,
    redis_url: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Show a model's version, hash, applied batches and when it was published."""
    from app.report.status import model_status

    if workdir is not None and is_from_environment(context, "redis_url"):
        redis_url = None
    shown = model_status(workdir, redis_url, model)
    if as_json:
        print(json.dumps(shown))
        return
    applied = ", ".join(f"query {q} up to batch {b}" for q, b in shown["applied"].items())
    for name, value in shown.items():
        print(f"{name.replace('_', ' '):<14} {(applied or 'none') if name == 'applied' else value}")


@cli.command()
@click.option("--workdir", type=PATH, required=True, help="Work directory of a run.")
@click.option("--output", type=PATH, required=True, help="Image to write: .png, .svg or .pdf.")
@click.option("--drift", default="", metavar="A,B,C", help="Rows at which to mark a drift.")
def report(workdir: Path, output: Path, drift: str) -> None:
    """Draw a run: error over rows, and alpha by depth over rows."""
    from app.files.workdir import WorkDirectory, check_format
    from app.monitor.batch_log import BatchLog
    from app.report.figure import draw_report

    try:
        points = [int(row) for row in drift.split(",") if row.strip()]
    except ValueError as error:
        raise UserError(f"--drift must be row numbers a,b,c, not '{drift}'") from error
    check_format(workdir)
    log = BatchLog(WorkDirectory(workdir).batches, lambda message: print(message, file=sys.stderr))
    draw_report(log.read(), output, points)
    print(output)


@cli.command()
@click.option("--output", type=PATH, required=True, help="CSV file to write.")
@click.option("--rows", type=integer, default=60_000, show_default=True, help="Rows to write.")
@click.option("--features", type=integer, default=50, show_default=True, help="Features of a row.")
@click.option("--seed", type=integer, default=0, show_default=True, help="Fixes concepts and rows.")
def generate(output: Path, rows: int, features: int, seed: int) -> None:
    """Write a stream with two concept drifts, as the HBP paper's CD1, and print where they are."""
    from app.synthetic import drift_points, write_cd1

    for option, value, least in (("rows", rows, 3), ("features", features, 1), ("seed", seed, 0)):
        if value < least:
            raise InvalidParameterError(option, f"must be at least {least}, not {value}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_cd1(output, rows, features, seed)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"--output: {output} cannot be written: {reason}") from error
    print(",".join(map(str, drift_points(rows))))


for command in (
    run_command(ReplaySettings, replay),
    run_command(StreamSettings, stream),
    inspect,
    history,
    rollback,
    rebuild,
    compact,
):
    cli.add_command(command)


def main(command: str | None = None) -> NoReturn:
    """Run a command, or the one that the command line names first, and exit."""
    run(cli, [command, *sys.argv[1:]] if command is not None else None)
