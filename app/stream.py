"""Entry point of the live stream: ``python -m app stream`` and ``spark-submit app/stream.py``."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

if not __package__:
    # spark-submit runs this file as a script, and so puts app/ itself on the path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import typer
from rich.console import Console

from app import options
from app.config import DRIVER, StreamSettings
from app.console import integer, number, run
from app.monitor.progress import ConsoleListener
from app.monitor.report import summary_lines
from app.source_spec import parse_sink, parse_source

_ROWS = "Rows"
_MATCHING = "Matching"

_SOURCE = "json:DIR, csv:DIR, parquet:DIR, delta:TABLE, redis:STREAM or kafka://HOST:PORT/TOPIC"


def stream_command(
    workdir: Annotated[Path, typer.Option(help="Directory for everything the run keeps.")],
    events: Annotated[
        str, typer.Option(metavar="SOURCE", help=f"Rows to score: {_SOURCE}.")
    ] = "redis:events",
    feedback: Annotated[
        str, typer.Option(metavar="SOURCE", help="Labels that come later; the same kinds.")
    ] = "redis:feedback",
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SINK",
            help="Where predictions go beside --workdir: delta:TABLE, kafka://HOST:PORT/TOPIC or "
            "console. May be given several times.",
        ),
    ] = None,
    available_now: Annotated[
        bool, typer.Option("--available-now", help="End when what is there by now is read.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature columns a,b,c, or one array column. Default: the model's.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    feature_count: Annotated[
        int | None,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Length of the array, of a new model.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Labels a,b,c in class order. Default: the model's.", rich_help_panel=_ROWS
        ),
    ] = None,
    id: Annotated[
        str, typer.Option(help="Column of the event id, in both.", rich_help_panel=_ROWS)
    ] = "event_id",
    time: Annotated[
        str, typer.Option(help="Column of an event's time.", rich_help_panel=_ROWS)
    ] = "event_time",
    feedback_time: Annotated[
        str, typer.Option(help="Column of a label's time.", rich_help_panel=_ROWS)
    ] = "feedback_time",
    label: Annotated[
        str, typer.Option(help="Column of the label.", rich_help_panel=_ROWS)
    ] = "label",
    events_schema: Annotated[
        str | None,
        typer.Option(
            metavar="DDL",
            help="Columns and types of --events that do not tell them: Arrow in Kafka, or a "
            "directory with no file yet.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    feedback_schema: Annotated[
        str | None,
        typer.Option(metavar="DDL", help="The same of --feedback.", rich_help_panel=_ROWS),
    ] = None,
    max_rows_per_batch: Annotated[
        int,
        typer.Option(
            parser=integer,
            metavar="INTEGER",
            help="Of each source, in one micro-batch.",
            rich_help_panel=_ROWS,
        ),
    ] = 10_000,
    fail_on_data_loss: Annotated[
        bool,
        typer.Option(
            "--fail-on-data-loss/--no-fail-on-data-loss",
            help="End the run when rows were gone before they were read.",
            rich_help_panel=_ROWS,
        ),
    ] = True,
    label_timeout: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="SECONDS",
            help="How long after its event a label may be given.",
            rich_help_panel=_MATCHING,
        ),
    ] = 3600.0,
    lateness: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="SECONDS",
            help="How far the rows of a source may be out of order.",
            rich_help_panel=_MATCHING,
        ),
    ] = 60.0,
    max_lag: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="SECONDS",
            help="How far one source may lag behind the other, in their own time, before it is "
            "no longer waited for.",
            rich_help_panel=_MATCHING,
        ),
    ] = 3600.0,
    state_store: Annotated[
        str,
        typer.Option(
            help="Where features wait for their label: driver (one file of the driver's), or "
            "rocksdb (Spark's state, spread over the executors).",
            rich_help_panel=_MATCHING,
        ),
    ] = DRIVER,
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
    """Score events as they come, and learn from each when its label comes.

    Runs until it is interrupted or told to end (SIGTERM), which it does after the batch
    in hand. Run again, it goes on where it stopped.
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
    settings = StreamSettings(
        workdir=workdir,
        events=parse_source(events, "events"),
        feedback=parse_source(feedback, "feedback"),
        sinks=tuple(parse_sink(text) for text in sink or ()),
        available_now=available_now,
        features=options.names(features),
        feature_count=feature_count,
        classes=options.names(classes),
        id=id,
        time=time,
        feedback_time=feedback_time,
        label=label,
        events_schema=events_schema,
        feedback_schema=feedback_schema,
        max_rows_per_batch=max_rows_per_batch,
        fail_on_data_loss=fail_on_data_loss,
        label_timeout=label_timeout,
        lateness=lateness,
        max_lag=max_lag,
        state_store=state_store,
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
    from app.streaming.running import StopRequest
    from app.streaming.stream import stream

    stop = StopRequest()
    with ConsoleListener(Console(stderr=True), "stream") as listener:

        def end(number: int, frame: object) -> None:
            if stop.was_made:
                raise KeyboardInterrupt
            listener.warned("ending after the batch in hand")
            stop()

        signal.signal(signal.SIGTERM, end)
        summary = stream(settings, listener, stop).to_dict()
    if json_summary:
        print(json.dumps(summary), flush=True)
    else:
        print("\n".join(summary_lines(summary)), flush=True)


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False)
    cli.command()(stream_command)
    run(cli)
