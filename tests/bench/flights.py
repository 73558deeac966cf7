"""A year of flights, whose labels come hours late: ``python -m tests.bench.flights``.

The two live sources that ``examples/flights/prepare.py`` writes are read to their end by a stream
of its own. Told is what became of every label; and error and area under the ROC curve of what was
served, beside the commoner class, logistic regression and an adaptive random forest (both of
River), which are given the same rows in the same order: each is asked at the scheduled departure,
and learns at the landing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from river import linear_model, optim, stats
from sklearn.metrics import roc_auc_score

from tests.bench.rivals import rivals

CLASSES = ("on time", "late")
ROLES = ["flight_id", "scheduled_departure"]
CATEGORICAL = ["weekday", "hour", "carrier", "origin", "dest", "manufacturer", "engine"]


def run_stream(data: Path, workdir: Path, rows_per_batch: int) -> dict[str, Any]:
    """Read both sources to their end, and return the summary."""
    common = ["--time-zone", "America/New_York"]
    contract = data / "contract.json"
    inspected = [
        "inspect", "--input", str(data / "events"), "--format", "csv", "--id", ROLES[0],
        "--time", ROLES[1], "--classes", ",".join(CLASSES), "--categorical",
        ",".join(CATEGORICAL), "--output", str(contract), *common,
    ]  # fmt: skip
    streamed = [
        "stream", "--events", f"csv:{data}/events", "--feedback", f"csv:{data}/feedback",
        "--workdir", str(workdir), "--contract", str(contract), "--feedback-time", "landed",
        "--label", "arrival", "--label-timeout", "172800", "--available-now",
        "--max-rows-per-batch", str(rows_per_batch), "--json",
    ]  # fmt: skip
    for arguments in (inspected, streamed):
        command = [sys.executable, "-m", "app", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{arguments[0]} ended with {done.returncode}")
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def read(directory: Path) -> pd.DataFrame:
    files = sorted(directory.glob("*.csv"))
    return pd.concat(
        [pd.read_csv(path, keep_default_na=False, na_values=["NA"]) for path in files],
        ignore_index=True,
    )


def served(workdir: Path, labels: pd.Series) -> tuple[float, float]:
    """Return the error and the AUC of what the stream predicted for the flights that landed."""
    table = ds.dataset(workdir / "predictions", partitioning="hive").to_table(
        columns=["event_id", "prediction", "probabilities"]
    )
    rows = table.to_pandas().set_index("event_id")
    rows = rows.loc[rows.index.intersection(labels.index)]
    truth = labels[rows.index]
    late = np.array([p[CLASSES.index("late")] for p in rows["probabilities"]])
    return measured(truth == "late", rows["prediction"] == "late", late)


def measured(truth: Any, predicted: Any, score: Any) -> tuple[float, float]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    return float((truth != predicted).mean()), float(roc_auc_score(truth, score))


def in_order(events: pd.DataFrame, feedback: pd.DataFrame) -> Iterator[tuple[str, str | None]]:
    """Yield a flight when it is scheduled, and with its label when it has landed."""
    asked = pd.DataFrame({"id": events[ROLES[0]], "at": events[ROLES[1]], "label": None})
    told = pd.DataFrame(
        {"id": feedback[ROLES[0]], "at": feedback["landed"], "label": feedback["arrival"]}
    )
    every = pd.concat([asked, told]).sort_values("at", kind="stable")
    yield from zip(every["id"], every["label"], strict=True)


def rows_of(events: pd.DataFrame) -> dict[str, dict[str, float | str]]:
    """Return the features by flight: a missing number is the mean so far, as in the network."""
    means: dict[str, stats.Mean] = {}
    found = {}
    for row in events.drop(columns=ROLES[1]).to_dict("records"):
        flight, x = row.pop(ROLES[0]), {}
        for name, value in row.items():
            if name in CATEGORICAL:
                x[name] = "missing" if pd.isna(value) else str(value)
                continue
            mean = means.setdefault(name, stats.Mean())
            if not pd.isna(value):
                mean.update(value)
            x[name] = float(mean.get() if pd.isna(value) else value)
        found[flight] = x
    return found


def course(model: Any, rows: dict[str, Any], order: list[tuple[str, str | None]]) -> Any:
    """Return the truth, prediction and score of each flight that landed, in order of landing."""
    asked: dict[str, float] = {}
    truth, score = [], []
    for flight, label in order:
        if label is None:
            asked[flight] = model.predict_proba_one(rows[flight]).get(True, 0.0)
        else:
            truth.append(label == "late")
            score.append(asked[flight])
            model.learn_one(rows[flight], label == "late")
    return truth, np.array(score) > 0.5, score


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flights", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what prepare.py has written")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows-per-batch", type=int, default=5000)
    parser.add_argument("--without-rivals", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    summary = run_stream(options.data, options.workdir, options.rows_per_batch)
    print(f"stream in {time.perf_counter() - started:,.0f} s")
    for name in ("total", "labels", "dead_letters_by_reason", "served_error", "prequential_error"):
        print(f"{name:<24} {summary.get(name)}")
    events, feedback = read(options.data / "events"), read(options.data / "feedback")
    labels = feedback.set_index(ROLES[0])["arrival"]
    print(f"{'':<24} {'error':>7} {'AUC':>7} {'seconds':>8}")
    late = float((labels == "late").mean())
    print(f"{'the commoner class':<24} {min(late, 1 - late):>7.4f} {0.5:>7.4f}")
    error, auc = served(options.workdir, labels[~labels.index.duplicated()])
    print(f"{'this':<24} {error:>7.4f} {auc:>7.4f}", flush=True)
    if options.without_rivals:
        return
    rows, order = rows_of(events), list(in_order(events, feedback))
    for name, model in rivals(linear_model.LogisticRegression(optim.SGD(0.01))).items():
        began = time.perf_counter()
        error, auc = measured(*course(model, rows, order))
        print(
            f"{name:<24} {error:>7.4f} {auc:>7.4f} {time.perf_counter() - began:>8,.0f}", flush=True
        )


if __name__ == "__main__":
    main()
