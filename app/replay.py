"""Entry point of the batch replay: ``python -m app replay`` and ``spark-submit app/replay.py``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

if not __package__:
    # spark-submit runs this file as a script, and so puts app/ itself on the path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import typer
from rich.console import Console

from app.config import FORMATS, HEDGE_LOSSES, OUTAGE_POLICIES, ReplaySettings
from app.console import integer, number, run, url_without_password
from app.monitor.progress import ConsoleListener
from app.monitor.report import summary_lines

_REGISTRY = "Registry"
_MODEL = "Model (fixed when it is created)"


def replay_command(
    input: Annotated[Path, typer.Option(help="A file, or a directory of files read by name.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    label: Annotated[str, typer.Option(help="Column of the class label.")],
    workdir: Annotated[Path, typer.Option(help="Directory for everything the run keeps.")],
    features: Annotated[
        str | None,
        typer.Option(help="Feature columns a,b,c, or one array column. Default: all others."),
    ] = None,
    id: Annotated[
        str | None, typer.Option(help="Column of the event id. Default: row numbers.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column of the event time. Default: file order.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Labels a,b,c in class order. Default: from the input.")
    ] = None,
    rows_per_batch: Annotated[
        int, typer.Option(parser=integer, metavar="INTEGER", help="Rows of one micro-batch.")
    ] = 5000,
    redis_url: Annotated[
        str | None,
        typer.Option(
            help="Default: a private redis-server.",
            envvar="REDIS_URL",
            callback=url_without_password,
            rich_help_panel=_REGISTRY,
        ),
    ] = None,
    executor_redis_url: Annotated[
        str | None,
        typer.Option(
            help="For scorers, as a user who only reads. Default: the same.",
            envvar="EXECUTOR_REDIS_URL",
            callback=url_without_password,
            rich_help_panel=_REGISTRY,
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Name of the model in the registry.", rich_help_panel=_REGISTRY)
    ] = "default",
    snapshots: Annotated[
        Path | None,
        typer.Option(
            help="Directory of a model of several work directories. Default: in --workdir, or "
            "where the model has it.",
            rich_help_panel=_REGISTRY,
        ),
    ] = None,
    keep_snapshots: Annotated[
        int,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Newest versions that keep their snapshot.",
            rich_help_panel=_REGISTRY,
        ),
    ] = 50,
    keep_every: Annotated[
        int,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Of the older ones, keep each that this divides; 0: none.",
            rich_help_panel=_REGISTRY,
        ),
    ] = 100,
    on_registry_outage: Annotated[
        str,
        typer.Option(
            help=f"Of scorers, when Redis cannot be asked: {' or '.join(OUTAGE_POLICIES)}.",
            rich_help_panel=_REGISTRY,
        ),
    ] = "stale",
    registry_patience: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="SECONDS",
            help="How long to wait for Redis to come back.",
            rich_help_panel=_REGISTRY,
        ),
    ] = 60.0,
    allow_relearn: Annotated[
        bool,
        typer.Option(
            "--allow-relearn",
            help="Learn an input again that the model learned under another checkpoint.",
            rich_help_panel=_REGISTRY,
        ),
    ] = False,
    json_summary: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON instead of a table.")
    ] = False,
    layers: Annotated[
        int | None,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Hidden layers. Default: 20.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    units: Annotated[
        int | None,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Units a layer. Default: 100.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            parser=number, metavar="NUMBER", help="Default: 0.01.", rich_help_panel=_MODEL
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="NUMBER",
            help="Hedge discount. Default: 0.99.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="NUMBER",
            help="Floor of alpha, s. Default: 0.2.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    hedge_loss: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(HEDGE_LOSSES)}. Default: minmax.", rich_help_panel=_MODEL
        ),
    ] = None,
    input_head: Annotated[
        bool | None,
        typer.Option(
            "--input-head/--no-input-head",
            help="A head on the input itself. Default: no.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    gradient_clip_norm: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="NUMBER",
            help="Of one layer's gradient. Default: 10.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    update_batch_size: Annotated[
        int | None,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Rows an update. Default: 1.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Of the weights. Default: 0.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
) -> None:
    """Replay files as a stream: score each batch, learn from it, publish the new version.

    Run again, it goes on where it stopped; run when all is read, it learns nothing.
    """
    given = {
        "n_hidden_layers": layers,
        "n_hidden_units": units,
        "learning_rate": learning_rate,
        "beta": beta,
        "smoothing": smoothing,
        "hedge_loss": hedge_loss,
        "input_head": input_head,
        "gradient_clip_norm": gradient_clip_norm,
        "update_batch_size": update_batch_size,
        "seed": seed,
    }
    settings = ReplaySettings(
        input=input,
        format=format,
        label=label,
        workdir=workdir,
        features=_names(features),
        id=id,
        time=time,
        classes=_names(classes),
        rows_per_batch=rows_per_batch,
        redis_url=redis_url,
        executor_redis_url=executor_redis_url,
        model=model,
        snapshots=snapshots,
        keep_snapshots=keep_snapshots,
        keep_every=keep_every,
        on_registry_outage=on_registry_outage,
        registry_patience=registry_patience,
        allow_relearn=allow_relearn,
        model_options={name: value for name, value in given.items() if value is not None},
    )
    # Here and not above: options are checked, and --help is shown, before Spark is imported.
    from app.streaming.replay import replay

    with ConsoleListener(Console(stderr=True)) as listener:
        summary = replay(settings, listener).to_dict()
    if json_summary:
        print(json.dumps(summary), flush=True)
    else:
        print("\n".join(summary_lines(summary)), flush=True)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False)
    cli.command()(replay_command)
    run(cli)
