"""Contracts, and what becomes of rows under them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from app.contract import (
    DIVERGED,
    DUPLICATE_ID,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Contract,
)
from app.streaming.rows.validation import parse_and_validate

KEYED = Contract(
    columns=("id", "t", "x0", "x1", "y"),
    features=("x0", "x1"),
    n_features=2,
    classes=("0", "1", "up"),
    label="y",
    id="id",
    time="t",
)
ARRAYS = Contract(
    columns=("f", "y"), features=("f",), n_features=2, classes=("0", "1"), label="y", is_array=True
)
ONE_FEATURE = Contract(
    columns=("id", "t", "x", "y"),
    features=("x",),
    n_features=1,
    classes=("0", "1"),
    label="y",
    id="id",
    time="t",
)
REASONS = {
    NULL_ID,
    DUPLICATE_ID,
    NULL_TIME,
    NULL_FEATURE,
    NAN_FEATURE,
    INFINITE_FEATURE,
    WRONG_LENGTH,
    UNPARSABLE,
    UNKNOWN_LABEL,
    DIVERGED,
}
"""Why a row of a replay may be a dead letter."""

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
GOOD = {"id": "a", "t": 1, "x0": 1.5, "x1": 2, "y": 0}
NAN, INFINITY = float("nan"), float("inf")


def validated(spark, contract, file_format, rows, schema=None) -> list[dict]:
    """Return what becomes of lines of text, or of tuples in the columns of ``schema``."""
    if schema is None:
        rows, schema = [(line,) for line in rows], "text string"
    numbered = [(number, *row) for number, row in enumerate(rows)]
    df = spark.createDataFrame(numbered, f"sequence long, {schema}")
    columns = parse_and_validate(df, contract, file_format)
    return columns.toArrow().sort_by("sequence").to_pylist()


def named(spark, contract, file_format, cases) -> dict[str, dict]:
    """Return what becomes of each case's row, all in one job."""
    rows = validated(spark, contract, file_format, [case[0] for case in cases.values()])
    return dict(zip(cases, rows, strict=True))


def as_json(**changes) -> str:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v != "absent"})
