"""Memory over many batches: ``python -m tests.bench.many_batches``.

A replay of small batches, in a process of its own. Told is how the resident memory of the driver,
the JVM and the Python workers grows after the first fifth: a slope in MiB a thousand batches,
beside the standard error of that slope, and what a thousand batches took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.bench.soak import live_heap_mib, resident_mib
from tests.chaos.replays import Replay, ended
from tests.integration.streams import small_csv

ROWS_PER_BATCH = 20
_SAMPLE_SECONDS = 2.0
_SAMPLES_PER_COLLECTION = 10

# A line through three leaves one degree of freedom for its error.
_LEAST_SAMPLES = 4


def slope(batches: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the least-squares growth for each thousand batches, and its standard error."""
    coefficients, covariance = np.polyfit(batches / 1000, values, 1, cov=True)
    return float(coefficients[0]), float(np.sqrt(covariance[0, 0]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many_batches", description=__doc__)
    parser.add_argument("--batches", type=int, default=5000)
    options = parser.parse_args()
    samples: dict[str, list[tuple[int, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="many-batches-") as directory:
        root = Path(directory)
        stream = small_csv(root / "rows.csv", options.batches * ROWS_PER_BATCH)
        replay = Replay(stream, root / "w", ROWS_PER_BATCH)
        process = replay.start()
        with ended(process):
            assert replay.wait_for_batch(process, 0), process.stderr.read()
            while (done := replay.batches()) < 0.95 * options.batches and process.poll() is None:
                time.sleep(_SAMPLE_SECONDS)
                figures = {f"{k}, MiB": v for k, v in resident_mib(process).items()}
                figures["seconds"] = time.monotonic()
                if len(samples.get("seconds", ())) % _SAMPLES_PER_COLLECTION == 0:
                    figures["jvm's live heap, MiB"] = live_heap_mib(process)
                for name, value in figures.items():
                    samples.setdefault(name, []).append((done, value))
            _, told = process.communicate()
            assert process.returncode == 0, told
    print(f"{options.batches:,} batches of {ROWS_PER_BATCH} rows; after a fifth of them:")
    print(f"{'':<22} {'first':>9} {'last':>9} {'a thousand batches':>26}")
    for name, taken in samples.items():
        later = [sample for sample in taken if sample[0] >= 0.2 * options.batches]
        if len(later) < _LEAST_SAMPLES:
            print(f"{name:<22} {len(later)} samples are too few to tell")
            continue
        batches, values = np.array(later).T
        values -= values[0] if name == "seconds" else 0.0
        growth, error = slope(batches, values)
        print(f"{name:<22} {values[0]:>9,.1f} {values[-1]:>9,.1f} {growth:>+15.2f} ± {error:.2f}")


if __name__ == "__main__":
    main()
