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

from app import options
from app.config import FORMATS, ReplaySettings
from app.console import integer, run
from app.monitor.progress import ConsoleListener
from app.monitor.report import summary_lines


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
    redis_url: options.RedisUrl = None,
    executor_redis_url: options.ExecutorRedisUrl = None,
    model: options.ModelName = "default",
    snapshots: options.Snapshots = None,
    keep_snapshots: options.KeepSnapshots = 50,
    keep_every: options.KeepEvery = 100,
    on_registry_outage: options.OnRegistryOutage = "stale",
    max_staleness: options.MaxStaleness = 0.0,
    registry_patience: options.RegistryPatience = 60.0,
    allow_relearn: options.AllowRelearn = False,
    json_summary: options.JsonSummary = False,
    layers: options.Layers = None,
    units: options.Units = None,
    variant: options.Variant = None,
    learning_rate: options.LearningRate = None,
    beta: options.Beta = None,
    smoothing: options.Smoothing = None,
    hedge_loss: options.HedgeLoss = None,
    head_rate: options.HeadRate = None,
    input_head: options.InputHead = None,
    gradient_clip_norm: options.GradientClipNorm = None,
    update_batch_size: options.UpdateBatchSize = None,
    seed: options.Seed = None,
) -> None:
    """Replay files as a stream: score each batch, learn from it, publish the new version.

    Run again, it goes on where it stopped; run when all is read, it learns nothing.
    """
    given = options.given(
        n_hidden_layers=layers,
        n_hidden_units=units,
        variant=variant,
        learning_rate=learning_rate,
        beta=beta,
        smoothing=smoothing,
        hedge_loss=hedge_loss,
        head_rate=head_rate,
        input_head=input_head,
        gradient_clip_norm=gradient_clip_norm,
        update_batch_size=update_batch_size,
        seed=seed,
    )
    settings = ReplaySettings(
        input=input,
        format=format,
        label=label,
        workdir=workdir,
        features=options.names(features),
        id=id,
        time=time,
        classes=options.names(classes),
        rows_per_batch=rows_per_batch,
        redis_url=redis_url,
        executor_redis_url=executor_redis_url,
        model=model,
        snapshots=snapshots,
        keep_snapshots=keep_snapshots,
        keep_every=keep_every,
        on_registry_outage=on_registry_outage,
        max_staleness=max_staleness,
        registry_patience=registry_patience,
        allow_relearn=allow_relearn,
        model_options=given,
    )
    # Here and not above: options are checked, and --help is shown, before Spark is imported.
    from app.streaming.replay import replay

    with ConsoleListener(Console(stderr=True)) as listener:
        summary = replay(settings, listener).to_dict()
    if json_summary:
        print(json.dumps(summary), flush=True)
    else:
        print("\n".join(summary_lines(summary)), flush=True)


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False)
    cli.command()(replay_command)
    run(cli)
