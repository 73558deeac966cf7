"""What a replay reads: which files, in which order, with which columns."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkTypeError
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from app.config import ReplaySettings
from app.durable import write_durably
from app.errors import UserError
from app.streaming.delta_log import open_table, snapshot_files
from app.streaming.files import (
    SEQUENCE_COLUMN,
    START,
    TEXT_COLUMN,
    FileSequence,
)
from app.streaming.text import csv_cells, json_object

_SAMPLE_ROWS = 1000

_WIDENED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
}


@dataclass(frozen=True)
class InputTable:
    """Files of one layout.

    Attributes
    ----------
    files : tuple of str
        Absolute paths, in order.
    file_format : {"csv", "json", "parquet"}
        Of the files: a Delta table is Parquet files.
    columns : tuple of str
    features : tuple of str
        The feature columns, or the one array column.
    n_features : int
    is_array : bool
    schema : StructType
        What the replay source yields.
    """

    files: tuple[str, ...]
    file_format: str
    columns: tuple[str, ...]
    features: tuple[str, ...]
    n_features: int
    is_array: bool
    schema: T.StructType


def read_layout(settings: ReplaySettings) -> InputTable:
    """Find the input's files and columns, looking at their beginnings only.

    Raises
    ------
    UserError
        When an option names a file or a column that is not there or is of no use.
    """
    file_format = "parquet" if settings.format == "delta" else settings.format
    files = _delta_files(settings.input) if settings.format == "delta" else _files(settings.input)
    if file_format == "parquet":
        arrow = parquet_schema(files)
        columns, schema = tuple(arrow.names), spark_schema(arrow)
    else:
        columns = _csv_columns(files) if file_format == "csv" else json_columns(files)
        schema = T.StructType([T.StructField(TEXT_COLUMN, T.StringType())])
    _check_named_columns(settings, columns)
    rest = (settings.label, settings.id, settings.time)
    features = settings.features or tuple(name for name in columns if name not in rest)
    if not features:
        raise UserError(f"--features: {settings.input} has no column left for the features")
    sample = _sample(files, file_format, columns)
    arrays = [name for name in features if any(isinstance(v, list) for v in sample[name])]
    if arrays and len(features) > 1:
        raise UserError(
            f"--features: column '{arrays[0]}' holds arrays, so it must be the only one "
            f"named, not one of {len(features)}"
        )
    if arrays:
        lengths = Counter(len(v) for v in sample[arrays[0]] if isinstance(v, list))
        n_features = lengths.most_common(1)[0][0]
    else:
        n_features = len(features)
        for name in features:
            _check_numeric(name, sample[name])
    sequence = T.StructField(SEQUENCE_COLUMN, T.LongType())
    if file_format == "parquet":
        _check_reserved(columns)
    return InputTable(
        tuple(files),
        file_format,
        columns,
        features,
        n_features,
        bool(arrays),
        T.StructType([sequence, *schema.fields]),
    )


def remember_files(
    manifest: Path, table: InputTable, delta_table: Path | None = None
) -> tuple[str, ...]:
    """Append files not yet known to the manifest of a work directory and return them all.

    Offsets name files by their place in the manifest, so it only ever grows.

    Raises
    ------
    UserError
        When ``delta_table`` was rewritten since its files were remembered: its
        rows would come again under other names.
    """
    known: list[str] = json.loads(manifest.read_bytes()) if manifest.exists() else []
    if delta_table is not None:
        own = [path for path in known if Path(path).is_relative_to(delta_table.resolve())]
        if not set(own) <= set(table.files):
            raise UserError(
                f"--input: Delta table {delta_table} was rewritten since the last run; "
                "a replay follows tables that are only appended to"
            )
    files = known + [path for path in table.files if path not in known]
    if files != known:
        write_durably(manifest, json.dumps(files, indent=1).encode())
    return tuple(files)


def count_rows(table: InputTable) -> int:
    """Return about how many rows the files have: exact but for blank lines in text.

    A file that was read by an earlier run may be gone since; it counts for nothing.
    """
    files = [path for path in table.files if Path(path).exists()]
    if table.file_format == "parquet":
        return sum(pq.read_metadata(path).num_rows for path in files)
    rows = 0
    for path in files:
        with open(path, "rb") as file:
            rows += sum(1 for _ in file) - (table.file_format == "csv")
    return rows


def _files(path: Path) -> list[str]:
    if not path.exists():
        raise UserError(f"--input: {path} does not exist")
    if path.is_file():
        return [str(path.resolve())]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(p[0] in "._" for p in file.relative_to(path).parts)
    )
    if not found:
        raise UserError(f"--input: directory {path} holds no files")
    return [str(file.resolve()) for file in found]


def _delta_files(path: Path) -> list[str]:
    files = snapshot_files(open_table(path, "--input"), path)
    if not files:
        raise UserError(f"--input: Delta table {path} holds no rows")
    return [str((path / name).resolve()) for name in files]


def _csv_columns(files: list[str]) -> tuple[str, ...]:
    headers = [csv_header(path) for path in files]
    for path, header in zip(files, headers, strict=True):
        if header != headers[0]:
            raise UserError(
                f"--input: {path} has columns {', '.join(header)}, but {files[0]} has "
                f"{', '.join(headers[0])}"
            )
    return headers[0]


def csv_header(path: str) -> tuple[str, ...]:
    line = _first_bytes(path).split(b"\n", 1)[0]
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"--input: {path} is not CSV text in UTF-8")
    names = tuple(name.strip() for name in csv_cells(text))
    if not any(names):
        raise UserError(f"--input: {path} has no header line of column names")
    doubled = [name for name, count in Counter(names).items() if count > 1 or not name]
    if doubled:
        raise UserError(f"--input: {path} has a header with '{doubled[0]}' more than once or empty")
    return names


def json_columns(files: list[str]) -> tuple[str, ...]:
    rows, _ = FileSequence(files[:1], "json", ()).read(START, _SAMPLE_ROWS)
    objects = [json_object(line) for line in rows.to_pydict().get(TEXT_COLUMN, [])]
    columns = tuple(dict.fromkeys(name for row in objects for name in row))
    if not columns:
        raise UserError(f"--input: {files[0]} holds no JSON object on its first lines, one a line")
    return columns


def parquet_schema(files: list[str]) -> pa.Schema:
    schemas = []
    for path in files:
        try:
            schemas.append(pq.read_schema(path).remove_metadata())
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"--input: {path} is not Parquet: {error}") from error
        if not schemas[-1].equals(schemas[0]):
            raise UserError(f"--input: {path} has another schema than {files[0]}")
    return schemas[0]


def spark_schema(arrow: pa.Schema) -> T.StructType:
    """Return the schema that Spark reads; the types it has not are widened to ones it has."""
    fields = [field.with_type(_WIDENED.get(field.type, field.type)) for field in arrow]
    try:
        return from_arrow_schema(pa.schema(fields))
    except PySparkTypeError as error:
        raise UserError(
            f"--input: a column has a type that Spark does not read: {error}"
        ) from error


def _sample(files: list[str], file_format: str, columns: tuple[str, ...]) -> dict[str, list]:
    table, _ = FileSequence(files, file_format, columns).read(START, _SAMPLE_ROWS)
    if not len(table):
        raise UserError(f"--input: {files[0]} holds no rows")
    if file_format == "parquet":
        return table.to_pydict()
    lines = table[TEXT_COLUMN].to_pylist()
    if file_format == "json":
        rows = [json_object(line) for line in lines]
        return {name: [row.get(name) for row in rows] for name in columns}
    cells = [row for row in map(csv_cells, lines) if len(row) == len(columns)]
    return {name: [row[i] for row in cells] for i, name in enumerate(columns)}


def _check_named_columns(settings: ReplaySettings, columns: tuple[str, ...]) -> None:
    named = [("label", settings.label), ("id", settings.id), ("time", settings.time)]
    named += [("features", name) for name in settings.features or ()]
    role_of: dict[str, str] = {}
    for option, name in named:
        if name is None:
            continue
        if name not in columns:
            raise UserError(
                f"--{option}: no column '{name}' in {settings.input}; "
                f"there are: {', '.join(columns)}"
            )
        if option == "features" and role_of.get(name) == "label":
            raise UserError(f"--features: column '{name}' is the label")
        role_of[name] = option


def _check_reserved(columns: tuple[str, ...]) -> None:
    if SEQUENCE_COLUMN in columns:
        raise UserError(f"--input: a column may not be named '{SEQUENCE_COLUMN}' in Parquet")


def _check_numeric(name: str, values: list) -> None:
    """Refuse a column of which no value is a number: bad rows exist, but not only bad ones."""
    present = [v for v in values if v is not None and v != ""]
    if present and not any(_is_number(v) for v in present):
        raise UserError(
            f"--features: column '{name}' holds {present[0]!r}, which is not a number; "
            "name the numeric columns"
        )


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _first_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(1 << 20)
    except OSError as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error
