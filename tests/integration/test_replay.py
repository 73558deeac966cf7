"""A replay, end to end: counts, versions, resumption, invariance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

from app.errors import UserError
from app.model import HBPClassifier
from app.model.engines.xla_networks import XlaNetworks
from app.model.forward.scorer import PADDED_ROWS
from app.model.state import config_from_metadata, state_from_bytes
from app.monitor.batch_log import BatchLog
from app.registry.epochs import Epochs
from app.registry.open import version_log_of
from app.registry.version import ModelVersion
from tests.integration.streams import (
    SMALL,
    comparable,
    read_predictions,
    small_csv,
    small_replay,
    small_rows,
    small_settings,
)
from tests.integration.watched_udf import watched_scorer

N = 530


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_csv(tmp_path_factory.mktemp("stream") / "rows.csv", N)


@pytest.fixture(scope="module")
def replayed(stream: Path, tmp_path_factory: pytest.TempPathFactory):
    workdir = tmp_path_factory.mktemp("replayed")
    return workdir, small_replay(stream, workdir)


def test_every_row_is_scored_and_learned_once(replayed):
    workdir, summary = replayed
    run = summary.run
    assert (run.rows_in, run.rows_scored, run.rows_learned, run.dead_letters) == (N, N, N, 0)
    assert summary.version == run.batches == 6
    predictions = read_predictions(workdir)
    assert sorted(map(int, predictions["event_id"])) == list(range(N))
    assert predictions["prediction"].dtype == np.int64
    assert predictions["event_time"].isna().all()


def test_a_replay_learns_what_the_estimator_learns_from_the_same_rows(replayed):
    _, summary = replayed
    made = HBPClassifier(4, 2, **SMALL)
    model = HBPClassifier.from_config(replace(made.config, imputes=True))
    X, y = small_rows(N)
    wrong = (model.partial_fit(X, y).argmax(axis=1) != y).sum()
    assert summary.run.prequential_error == wrong / N
    from app.model.state import state_sha256

    assert summary.state_sha256 == state_sha256(model.get_state())


def test_tasks_share_a_batch_and_change_nothing(stream, replayed, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    calls.mkdir()
    monkeypatch.setattr("app.streaming.replay.scoring_tasks", lambda cores, rows: 3)
    monkeypatch.setattr("app.streaming.rows.scored.RowScorer", watched_scorer(calls))
    summary = small_replay(stream, tmp_path / "run", rows_per_batch=99)
    shares = sorted(int(path.read_text()) for path in calls.iterdir())
    # Five batches of 99 rows, and what is left.
    assert shares == [2, 33, *[33] * 15]
    assert summary.state_sha256 == replayed[1].state_sha256
    assert summary.run.rows_scored == N


def test_each_row_was_scored_by_the_version_that_it_reports(replayed):
    workdir, summary = replayed
    X, y = small_rows(N)
    predictions = read_predictions(workdir)
    wrong = 0
    for version, rows in predictions.groupby("model_version"):
        (snapshot,) = (workdir / "snapshots").glob(f"v{version:010d}-*.safetensors")
        state, metadata = state_from_bytes(snapshot.read_bytes())
        model = HBPClassifier.from_config(config_from_metadata(metadata))
        model.set_state(state)
        ids = rows["event_id"].astype(int).to_numpy()
        expected = model.predict_proba(X[ids])
        np.testing.assert_allclose(np.stack(rows["probabilities"]), expected, atol=1e-6)
        assert (rows["prediction"].to_numpy() == expected.argmax(axis=1)).all()
        assert (rows["batch_id"] == version).all()
        wrong += (rows["prediction"].to_numpy() != y[ids]).sum()
    assert summary.run.served_error == wrong / N


@pytest.mark.parametrize("rows_per_batch", [37, 265, N])
def test_the_state_does_not_depend_on_rows_per_batch(stream, replayed, tmp_path, rows_per_batch):
    summary = small_replay(stream, tmp_path / "w", rows_per_batch=rows_per_batch)
    assert summary.state_sha256 == replayed[1].state_sha256
    assert summary.run.prequential_error == replayed[1].run.prequential_error


def test_running_again_when_all_is_read_learns_nothing(stream, tmp_path):
    first = small_replay(stream, tmp_path)
    before = read_predictions(tmp_path)
    again = small_replay(stream, tmp_path)
    assert (again.run.rows_in, again.run.rows_learned, again.run.batches) == (0, 0, 0)
    assert (again.version, again.state_sha256) == (first.version, first.state_sha256)
    assert again.total == first.total
    assert read_predictions(tmp_path).equals(before)


def test_more_files_continue_the_same_stream(tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    small_csv(inputs / "day1.csv", 100, seed=1)
    first = small_replay(inputs, tmp_path / "grown")
    small_csv(inputs / "day2.csv", 150, seed=2)
    at_once = small_replay(inputs, tmp_path / "at_once", rows_per_batch=250)
    # What is read and learned may be cleared away.
    (inputs / "day1.csv").unlink()
    second = small_replay(inputs, tmp_path / "grown")
    assert (first.run.rows_in, second.run.rows_in, second.total.rows_in) == (100, 150, 250)
    assert second.state_sha256 == at_once.state_sha256
    ids = read_predictions(tmp_path / "grown")["event_id"].astype(int)
    assert sorted(ids) == list(range(250))


def test_an_unlabelled_row_is_scored_and_not_learned(tmp_path):
    path = small_csv(tmp_path / "rows.csv", 300)
    lines = path.read_text().splitlines()
    # The second batch of 100 has no label at all, the third every other one.
    for i in [*range(100, 200), *range(200, 300, 2)]:
        lines[i + 1] = lines[i + 1].rpartition(",")[0] + ","
    path.write_text("\n".join(lines) + "\n")
    summary = small_replay(path, tmp_path / "w")
    assert (summary.run.rows_scored, summary.run.rows_learned) == (300, 150)
    assert summary.version == 2
    records = BatchLog(tmp_path / "w" / "batches").read()
    assert [(r.rows_scored, r.rows_learned, r.version) for r in records] == [
        (100, 100, 1), (100, 0, 1), (100, 50, 2),
    ]  # fmt: skip


def test_update_batches_do_not_depend_on_rows_per_batch(stream, tmp_path):
    options = {"model_options": SMALL | {"update_batch_size": 8}}
    small = small_replay(stream, tmp_path / "small", rows_per_batch=101, **options)
    large = small_replay(stream, tmp_path / "large", rows_per_batch=N, **options)
    assert small.state_sha256 == large.state_sha256


def test_the_learner_is_compiled_once_and_the_scorer_for_few_sizes(
    stream, tmp_path, monkeypatch, spark: SparkSession
):
    learners = []
    create = XlaNetworks.__init__

    def remember(self, config):
        learners.append(self)
        create(self, config)

    monkeypatch.setattr(XlaNetworks, "__init__", remember)
    # A learning rate of its own, so that no other test has compiled this configuration.
    options = SMALL | {"learning_rate": 0.0123, "engine": "xla"}
    small_replay(stream, tmp_path, rows_per_batch=70, model_options=options)
    assert [learner.trace_count for learner in learners] == [2]

    @pandas_udf("int")
    def traces(ignored):
        import pandas as pd

        from udfs.model_cache import _MODELS

        scorers = [model._scorer for model in _MODELS.values()]
        ours = [s.trace_count for s in scorers if s.config.learning_rate == 0.0123]
        return pd.Series([sum(ours)] * len(ignored))

    # Which idle worker is asked is Spark's choice, so several tasks are sent.
    counted = spark.range(0, 16, 1, 16).select(traces("id").alias("traces")).collect()
    # 70 rows a batch, and 40 in the last: two of the padded sizes.
    assert max(row["traces"] for row in counted) in (1, 2)
    assert len(PADDED_ROWS) == 3


def test_options_that_contradict_the_model_are_refused(stream, replayed):
    workdir, _ = replayed
    with pytest.raises(UserError, match=r"--layers is 5, but .* was created with 3"):
        small_replay(stream, workdir, model_options={"n_hidden_layers": 5})
    with pytest.raises(UserError, match="--classes is a,b"):
        small_replay(stream, workdir, classes=("a", "b"))
    with pytest.raises(UserError, match="--features: the input has x0, x1"):
        small_replay(stream, workdir, features=("x0", "x1"))


def test_a_second_run_on_a_work_directory_in_use_is_refused(stream, tmp_path):
    import fcntl

    tmp_path.joinpath("w").mkdir()
    with open(tmp_path / "w" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="--workdir: another run is using"):
            small_replay(stream, tmp_path / "w")


def test_head_file_tells_the_version_and_the_applied_batches(replayed):
    workdir, summary = replayed
    chain = version_log_of(workdir)
    metadata = json.loads((workdir / "checkpoint" / "metadata").read_text())
    told = json.loads((workdir / "snapshots" / "HEAD.json").read_text())
    assert ModelVersion.from_json(told) == chain.newest()
    assert (told["version"], told["state_sha256"]) == (summary.version, summary.state_sha256)
    assert told["applied"] == {metadata["id"]: 5}
    assert Epochs(chain.directory).last(metadata["id"]) == 1


def test_two_runs_of_the_same_input_are_the_same(stream, replayed, tmp_path):
    workdir, summary = replayed
    again = small_replay(stream, tmp_path)
    assert again.state_sha256 == summary.state_sha256
    assert comparable(read_predictions(tmp_path)).equals(comparable(read_predictions(workdir)))


def test_classes_named_by_the_user_fix_their_order(stream, tmp_path):
    settings = small_settings(stream, tmp_path, classes=("1", "0"), rows_per_batch=N)
    from app.streaming.replay import replay

    replay(settings)
    predictions = read_predictions(tmp_path)
    # Version 0 scored this one batch: class 0 of the model is label 1.
    first = np.stack(predictions["probabilities"]).argmax(axis=1)
    assert (predictions["prediction"].to_numpy() == 1 - first).all()
