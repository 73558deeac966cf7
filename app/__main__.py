"""The command line: ``python -m app``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.console import integer, run, url_without_password
from app.errors import InvalidParameterError, UserError
from app.replay import replay_command
from app.stream import stream_command
from app.versions import history_command, rebuild_command, rollback_command

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Deep models that keep learning on a stream.",
)
cli.command("replay")(replay_command)
cli.command("stream")(stream_command)
cli.command("history")(history_command)
cli.command("rollback")(rollback_command)
cli.command("rebuild")(rebuild_command)


@cli.command()
def status(
    context: typer.Context,
    workdir: Annotated[Path | None, typer.Option(help="Work directory of a run.")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            help="Redis of a model, if no work directory is given.",
            envvar="REDIS_URL",
            callback=url_without_password,
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    json_status: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's version, hash, applied batches and when it was published."""
    from app.monitor.status import model_status

    from_environment = context.get_parameter_source("redis_url").name == "ENVIRONMENT"
    if workdir is not None and from_environment:
        redis_url = None
    shown = model_status(workdir, redis_url, model)
    if json_status:
        print(json.dumps(shown))
        return
    applied = ", ".join(f"query {q} up to batch {b}" for q, b in shown["applied"].items())
    for name, value in shown.items():
        print(f"{name.replace('_', ' '):<14} {(applied or 'none') if name == 'applied' else value}")


@cli.command()
def report(
    workdir: Annotated[Path, typer.Option(help="Work directory of a run.")],
    output: Annotated[Path, typer.Option(help="Image to write: .png, .svg or .pdf.")],
    drift: Annotated[str, typer.Option(help="Rows a,b,c at which to mark a drift.")] = "",
) -> None:
    """Draw a run: error over rows, and alpha by depth over rows."""
    from app.monitor.batch_log import BatchLog
    from app.monitor.report import draw_report

    try:
        points = [int(row) for row in drift.split(",") if row.strip()]
    except ValueError as error:
        raise UserError(f"--drift must be row numbers a,b,c, not '{drift}'") from error
    draw_report(BatchLog(workdir / "batches").read(), output, points)
    print(output)


@cli.command()
def generate(
    output: Annotated[Path, typer.Option(help="CSV file to write.")],
    rows: Annotated[
        int, typer.Option(parser=integer, metavar="INTEGER", help="Rows of the stream.")
    ] = 60_000,
    features: Annotated[
        int, typer.Option(parser=integer, metavar="INTEGER", help="Features of a row.")
    ] = 50,
    seed: Annotated[
        int, typer.Option(parser=integer, metavar="INTEGER", help="Of concepts and rows.")
    ] = 0,
) -> None:
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


if __name__ == "__main__":
    run(cli)
