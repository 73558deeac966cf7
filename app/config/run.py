"""What a run is asked to do: settings, each declared and validated once, and options by that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from app.config.connectors import SinkSpec, SourceSpec, parse_sink, parse_source
from app.config.features import FeatureSettings, InputSettings
from app.config.model import ModelOptions
from app.config.options import (
    MATCHING,
    REGISTRY,
    ROWS,
    Option,
    options_of,
    parse_path,
)
from app.config.validation import (
    require,
    require_above_0,
    require_at_least_0,
    require_choice,
    require_int,
)
from app.errors import InvalidParameterError

OUTAGE_POLICIES = ("stale", "fail")
TAKEOVER, WAIT, EXIT = "takeover", "wait", "exit"
IF_RUNNING = (TAKEOVER, WAIT, EXIT)
LEARN = YES, NO = "yes", "no"
DRIVER, ROCKSDB = "driver", "rocksdb"
STATE_STORES = (DRIVER, ROCKSDB)

_EVENTS = SourceSpec("redis", "json", "events")
_FEEDBACK = SourceSpec("redis", "json", "feedback")
_LEAST_LAG = 3600.0
_MODEL_OPTIONS = tuple(each.name for each in dataclasses.fields(ModelOptions))

SettingsT = TypeVar("SettingsT", bound=FeatureSettings)


@dataclass(frozen=True, kw_only=True)
class RunSettings(FeatureSettings):
    """What every run that learns is asked to do.

    Parameters are those of :class:`~app.config.features.FeatureSettings`, and these.

    Parameters
    ----------
    workdir
        Directory for everything the run keeps.
    redis_url
        Redis of the registry. If not given, a private redis-server.
    executor_redis_url
        The same for scorers, as a user who only reads. If not given, the URL of the registry.
    model
        Name of the model in the registry.
    snapshots
        Directory of a model that several work directories share. If not given, in the work
        directory, or where the model has it already.
    keep_snapshots
        How many of the newest versions keep their snapshot.
    keep_every
        Older versions that this divides keep their snapshot; 0 for none.
    keep_predictions
        Days after which the predictions of a batch are removed. If not given, kept for good.
    keep_dead_letters
        The same for dead letters.
    on_registry_outage : {"stale", "fail"}
        What scorers do when Redis cannot be asked: flag their rows and go on with the
        version they have, or end the run.
    max_staleness
        Seconds that a scorer may be without Redis before that.
    registry_patience
        Seconds to wait for Redis to come back.
    learn : {"yes", "no"}
        Whether rows are learned, or only scored by the model that is there. Labels that a stream
        brings meanwhile become dead letters not_learned, which can be fed back later.
    allow_relearn
        Learn an input again that the model has learned under another checkpoint.
    if_running : {"takeover", "wait", "exit"}
        When another run is at work in the work directory: have it end after the batch in hand
        and go on in its place, wait for its end, or leave it alone and end with exit code 3.
    model_options
        Fields of :class:`ModelOptions` that the user gave. A model that exists must have been
        created with the same.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.
    """

    workdir: Annotated[Path, Option(parse=parse_path)]
    # A URL may hold a password.
    redis_url: Annotated[str | None, Option(REGISTRY, metavar="URL", envvar="REDIS_URL")] = field(
        default=None, repr=False
    )
    executor_redis_url: Annotated[
        str | None, Option(REGISTRY, metavar="URL", envvar="EXECUTOR_REDIS_URL")
    ] = field(default=None, repr=False)
    model: Annotated[str, Option(REGISTRY)] = "default"
    snapshots: Annotated[Path | None, Option(REGISTRY, parse=parse_path)] = None
    keep_snapshots: Annotated[int, Option(REGISTRY)] = 50
    keep_every: Annotated[int, Option(REGISTRY)] = 100
    keep_predictions: Annotated[float | None, Option(metavar="DAYS")] = None
    keep_dead_letters: Annotated[float | None, Option(metavar="DAYS")] = None
    on_registry_outage: Annotated[str, Option(REGISTRY, choices=OUTAGE_POLICIES)] = "stale"
    max_staleness: Annotated[float, Option(REGISTRY, metavar="SECONDS")] = 0.0
    registry_patience: Annotated[float, Option(REGISTRY, metavar="SECONDS")] = 60.0
    learn: Annotated[str, Option(choices=LEARN)] = YES
    allow_relearn: Annotated[bool, Option(REGISTRY)] = False
    if_running: Annotated[str, Option(choices=IF_RUNNING)] = EXIT
    model_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        usable = bool(self.model) and all(c.isalnum() or c in "-_." for c in self.model)
        require(usable, "model", "a name of letters, digits, '-', '_' and '.'", self.model)
        for name, least in (("keep_snapshots", 1), ("keep_every", 0)):
            require_int(self, name, least)
        require_choice(self, "on_registry_outage", OUTAGE_POLICIES)
        require_choice(self, "if_running", IF_RUNNING)
        require_choice(self, "learn", LEARN)
        for name in ("max_staleness", "registry_patience"):
            require_at_least_0(self, name)
        super().__post_init__()
        for name in ("keep_predictions", "keep_dead_letters"):
            if getattr(self, name) is not None:
                require_above_0(name, getattr(self, name))
        for name in self.model_options:
            known = name in _MODEL_OPTIONS
            require(known, "model_options", "fields of ModelOptions", name)
        # Reported before a session is started.
        ModelOptions(**self.model_options)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings(InputSettings, RunSettings):
    """What a replay is asked to do.

    Parameters are those of :class:`RunSettings` and :class:`~app.config.features.InputSettings`,
    and this.

    Parameters
    ----------
    rows_per_batch
        Rows of one micro-batch; a version is published after each.
    """

    rows_per_batch: Annotated[int, Option(ROWS)] = 5000

    def __post_init__(self) -> None:
        require_int(self, "rows_per_batch", 1)
        super().__post_init__()
        can_learn = self.learn == NO or self.label or self.contract
        require(bool(can_learn), "label", "the column of the class label", self.label)


@dataclass(frozen=True, kw_only=True)
class StreamSettings(RunSettings):
    """What a live stream is asked to do. Parameters are those of :class:`RunSettings`, and these.

    Parameters
    ----------
    events
        Rows to score: json:DIR, csv:DIR, arff:DIR, parquet:DIR, delta:TABLE, redis:STREAM or
        kafka://HOST:PORT/TOPIC.
    feedback
        Labels that come later, from a source of the same kinds.
    sinks
        Where predictions go beside the work directory: delta:TABLE, kafka://HOST:PORT/TOPIC
        or console. There may be several.
    available_now
        End when what is there by now has been read.
    features
        Feature columns, or the one column that holds an array of them. If not given, the
        model's; a new model needs them.
    classes
        Labels in class order. If not given, the model's; a new model needs them.
    feature_count
        Length of the array, where features are one column and the model is new.
    id
        Column of the event id, in events and feedback.
    time
        Column of an event's time.
    feedback_time
        Column of the time a label was given.
    label
        Column of the label.
    events_schema
        Columns of events, where the rows do not say them: Arrow in Kafka, or a directory without
        a file so far. Types are named too, but each message and file has its own.
    feedback_schema
        The same for feedback.
    max_rows_per_batch
        Most rows that one micro-batch takes from each source.
    fail_on_data_loss
        End the run when rows were gone before they were read.
    label_timeout
        Seconds after its event in which a label may be given.
    lateness
        Seconds by which the rows of one source may be out of order.
    max_lag
        Seconds, in the rows' own time, that one source may lag behind the other before it is
        no longer waited for. If not given, as long as label_timeout, and at least an hour.
    state_store : {"driver", "rocksdb"}
        Where the features of events wait for their label: in one file on the driver, or in
        Spark's state, spread over the executors.
    """

    events: Annotated[SourceSpec, Option(metavar="SOURCE", parse=parse_source)] = _EVENTS
    feedback: Annotated[SourceSpec, Option(metavar="SOURCE", parse=parse_source)] = _FEEDBACK
    sinks: Annotated[
        tuple[SinkSpec, ...], Option(metavar="SINK", parse=parse_sink, multiple=True)
    ] = ()
    available_now: Annotated[bool, Option()] = False
    if_running: Annotated[str, Option(choices=IF_RUNNING)] = TAKEOVER
    feature_count: Annotated[int | None, Option(ROWS)] = None
    id: Annotated[str, Option(ROWS)] = "event_id"
    time: Annotated[str, Option(ROWS)] = "event_time"
    feedback_time: Annotated[str, Option(ROWS)] = "feedback_time"
    label: Annotated[str, Option(ROWS)] = "label"
    events_schema: Annotated[str | None, Option(ROWS, metavar="DDL")] = None
    feedback_schema: Annotated[str | None, Option(ROWS, metavar="DDL")] = None
    max_rows_per_batch: Annotated[int, Option(ROWS)] = 10_000
    fail_on_data_loss: Annotated[bool, Option(ROWS)] = True
    label_timeout: Annotated[float, Option(MATCHING, metavar="SECONDS")] = 3600.0
    lateness: Annotated[float, Option(MATCHING, metavar="SECONDS")] = 60.0
    max_lag: Annotated[float | None, Option(MATCHING, metavar="SECONDS")] = None
    state_store: Annotated[str, Option(MATCHING, choices=STATE_STORES)] = DRIVER

    def __post_init__(self) -> None:
        for name in ("label_timeout", "lateness"):
            require_at_least_0(self, name)
        if self.max_lag is not None:
            require_at_least_0(self, "max_lag")
        require_int(self, "max_rows_per_batch", 1)
        require_choice(self, "state_store", STATE_STORES)
        if self.feature_count is not None:
            require_int(self, "feature_count", 1)
        named = (self.id, self.time, *(self.features or ()))
        require(len(set(named)) == len(named), "features", "other columns than id and time", named)
        require(
            self.events != self.feedback, "feedback", "another source than --events", self.feedback
        )
        super().__post_init__()

    @property
    def lag(self) -> float:
        """Seconds that one source may lag behind the other: ``max_lag``, or its default."""
        return max(_LEAST_LAG, self.label_timeout) if self.max_lag is None else self.max_lag


def settings_from(kind: type[SettingsT], given: Mapping[str, Any]) -> SettingsT:
    """Return settings from options by field, as the command line and notebooks give them.

    Parameters
    ----------
    kind
    given
        Values, or their texts where a field's type is none of Python's own: a path, a source,
        names a,b,c. Fields of :class:`ModelOptions` may stand among the others.

    Raises
    ------
    InvalidParameterError
        When there is no such option, a text cannot be read, or a value is outside its range.

    Examples
    --------
    >>> files = {"input": "rows.csv", "format": "csv", "workdir": "run1"}
    >>> settings = settings_from(ReplaySettings, files | {"label": "y", "beta": 0.9})
    >>> settings.workdir.name, settings.rows_per_batch, settings.model_options
    ('run1', 5000, {'beta': 0.9})
    """
    options = options_of(kind)
    values: dict[str, Any] = {}
    model_options = dict(given.get("model_options", {}))
    for name, value in given.items():
        if name in _MODEL_OPTIONS:
            model_options[name] = value
        elif name in options:
            option, _ = options[name]
            values[name] = option.value(value, name)
        elif name != "model_options":
            raise InvalidParameterError(name, f"is no option of {kind.__name__}")
    if model_options:
        values["model_options"] = model_options
    return kind(**values)
