"""Files as people have them, replayed as they are: ``python -m tests.bench.real``.

Four real sets come from the river package, each in the file that it has there. Two are made here
in the shape of well-known ones, with their delimiters, categories and marks for missing values;
their labels follow a rule, and a tenth of them is noise. Told is the prequential error of
``replay`` with no option but those that name the file, beside the commoner class, the label that
came last, and River's logistic regression and adaptive random forest on the same rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import river
from river import linear_model, multiclass

from tests.bench.rivals import rivals

RIVER = Path(river.__file__).parent / "datasets"
Rows = Iterator[tuple[dict[str, Any], str]]

_JOBS = ("admin.", "blue-collar", "technician", "services", "retired", "student", "unknown")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WORK = ("Private", "Self-emp-not-inc", "Local-gov", "State-gov", "Federal-gov")
_STUDIES = ("HS-grad", "Some-college", "Bachelors", "Masters", "Doctorate", "11th")
_COUNTRIES = ("United-States", "Mexico", "Philippines", "Germany", "Canada", "India")


@dataclass(frozen=True)
class RealSet:
    """A file, the options that say what it is, and its rows as River takes them."""

    path: Path
    options: tuple[str, ...]
    rows: Callable[[], Rows]


def bank(path: Path, n: int) -> RealSet:
    """Write calls of a bank: semicolons, quoted text, ``unknown`` as a category of its own."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "job": rng.choice(_JOBS, n),
            "marital": rng.choice(["married", "single", "divorced"], n),
            "default": rng.choice(["no", "yes", "unknown"], n, p=[0.8, 0.02, 0.18]),
            "balance": rng.normal(1500, 3000, n).astype(int),
            "month": rng.choice(_MONTHS, n),
            "duration": rng.exponential(250, n).astype(int),
            "campaign": rng.integers(1, 20, n),
            "pdays": np.where(rng.random(n) < 0.8, -1, rng.integers(1, 400, n)),
        }
    )
    score = table["duration"] / 250 + table["job"].isin(["student", "retired"]) * 1.5
    score += table["month"].isin(["mar", "sep", "oct", "dec"]) * 1.0 - table["campaign"] / 10
    table["y"] = np.where((score > 1.8) ^ (rng.random(n) < 0.1), "yes", "no")
    table.to_csv(path, sep=";", index=False, quoting=2)
    rows = _rows_of(table, "y")
    return RealSet(path, ("--format", "csv", "--label", "y"), rows)


