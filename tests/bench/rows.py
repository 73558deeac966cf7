"""What reading and checking a row costs, format by format: ``python -m tests.bench.rows``.

Files of 28 columns are read from their beginning to their end and parsed as a replay's are, on one
core. A second table of as many columns has categories and missing values; the two are read by
turns.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from app.contract import NUMBERS, Category, Contract, Encoding
from app.files.sequence import START, FileSequence
from app.parsing.row_parser import RowParser
from tests.bench.figures import tell
from tests.bench.turns import by_turns, keep_to_one_core

N_FEATURES, N_CATEGORICAL, N_CATEGORIES = 28, 8, 100
SECONDS_A_MILLION = {"parquet": 3.0, "csv": 6.0, "json": 10.0}

_ROWS_A_BATCH = 20_000
_MISSING_SHARE = 0.05


def table(n: int, *, is_mixed: bool) -> pa.Table:
    """Return rows of an id and 28 columns, the first of which are categories if so asked."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {"id": pa.array([f"e{i}" for i in range(n)])}
    for j in range(N_FEATURES):
        missing = rng.random(n) < _MISSING_SHARE if is_mixed else None
        if is_mixed and j < N_CATEGORICAL:
            codes = rng.integers(0, N_CATEGORIES, n).astype(np.int32)
            names = pa.array([f"kind {i}" for i in range(N_CATEGORIES)])
            values = pa.DictionaryArray.from_arrays(codes, names, mask=missing).dictionary_decode()
        else:
            values = pa.array(rng.normal(size=n).astype(np.float32), mask=missing)
        columns[f"x{j}"] = values
    columns["label"] = pa.array(rng.integers(0, 2, n))
    return pa.table(columns)


def contract(*, is_mixed: bool) -> Contract:
    """Return what a model for :func:`table` would be made for."""
    names = [f"x{j}" for j in range(N_FEATURES)]
    encoding = NUMBERS
    if is_mixed:
        vocabulary = tuple(sorted(f"kind {i}" for i in range(N_CATEGORIES)))
        categories = {name: Category(vocabulary, 8) for name in names[:N_CATEGORICAL]}
        encoding = Encoding(categories, tuple(names[N_CATEGORICAL:]), imputes=True)
    columns = ("id", *names, "label")
    return Contract(
        columns, tuple(names), N_FEATURES, ("0", "1"), label="label", id="id", encoding=encoding
    )


def write(rows: pa.Table, row_format: str, path: Path) -> None:
    if row_format == "parquet":
        pq.write_table(rows, path)
    elif row_format == "csv":
        pyarrow.csv.write_csv(rows, path)
    else:
        rows.to_pandas().to_json(path, orient="records", lines=True)


def read(path: Path, row_format: str, parser: RowParser) -> None:
    """Read and parse a file."""
    sequence = FileSequence([str(path)], row_format, parser.needed)
    position, n_good = dict(START), 0
    while True:
        batches, end = sequence.read(position, _ROWS_A_BATCH)
        if end["row"] == position["row"]:
            break
        position = end
        n_good += sum(parser.parse(batch)["reason"].null_count for batch in batches)
    sequence.close()
    if n_good != end["row"]:
        raise SystemExit(f"{path.name}: {end['row'] - n_good} of {end['row']} rows are bad")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.rows", description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    keep_to_one_core()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as directory:
        for row_format, limit in SECONDS_A_MILLION.items():
            calls = []
            for is_mixed in (False, True):
                name = "mixed" if is_mixed else "plain"
                path = Path(directory) / f"{name}.{row_format}"
                write(table(options.rows, is_mixed=is_mixed), row_format, path)
                parser = RowParser(contract(is_mixed=is_mixed))
                calls.append(partial(read, path, row_format, parser))
            times = 1e6 / options.rows * by_turns(calls, options.rounds)
            plain, mixed = np.median(times, axis=0)
            ratio = np.median(times[:, 1] / times[:, 0])
            print(
                f"{row_format}: {plain:.2f} s a million rows, {mixed:.2f} s with categories and "
                f"missing values: {ratio:.2f}",
                flush=True,
            )
            tell(f"reading a million rows of {row_format}, s", plain, f"<= {limit}", "one core")
            tell(
                f"the same with categories and missing values: times, {row_format}",
                ratio,
                "<= 1.3",
                f"{mixed:.2f} s",
            )


if __name__ == "__main__":
    main()
