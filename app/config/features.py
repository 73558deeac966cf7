"""What a model is made for: its features, and how those that are no numbers are taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from app.config.options import ROWS, Option, parse_names, parse_path
from app.config.rows import RowSettings
from app.config.validation import require, require_choice, require_int

IMPUTE, REJECT = "impute", "reject"
MISSING_POLICIES = (IMPUTE, REJECT)
MAX_CATEGORIES = 100
FORMATS = ("csv", "json", "arff", "libsvm", "parquet", "delta")


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(RowSettings):
    """What a new model is made for. Parameters are those of :class:`RowSettings`, and these.

    Parameters
    ----------
    features
        Feature columns, or the one column that holds an array of them.
    classes
        Labels in class order.
    categorical
        Features whose values are categories even if they look like numbers. Text that is no
        number always is.
    max_categories
        Most categories of a column that have an input of their own, the commonest first; the
        others share a few. If not given, 100.
    missing : {"impute", "reject"}
        What becomes of a row that lacks some of its features: it counts as average in them
        (impute), or is a dead letter (reject). If not given, impute.
    contract
        File that ``inspect`` has written, and that may have been edited since: what a new model
        is made for, and how its input is read.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.
    """

    features: Annotated[
        tuple[str, ...] | None, Option(ROWS, metavar="A,B,C", parse=parse_names)
    ] = None
    classes: Annotated[tuple[str, ...] | None, Option(ROWS, metavar="A,B,C", parse=parse_names)] = (
        None
    )
    categorical: Annotated[
        tuple[str, ...] | None, Option(ROWS, metavar="A,B,C", parse=parse_names)
    ] = None
    max_categories: Annotated[int | None, Option(ROWS)] = None
    missing: Annotated[str | None, Option(ROWS, choices=MISSING_POLICIES)] = None
    contract: Annotated[Path | None, Option(ROWS, metavar="FILE", parse=parse_path)] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("features", "classes", "categorical"):
            value = getattr(self, name)
            sound = value is None or (len(set(value)) == len(value) and all(value))
            require(sound, name, "different names, none of them empty", value)
        enough = self.classes is None or len(self.classes) >= 2
        require(enough, "classes", "at least two labels", self.classes)
        if self.max_categories is not None:
            require_int(self, "max_categories", 1)
        if self.missing is not None:
            require_choice(self, "missing", MISSING_POLICIES)
        others = {*(self.categorical or ())} - {*(self.features or self.categorical or ())}
        require(not others, "categorical", "columns that --features names", self.categorical)


@dataclass(frozen=True, kw_only=True)
class InputSettings(FeatureSettings):
    """What files hold. Parameters are those of :class:`FeatureSettings`, and these.

    Parameters
    ----------
    input
        A file, or a directory of files read in order of their names, numbers in those as such.
    format : {"csv", "json", "arff", "libsvm", "parquet", "delta"}
        What the files are; json is an object a line, libsvm has columns label, f1, f2 and so on.
    label
        Column of the class label; a row without one is scored and not learned. Only what is not
        learned can do without.
    features
        Feature columns, or the one column that holds an array of them. If not given, all
        columns but label, id and time.
    classes
        Labels in class order. If not given, those of the input.
    id
        Column of the event id. If not given, rows are numbered.
    time
        Column of the event time. If not given, rows have none.
    """

    input: Annotated[Path, Option(parse=parse_path)]
    format: Annotated[str, Option(choices=FORMATS)]
    label: Annotated[str | None, Option(ROWS)] = None
    id: Annotated[str | None, Option(ROWS)] = None
    time: Annotated[str | None, Option(ROWS)] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "format", FORMATS)
