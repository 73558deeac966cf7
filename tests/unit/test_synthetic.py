"""The CD1 stream: seeded, balanced, two concepts of which the first comes back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from app.synthetic import RandomNetworkConcept, drift_points, stream_blocks, write_cd1

N_ROWS, N_FEATURES, SEED = 30_000, 6, 5


def stream(n_rows=N_ROWS, seed=SEED):
    blocks = list(stream_blocks("cd1", n_rows, N_FEATURES, seed=seed))
    return tuple(np.concatenate(part) for part in zip(*blocks, strict=True))


@pytest.fixture(scope="module")
def rows():
    return stream()


@pytest.fixture(scope="module")
def thirds(rows):
    X, y = (np.split(array, drift_points(N_ROWS)) for array in rows)
    return list(zip(X, y, strict=True))


@pytest.fixture(scope="module")
def concepts():
    rng = np.random.default_rng(SEED)
    return [RandomNetworkConcept(N_FEATURES, 8, 100, rng) for _ in range(2)]


def test_a_seed_gives_the_same_stream_again(rows):
    for first, again in zip(rows, stream(), strict=True):
        np.testing.assert_array_equal(first, again)


def test_another_seed_gives_another_stream(rows):
    other = stream(seed=SEED + 1)
    assert not np.allclose(rows[0], other[0])
    assert 0.3 < np.mean(rows[1] == other[1]) < 0.7


def test_rows_are_standard_normal_float32(rows):
    X, y = rows
    assert (X.dtype, X.shape, y.dtype, y.shape) == (
        np.float32,
        (N_ROWS, N_FEATURES),
        np.int8,
        (N_ROWS,),
    )
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(X.std(axis=0), 1, atol=0.03)


def test_both_classes_are_common_in_every_third(thirds):
    for _, y in thirds:
        assert 0.4 < y.mean() < 0.6


def test_the_first_concept_labels_the_first_and_the_last_third(thirds, concepts):
    for X, y in (thirds[0], thirds[2]):
        np.testing.assert_array_equal(concepts[0].labels(X), y)


def test_the_second_concept_labels_the_middle_and_differs(thirds, concepts):
    X, y = thirds[1]
    np.testing.assert_array_equal(concepts[1].labels(X), y)
    assert np.mean(concepts[0].labels(X) != y) > 0.2


@pytest.mark.parametrize(("n_rows", "points"), [(6_000, [2_000, 4_000]), (10, [3, 6]), (3, [1, 2])])
def test_the_stream_drifts_after_each_third(n_rows, points):
    assert drift_points(n_rows) == points
    assert sum(len(y) for _, y in stream_blocks("cd1", n_rows, N_FEATURES)) == n_rows


def test_the_csv_holds_the_stream_to_the_last_bit(rows, tmp_path):
    write_cd1(tmp_path / "cd1.csv", N_ROWS, N_FEATURES, SEED)
    names = [f"x{i}" for i in range(N_FEATURES)]
    types = dict.fromkeys(names, pa.float32())
    table = pyarrow.csv.read_csv(
        tmp_path / "cd1.csv", convert_options=pyarrow.csv.ConvertOptions(column_types=types)
    )
    assert table.column_names == [*names, "label"]
    np.testing.assert_array_equal(np.column_stack([table[name] for name in names]), rows[0])
    np.testing.assert_array_equal(table["label"], rows[1])