def census(path: Path, n: int) -> RealSet:
    """Write people of a census: no header, a space after each comma, ``?`` for what is missing."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "c0": rng.integers(17, 90, n),
            "c1": rng.choice(_WORK, n),
            "c2": rng.integers(12_000, 1_500_000, n),
            "c3": rng.choice(_STUDIES, n),
            "c4": rng.choice(["Male", "Female"], n),
            "c5": np.where(rng.random(n) < 0.9, 0, rng.integers(100, 99_999, n)),
            "c6": rng.integers(1, 99, n),
            "c7": rng.choice(_COUNTRIES, n),
        }
    )
    score = table["c3"].isin(["Bachelors", "Masters", "Doctorate"]) * 1.5 + (table["c5"] > 5000) * 2
    score += (table["c0"] - 40) / 30 + (table["c6"] - 40) / 40
    label = np.where((score > 1.2) ^ (rng.random(n) < 0.1), ">50K", "<=50K")
    for name in ("c1", "c7", "c6"):
        table[name] = table[name].astype(object).mask(rng.random(n) < 0.06, None)
    table["c8"] = label
    shown = table.astype(object).where(table.notna(), "?")
    path.write_text("".join(", ".join(map(str, row)) + "\n" for row in shown.to_numpy()))
    rows = _rows_of(table, "c8")
    return RealSet(path, ("--format", "csv", "--no-header", "--label", "c8"), rows)


def of_river(directory: Path) -> dict[str, RealSet]:
    """Return the sets of the river package; those in archives are unpacked."""
    for archive, name in (("banana.zip", "bananas.libsvm"), ("segment.csv.zip", "segment.csv")):
        with zipfile.ZipFile(RIVER / archive) as file:
            (directory / name).write_bytes(file.read(file.namelist()[0]))
    csv, label = ("--format", "csv"), "--label"
    bananas = pd.DataFrame(
        [
            {"label": y, **{f"f{i}": float(x.split(":")[1]) for i, x in enumerate(row, 1)}}
            for y, *row in map(str.split, (directory / "bananas.libsvm").read_text().splitlines())
        ]
    )
    tables = {
        name: pd.read_csv(path)
        for name, path in {
            "phishing": RIVER / "phishing.csv.gz",
            "segments": directory / "segment.csv",
            "shuttle": RIVER / "shuttle.csv.gz",
        }.items()
    }
    return {
        "phishing": RealSet(
            RIVER / "phishing.csv.gz", (*csv, label, "is_phishing"),
            _rows_of(tables["phishing"], "is_phishing"),
        ),
        "bananas": RealSet(
            directory / "bananas.libsvm", ("--format", "libsvm", label, "label"),
            _rows_of(bananas, "label"),
        ),
        "image segments": RealSet(
            directory / "segment.csv", (*csv, label, "category"),
            _rows_of(tables["segments"], "category"),
        ),
        "shuttle": RealSet(
            RIVER / "shuttle.csv.gz", (*csv, label, "anomaly"),
            _rows_of(tables["shuttle"], "anomaly"),
        ),
    }  # fmt: skip


def replayed(data: RealSet, workdir: Path) -> tuple[float, dict[str, Any]]:
    """Return the prequential error of a replay, and its summary; what it tells is shown."""
    command = [
        sys.executable, "-m", "app", "replay", "--input", str(data.path), *data.options,
        "--workdir", str(workdir), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{data.path.name}: replay ended with {done.returncode}")
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary["prequential_error"], summary


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real", description=__doc__)
    parser.add_argument("--made-rows", type=int, default=20_000)
    parser.add_argument("--without-rivals", action="store_true")
    options = parser.parse_args()
    names = ("rows", "dead", "this", "commoner", "no change", "logistic", "forest")
    lines = [f"{'error, %':<16}" + "".join(f"{name:>10}" for name in names)]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        sets = of_river(root) | {
            "like a bank's": bank(root / "bank.csv", options.made_rows),
            "like a census": census(root / "census.csv", options.made_rows),
        }
        for place, (name, data) in enumerate(sets.items()):
            print(f"\n{name}: {' '.join(data.options)}", file=sys.stderr, flush=True)
            error, summary = replayed(data, root / f"w{place}")
            labels = pd.Series([label for _, label in data.rows()])
            others = [1 - labels.value_counts(normalize=True).max()]
            others.append(float((labels != labels.shift()).iloc[1:].mean()))
            if not options.without_rivals:
                linear = multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
                others += [_error_of(model, data.rows()) for model in rivals(linear).values()]
            counts = f"{len(labels):>10,}{summary['dead_letters']:>10,}"
            errors = "".join(f"{100 * each:>10.2f}" for each in (error, *others))
            lines.append(f"{name:<16}{counts}{errors}")
    print("\n".join(lines))


def _error_of(model: Any, rows: Rows) -> float:
    wrong = total = 0
    for x, y in rows:
        wrong += model.predict_one(x) != y
        total += 1
        model.learn_one(x, y)
    return wrong / total


def _rows_of(table: pd.DataFrame, label: str) -> Callable[[], Rows]:
    """Return rows as dictionaries: what is missing is the mean, or a category of its own."""
    features = table.drop(columns=label)
    for name in features:
        column = pd.to_numeric(features[name], errors="coerce")
        if column.notna().sum() == features[name].notna().sum():
            features[name] = column.fillna(column.mean()).astype(float)
        else:
            features[name] = features[name].fillna("missing")
    labels = table[label].astype(str).tolist()
    return lambda: zip(features.to_dict("records"), labels, strict=True)


if __name__ == "__main__":
    main()
