"""The same rows in any format are the same stream."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.streams import (
    FEATURES,
    read_predictions,
    small_csv,
    small_replay,
    small_rows,
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
