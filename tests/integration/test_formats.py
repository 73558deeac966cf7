"""The same rows in any format are the same stream."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from app.monitor.listener import Listener
from app.streaming.replay import replay
from tests.integration.streams import (
    FEATURES,
    read_predictions,
    small_csv,
    small_replay,
    small_rows,
    small_settings,
    write_csv,
)

N = 150


@pytest.fixture(scope="module")
def from_csv(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("csv")
    return small_replay(small_csv(root / "rows.csv", N), root / "w").state_sha256


def frame() -> pd.DataFrame:
    X, y = small_rows(N)
    return pd.DataFrame(X, columns=list(FEATURES)).assign(label=y)


def test_compressed_csv_of_another_encoding_delimiter_and_decimal(from_csv: str, tmp_path: Path):
    X, y = small_rows(N)
    lines = ["Größe;x1;x2;x3;label"]
    for x, label in zip(X, y, strict=True):
        numbers = [repr(float(value)).replace(".", ",") for value in x]
        lines.append(";".join([*numbers, str(int(label))]))
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress("\r\n".join(lines).encode("cp1252")))
    summary = small_replay(path, tmp_path / "w", encoding="cp1252", decimal=",")
    assert summary.state_sha256 == from_csv


def test_json_lines(from_csv: str, tmp_path: Path):
    # All digits: numbers are not rounded before they have been standardised.
    lines = [json.dumps(row) for row in frame().astype(float).to_dict("records")]
    (tmp_path / "rows.json").write_text("\n".join(lines))
    summary = small_replay(tmp_path / "rows.json", tmp_path / "w", format="json")
    assert summary.state_sha256 == from_csv


def test_json_lines_with_an_array_of_features(from_csv: str, tmp_path: Path):
    X, y = small_rows(N)
    lines = [
        json.dumps({"v": list(map(float, x)), "label": int(label)})
        for x, label in zip(X, y, strict=True)
    ]
    (tmp_path / "rows.json").write_text("\n".join(lines))
    summary = small_replay(tmp_path / "rows.json", tmp_path / "w", format="json")
    # Another name of the features is another contract, not another state.
    assert summary.state_sha256 == from_csv


def test_parquet_in_several_files_and_row_groups(from_csv: str, tmp_path: Path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    frame()[:70].to_parquet(inputs / "a.parquet", row_group_size=30)
    frame()[70:].to_parquet(inputs / "b.parquet", row_group_size=17)
    summary = small_replay(inputs, tmp_path / "w", format="parquet", rows_per_batch=41)
    assert summary.state_sha256 == from_csv


def test_parquet_with_an_array_column_and_text_labels(tmp_path: Path):
    X, y = small_rows(N)
    table = pd.DataFrame({"v": list(X), "label": ["up" if label else "down" for label in y]})
    table.to_parquet(tmp_path / "rows.parquet")
    summary = small_replay(tmp_path / "rows.parquet", tmp_path / "w", format="parquet")
    assert summary.run.rows_learned == N
    assert set(read_predictions(tmp_path / "w")["prediction"]) <= {"up", "down"}


def test_a_delta_table_and_what_is_appended_to_it(from_csv: str, tmp_path: Path):
    deltalake = pytest.importorskip("deltalake", reason="the package deltalake is not installed")
    table = tmp_path / "table"
    deltalake.write_deltalake(table, frame()[:80])
    first = small_replay(table, tmp_path / "w", format="delta")
    deltalake.write_deltalake(table, frame()[80:], mode="append")
    second = small_replay(table, tmp_path / "w", format="delta")
    assert (first.run.rows_in, second.run.rows_in) == (80, N - 80)
    assert second.state_sha256 == from_csv


def test_rows_with_ids_and_times_are_learned_in_order_of_time(from_csv: str, tmp_path: Path):
    table = frame().assign(id=[f"e{i}" for i in range(N)], at=range(N))
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "rows.parquet")
    summary = small_replay(
        tmp_path / "rows.parquet", tmp_path / "w",
        format="parquet", id="id", time="at", time_unit="s", features=FEATURES, rows_per_batch=N,
    )  # fmt: skip
    assert summary.state_sha256 == from_csv
    predictions = read_predictions(tmp_path / "w")
    assert str(predictions["event_time"].dt.tz) == "UTC"
    seconds = [time.timestamp() for time in predictions["event_time"]]
    assert dict(zip(predictions["event_id"], seconds, strict=True)) == {
        f"e{i}": i for i in range(N)
    }


def test_no_header_another_quote_and_comments(from_csv: str, tmp_path: Path):
    rows = frame().to_csv(header=False, index=False, quoting=csv.QUOTE_ALL, quotechar="'")
    (tmp_path / "rows.txt").write_text("# no header\n" + rows.replace("\n", "\n#'\n", 1))
    summary = small_replay(
        tmp_path / "rows.txt", tmp_path / "w",
        header=False, quote="'", comment="#", label="c4",
    )  # fmt: skip
    assert summary.state_sha256 == from_csv


def test_arff(from_csv: str, tmp_path: Path):
    attributes = [f"@attribute {name} numeric\n" for name in FEATURES]
    head = ["% rows\n@relation rows\n", *attributes, "@attribute 'the label' {0,1}\n@data\n"]
    _, _, rows = small_csv(tmp_path / "rows.csv", N).read_text().partition("\n")
    (tmp_path / "rows.arff").write_text("".join(head) + rows)
    summary = small_replay(
        tmp_path / "rows.arff", tmp_path / "w", format="arff", label="the label", rows_per_batch=41
    )
    assert summary.state_sha256 == from_csv


def test_libsvm_and_a_second_file_that_ends_before_the_last_feature(from_csv: str, tmp_path: Path):
    X, y = small_rows(N)
    X[-1, -1] = 0
    lines = [
        " ".join([str(label), *(f"{i}:{x!r}" for i, x in enumerate(map(float, row), 1) if x)])
        for row, label in zip(X, y, strict=True)
    ]
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "1").write_text("\n".join(lines[:-1]))
    first = small_replay(inputs, tmp_path / "w", format="libsvm")
    (inputs / "2").write_text(lines[-1])
    second = small_replay(inputs, tmp_path / "w", format="libsvm")
    assert (first.run.rows_learned, second.run.rows_learned) == (N - 1, 1)
    write_csv(
        tmp_path / "rows.csv",
        [[*map(float, x), int(c)] for x, c in zip(X, y, strict=True)],
        (*FEATURES, "label"),
    )
    assert second.state_sha256 == small_replay(tmp_path / "rows.csv", tmp_path / "w2").state_sha256


@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_directories_are_columns(from_csv: str, tmp_path: Path, file_format: str):
    """Times in the names of directories decide the order in which rows of one batch are learned."""
    for first, day in ((0, "2024-01-01"), (100, "2024-01-03"), (50, "2024-01-02")):
        place = tmp_path / "in" / f"run={first}" / f"day={day}"
        place.mkdir(parents=True)
        part = frame()[first : first + 50].astype(dict.fromkeys(FEATURES, float))
        if file_format == "parquet":
            part.to_parquet(place / "part-0")
        elif file_format == "json":
            lines = map(json.dumps, part.to_dict("records"))
            (place / "part-0").write_text("\n".join(lines))
        else:
            part.to_csv(place / "part-0", index=False)
    heard = Heard()
    settings = small_settings(
        tmp_path / "in", tmp_path / "w", format=file_format, time="day", rows_per_batch=N
    )
    summary = replay(settings, heard)
    assert summary.state_sha256 == from_csv
    assert (heard.rows, heard.notes) == (
        N,
        ["directories name the columns run; none is a feature unless --features names it"],
    )


def test_the_number_of_rows_that_are_left_is_told(tmp_path: Path):
    path = small_csv(tmp_path / "rows.csv", N)
    with open(path, "a") as file:
        file.write('1,2,3,"4\n5",0\n\n')
    heard = Heard()
    replay(small_settings(path, tmp_path / "w"), heard)
    assert heard.rows == N + 1
    small_csv(path, N)
    with open(path, "a") as file:
        file.write('1,2,3,"4\n5",0\n\n1,2,3,4,1\n')
    replay(small_settings(path, tmp_path / "w"), heard)
    assert heard.rows == 1


class Heard(Listener):
    """Keeps what a run says of its input."""

    def __init__(self) -> None:
        self.rows: int | None = None
        self.notes: list[str] = []

    def started(self, rows: int | None) -> None:
        self.rows = rows

    def warned(self, message: str) -> None:
        self.notes.append(message)
