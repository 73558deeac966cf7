"""What a run is asked to do: settings, each validated once, with its default and its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.model_config import ModelConfig, is_int, is_real, require
from app.source_spec import SinkSpec, SourceSpec

OUTAGE_POLICIES = ("stale", "fail")
DRIVER, ROCKSDB = "driver", "rocksdb"
STATE_STORES = (DRIVER, ROCKSDB)
FORMATS = ("csv", "json", "parquet", "delta")

_OPTION_NAMES = {"n_hidden_layers": "layers", "n_hidden_units": "units"}


def option_name(setting: str) -> str:
    """Return the command line's name for a setting.

    Examples
    --------
    >>> option_name("n_hidden_layers"), option_name("learning_rate")
    ('--layers', '--learning-rate')
    """
    return "--" + _OPTION_NAMES.get(setting, setting).replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What every run that learns is asked to do.

    Parameters
    ----------
    workdir : Path
        Holds everything the run keeps.
    features : tuple of str, optional
        Feature columns, or the one column that holds an array of them.
    classes : tuple of str, optional
        The labels, in class order.
    redis_url : str, optional
        A redis-server of this machine's own when None.
    model : str
        Name of the model in the registry.
    executor_redis_url : str, optional
        The URL that scorers use, when theirs is a user of fewer rights.
    snapshots : Path, optional
        Directory of a model that several work directories share. Inside the work
        directory, or where the model has it already, when None.
    keep_snapshots : int
        How many of the newest versions keep their snapshot.
    keep_every : int
        Beyond those, each version that this divides keeps it; 0 for none.
    on_registry_outage : {"stale", "fail"}
        What scorers do when Redis cannot be asked: flag their rows and go on with the
        version they have, or end the run.
    max_staleness : float
        Seconds that a scorer may go on without Redis before that.
    registry_patience : float
        Seconds that the driver waits for Redis to come back.
    allow_relearn : bool
        Learn an input that the model has learned under another checkpoint.
    model_options : dict
        Fields of :class:`ModelConfig` that the user gave.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.
    """

    workdir: Path
    features: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    # A URL may hold a password.
    redis_url: str | None = field(default=None, repr=False)
    model: str = "default"
    executor_redis_url: str | None = field(default=None, repr=False)
    snapshots: Path | None = None
    keep_snapshots: int = 50
    keep_every: int = 100
    on_registry_outage: str = "stale"
    max_staleness: float = 0.0
    registry_patience: float = 60.0
    allow_relearn: bool = False
    model_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        usable = bool(self.model) and all(c.isalnum() or c in "-_." for c in self.model)
        require(usable, "model", "a name of letters, digits, '-', '_' and '.'", self.model)
        for name, least in (("keep_snapshots", 1), ("keep_every", 0)):
            _require_int(self, name, least)
        policy = self.on_registry_outage
        choices = "one of " + ", ".join(OUTAGE_POLICIES)
        require(policy in OUTAGE_POLICIES, "on_registry_outage", choices, policy)
        for name in ("max_staleness", "registry_patience"):
            _require_seconds(self, name)
        for name in ("features", "classes"):
            value = getattr(self, name)
            sound = value is None or (len(set(value)) == len(value) and all(value))
            require(sound, name, "different names, none of them empty", value)
        enough = self.classes is None or len(self.classes) >= 2
        require(enough, "classes", "at least two labels", self.classes)
        # Outside ranges are told before a session is started.
        ModelConfig(n_features=1, n_classes=2, **self.model_options)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings(RunSettings):
    """What a replay is asked to do, beside what every run is.

    Features are every column but label, id and time when None; classes are taken
    from the input when None.

    Parameters
    ----------
    input : Path
        A file, or a directory of files read in order of their names.
    format : {"csv", "json", "parquet", "delta"}
    label : str
        Column of the class label; a row without one is scored and not learned.
    id, time : str, optional
        Columns of the event id and the event time. Row numbers and none when None.
    rows_per_batch : int
        Rows of one micro-batch; a version is published after each.
    """

    input: Path
    format: str
    label: str
    id: str | None = None
    time: str | None = None
    rows_per_batch: int = 5000

    def __post_init__(self) -> None:
        require(self.format in FORMATS, "format", "one of " + ", ".join(FORMATS), self.format)
        _require_int(self, "rows_per_batch", 1)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class StreamSettings(RunSettings):
    """What a live stream is asked to do, beside what every run is.

    Features and classes are those of the model when None; a new model needs them.

    Parameters
    ----------
    events, feedback : SourceSpec
        Where rows to score, and where labels come from.
    events_schema, feedback_schema : str, optional
        Typed columns, as SQL DDL, of a source whose rows do not tell them.
    feature_count : int, optional
        Length of the array, when the features are one column and the model is new.
    id : str
        Column of the event id, in both.
    time : str
        Column of the event time.
    feedback_time, label : str
        Columns of the time a label was given, and of the label.
    label_timeout : float
        Seconds after its event that a label may have been given.
    lateness : float
        Seconds that rows of one source may be out of order.
    max_lag : float
        Seconds, in the rows' own time, that one source may lag behind the other before the
        other no longer waits for it.
    max_rows_per_batch : int
        Of each source, in one micro-batch.
    fail_on_data_loss : bool
        End the run when rows of a source were gone before they were read.
    state_store : {"driver", "rocksdb"}
        Where the features of events wait for their label: in a file of the driver's, or in
        Spark's state, spread over the executors.
    sinks : tuple of SinkSpec
        Where predictions go beside the work directory.
    available_now : bool
        Stop when what is there by now has been read.
    """

    events: SourceSpec
    feedback: SourceSpec
    events_schema: str | None = None
    feedback_schema: str | None = None
    feature_count: int | None = None
    id: str = "event_id"
    time: str = "event_time"
    feedback_time: str = "feedback_time"
    label: str = "label"
    label_timeout: float = 3600.0
    lateness: float = 60.0
    max_lag: float = 3600.0
    max_rows_per_batch: int = 10_000
    fail_on_data_loss: bool = True
    state_store: str = DRIVER
    sinks: tuple[SinkSpec, ...] = ()
    available_now: bool = False

    def __post_init__(self) -> None:
        for name in ("label_timeout", "lateness", "max_lag"):
            _require_seconds(self, name)
        _require_int(self, "max_rows_per_batch", 1)
        choices = "one of " + ", ".join(STATE_STORES)
        require(self.state_store in STATE_STORES, "state_store", choices, self.state_store)
        if self.feature_count is not None:
            _require_int(self, "feature_count", 1)
        named = (self.id, self.time, *(self.features or ()))
        require(len(set(named)) == len(named), "features", "other columns than id and time", named)
        require(
            self.events != self.feedback, "feedback", "another source than --events", self.feedback
        )
        super().__post_init__()


def _require_int(settings: object, name: str, least: int) -> None:
    value = getattr(settings, name)
    require(is_int(value) and value >= least, name, f"an integer of at least {least}", value)


def _require_seconds(settings: object, name: str) -> None:
    value = getattr(settings, name)
    require(is_real(value) and value >= 0, name, "at least 0", value)
