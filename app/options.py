"""Options that every command that learns has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.config import OUTAGE_POLICIES
from app.console import integer, number, url_without_password
from app.model_config import (
    DEFAULT_VARIANT,
    HEDGE_LOSSES,
    INPUT_HEADS,
    VARIANTS,
)

_REGISTRY = "Registry"
_MODEL = "Model (fixed when it is created)"
_FAST = VARIANTS[DEFAULT_VARIANT]


def _model_integer(help: str) -> Any:
    return typer.Option(parser=integer, metavar="INTEGER", help=help, rich_help_panel=_MODEL)


def _model_number(help: str) -> Any:
    return typer.Option(parser=number, metavar="NUMBER", help=help, rich_help_panel=_MODEL)


RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="Default: a private redis-server.",
        envvar="REDIS_URL",
        callback=url_without_password,
        rich_help_panel=_REGISTRY,
    ),
]
ExecutorRedisUrl = Annotated[
    str | None,
    typer.Option(
        help="For scorers, as a user who only reads. Default: the same.",
        envvar="EXECUTOR_REDIS_URL",
        callback=url_without_password,
        rich_help_panel=_REGISTRY,
    ),
]
ModelName = Annotated[
    str, typer.Option(help="Name of the model in the registry.", rich_help_panel=_REGISTRY)
]
Snapshots = Annotated[
    Path | None,
    typer.Option(
        help="Directory of a model of several work directories. Default: in --workdir, or "
        "where the model has it.",
        rich_help_panel=_REGISTRY,
    ),
]
KeepSnapshots = Annotated[
    int,
    typer.Option(
        parser=integer,
        metavar="INTEGER",
        help="Newest versions that keep their snapshot.",
        rich_help_panel=_REGISTRY,
    ),
]
KeepEvery = Annotated[
    int,
    typer.Option(
        parser=integer,
        metavar="INTEGER",
        help="Of the older ones, keep each that this divides; 0: none.",
        rich_help_panel=_REGISTRY,
    ),
]
OnRegistryOutage = Annotated[
    str,
    typer.Option(
        help=f"Of scorers, when Redis cannot be asked: {' or '.join(OUTAGE_POLICIES)}.",
        rich_help_panel=_REGISTRY,
    ),
]
MaxStaleness = Annotated[
    float,
    typer.Option(
        parser=number,
        metavar="SECONDS",
        help="How long a scorer may be without Redis before that.",
        rich_help_panel=_REGISTRY,
    ),
]
RegistryPatience = Annotated[
    float,
    typer.Option(
        parser=number,
        metavar="SECONDS",
        help="How long to wait for Redis to come back.",
        rich_help_panel=_REGISTRY,
    ),
]
AllowRelearn = Annotated[
    bool,
    typer.Option(
        "--allow-relearn",
        help="Learn an input again that the model learned under another checkpoint.",
        rich_help_panel=_REGISTRY,
    ),
]
JsonSummary = Annotated[
    bool, typer.Option("--json", help="End with one line of JSON instead of a table.")
]
Layers = Annotated[int | None, _model_integer("Hidden layers. Default: 20.")]
Units = Annotated[int | None, _model_integer("Units a layer. Default: 100.")]
Variant = Annotated[
    str | None,
    typer.Option(
        help=f"Defaults of what follows: {', '.join(VARIANTS)}. Default: {DEFAULT_VARIANT}.",
        rich_help_panel=_MODEL,
    ),
]
LearningRate = Annotated[float | None, _model_number(f"Default: {_FAST['learning_rate']}.")]
Beta = Annotated[float | None, _model_number(f"Hedge discount. Default: {_FAST['beta']}.")]
Smoothing = Annotated[
    float | None,
    _model_number(f"Floor of alpha, s. Default: {_FAST['smoothing']}."),
]
HedgeLoss = Annotated[
    str | None,
    typer.Option(
        help=f"One of {', '.join(HEDGE_LOSSES)}. Default: {_FAST['hedge_loss']}.",
        rich_help_panel=_MODEL,
    ),
]
HeadRate = Annotated[
    float | None,
    _model_number(f"The heads' rate, as a multiple of the rate. Default: {_FAST['head_rate']}."),
]
InputHead = Annotated[
    str | None,
    typer.Option(
        help=f"How a head on the input learns: {', '.join(INPUT_HEADS)}. "
        f"Default: {_FAST['input_head']}.",
        rich_help_panel=_MODEL,
    ),
]
GradientClipNorm = Annotated[
    float | None,
    _model_number(f"Of one layer's gradient; 0: none. Default: {_FAST['gradient_clip_norm']:g}."),
]
UpdateBatchSize = Annotated[int | None, _model_integer("Rows an update. Default: 1.")]
Seed = Annotated[int | None, _model_integer("Of the weights. Default: 0.")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def names(text: str | None) -> tuple[str, ...] | None:
    """Return the names in a list a,b,c."""
    return None if text is None else tuple(name.strip() for name in text.split(","))
