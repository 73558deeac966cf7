"""The feedback log: rows come back as they were learned, and are never written twice."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import ModelNotFoundError, RegistryError
from app.registry.feedback_log import FeedbackLog, LearnedRows

FEATURES = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))


def rows(n: int, seed: int = 0) -> LearnedRows:
    rng = np.random.default_rng(seed)
    return LearnedRows(
        [f"event-{i}" for i in rng.permutation(n)],
        rng.normal(size=(n, 3)),
        rng.integers(0, 2, n).astype(np.int32),
    )


def rows_of_older_release(n: int, seed: int = 0) -> LearnedRows:
    """Return rows that float32 holds exactly, as the log of an older release kept them."""
    new = rows(n, seed)
    return dataclasses.replace(new, features=new.features.astype(np.float32).astype(np.float64))


def write_as_older_release(log: FeedbackLog, query: str, batch: int, learned: LearnedRows) -> None:
    log.write(query, batch, learned)
    path = log.path(query, batch)
    table = pq.ParquetFile(path).read()
    width = learned.features.shape[1]
    narrow = table["features"].cast(pa.list_(pa.float32(), width))
    place = table.schema.get_field_index("features")
    pq.write_table(table.set_column(place, "features", narrow), path, compression="zstd")


def assert_same(found: LearnedRows, expected: LearnedRows) -> None:
    assert found.event_ids == expected.event_ids
    for name in ("features", "labels"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


@pytest.fixture
def log(tmp_path) -> FeedbackLog:
    return FeedbackLog(tmp_path / "feedback")


@pytest.mark.parametrize("n", [1, 2, 5000])
def test_rows_come_back_in_the_order_they_were_learned(log, n):
    log.write("q", 0, rows(n))

    assert_same(log.read("q", 0), rows(n))


def test_features_come_back_bit_for_bit(log):
    tiny, large = 5e-324, np.finfo(np.float32).max
    features = np.array([[0.0, -0.0, tiny], [large, -large, 1_767_268_800.1]])
    labels = np.array([1, 2_000_000], np.int32)
    odd = LearnedRows(["", "Zürich \N{SNOWMAN} a/b"], features, labels)
    log.write("q", 0, odd)

    assert_same(log.read("q", 0), odd)


def test_rows_of_an_older_release_are_float64_of_the_same_value(log):
    old = rows_of_older_release(50)
    write_as_older_release(log, "q", 0, old)
    kind = pq.read_schema(log.path("q", 0)).field("features").type

    assert kind.value_type == pa.float32()
    assert_same(log.read("q", 0), old)


def test_rows_that_are_there_stay(log):
    log.write("q", 0, rows(4))
    log.write("q", 0, rows(9, seed=1))

    assert_same(log.read("q", 0), rows(4))


def test_queries_and_batches_are_apart(log):
    places = [("q", 9), ("q", 10), ("other", 9), ("q", 100_000_000)]
    for seed, place in enumerate(places):
        log.write(*place, rows(4, seed))

    for seed, place in enumerate(places):
        assert_same(log.read(*place), rows(4, seed))
    assert log.path("q", 9) < log.path("q", 10)


def test_file_is_parquet_that_others_read(log):
    log.write("q", 3, rows(4))
    path = log.directory / "query=q" / "batch=00000003.parquet"

    table = pq.ParquetFile(path).read()
    assert table.schema.names == ["event_id", "features", "label_index"]
    assert table.schema.field("features").type == pa.list_(pa.float64(), 3)
    assert table["event_id"].to_pylist() == rows(4).event_ids


def test_racing_writers_leave_the_rows_of_one(log):
    barrier = threading.Barrier(8)

    def write(seed: int) -> None:
        barrier.wait(10)
        log.write("q", 0, rows(50, seed))

    writers = [threading.Thread(target=write, args=[seed]) for seed in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    found = log.read("q", 0)
    [seed] = [seed for seed in range(8) if rows(50, seed).event_ids == found.event_ids]
    assert_same(found, rows(50, seed))
    assert [path.name for path in log.path("q", 0).parent.iterdir()] == [log.path("q", 0).name]


def test_rows_that_were_not_recorded_are_reported(log):
    log.write("q", 0, rows(4))

    for query, batch in (("q", 1), ("other", 0)):
        with pytest.raises(ModelNotFoundError, match=str(log.path(query, batch))):
            log.read(query, batch)


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_truncated_file_is_reported_by_its_path(log, kept):
    log.write("q", 0, rows(4))
    path = log.path("q", 0)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(RegistryError, match=f"{path} holds no labelled rows"):
        log.read("q", 0)


@pytest.mark.parametrize(
    "columns",
    [
        {"event_id": ["a"], "label_index": [1]},
        {"event_id": ["a"], "features": [[1.0]]},
        {"features": [[1.0]], "label_index": [1]},
        {"event_id": ["a"], "features": [1.0], "label_index": [1]},
        {"event_id": ["a"], "features": [{"x": 1.0}], "label_index": [1]},
        {"event_id": ["a", "b"], "features": [[1.0], [1.0, 2.0]], "label_index": [1, 0]},
        {"event_id": ["a"], "features": FEATURES, "label_index": pa.array([None], pa.int32())},
    ],
    ids=["no features", "no labels", "no ids", "numbers", "structs", "many lengths", "null label"],
)
def test_file_of_another_kind_is_reported_by_its_path(log, columns):
    path = log.path("q", 0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path)

    with pytest.raises(RegistryError, match=f"{path} holds no labelled rows"):
        log.read("q", 0)
