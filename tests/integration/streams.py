"""Small streams, small models, and readers of what a replay wrote."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.config.run import ReplaySettings
from app.monitor.metrics import RunSummary
from app.streaming.replay import replay

N_FEATURES = 4
FEATURES = tuple(f"x{i}" for i in range(N_FEATURES))
SMALL = {"n_hidden_layers": 3, "n_hidden_units": 8}


def small_rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 rows, shape (n, 4), and labels 0 and 1 that a line separates."""
    X = np.random.default_rng(seed).normal(size=(n, N_FEATURES)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] > X[:, 2]).astype(int)


def write_csv(path: Path, rows: list[list[Any]], header: tuple[str, ...]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def small_csv(path: Path, n: int, seed: int = 0) -> Path:
    X, y = small_rows(n, seed)
    rows = [[*map(repr, map(float, x)), int(label)] for x, label in zip(X, y, strict=True)]
    return write_csv(path, rows, (*FEATURES, "label"))


def small_settings(path: Path, workdir: Path, **changes: Any) -> ReplaySettings:
    options = {
        "input": path,
        "format": "csv",
        "label": "label",
        "workdir": workdir,
        "rows_per_batch": 100,
        "model_options": SMALL,
    }
    return ReplaySettings(**(options | changes))


def small_replay(path: Path, workdir: Path, **changes: Any) -> RunSummary:
    return replay(small_settings(path, workdir, **changes))


def read_table(directory: Path) -> pd.DataFrame:
    """Return what is written below ``directory``, in order of batch and event id."""
    table = pd.read_parquet(directory)
    return table.sort_values(["batch_id", "event_id"], ignore_index=True)


def read_predictions(workdir: Path) -> pd.DataFrame:
    return read_table(workdir / "predictions")


def read_dead_letters(workdir: Path) -> pd.DataFrame:
    return read_table(workdir / "dead_letters")


def comparable(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return predictions without the query id, which every checkpoint has its own of."""
    table = predictions[["event_id", "prediction", "model_version", "batch_id"]].copy()
    table["probabilities"] = [tuple(p) for p in predictions["probabilities"]]
    return table
