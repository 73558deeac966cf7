"""The live stream, end to end: late labels, crashes, idle sources, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from app.errors import UserError
from app.monitor.batch_log import BatchLog
from app.registry.open import version_log_of
from app.streaming.loop import MicroBatchLoop
from app.streaming.spark.conf import JOIN_CONF, STREAM_CONF
from app.streaming.steps import Step
from tests.integration.live_streams import (
    LiveStream,
    live_run,
    live_stream,
    outcome,
    write_json,
)
from tests.integration.streams import (
    FEATURES,
    comparable,
    read_dead_letters,
    read_predictions,
    small_csv,
    small_replay,
)

# Queries, or whole processes, start several times in each, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

N, ROWS_PER_BATCH = 600, 60


@pytest.fixture(scope="module")
def rows() -> LiveStream:
    # Shares that leave several labels of each kind in a small stream.
    return live_stream(N, duplicates=0.05, orphans=0.03, conflicts=0.03, beyond=0.03)


@pytest.fixture(scope="module")
def sources(rows: LiveStream, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("live")
    write_json(root / "events", rows.events)
    write_json(root / "feedback", rows.feedback)
    return f"json:{root}/events", f"json:{root}/feedback"


@pytest.fixture(scope="module")
def undisturbed(sources, tmp_path_factory: pytest.TempPathFactory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return live_run(workdir, *sources, max_rows_per_batch=ROWS_PER_BATCH), workdir


def assert_equal(summary, workdir: Path, undisturbed) -> None:
    expected, other = undisturbed
    assert summary.state_sha256 == expected.state_sha256
    assert summary.version == expected.version
    assert comparable(read_predictions(workdir)).equals(comparable(read_predictions(other)))
    assert summary.total.labels == expected.total.labels
    for figure in ("rows_learned", "served_error", "prequential_error", "rows_scored"):
        assert getattr(summary.total, figure) == getattr(expected.total, figure)


def test_every_label_is_accounted_for(rows, undisturbed):
    summary, workdir = undisturbed
    assert outcome(summary) == rows.expected
    assert summary.total.labels.received == len(rows.feedback)
    assert summary.total.labels.pending == 0
    assert summary.total.rows_scored == len(rows.events)
    dead = read_dead_letters(workdir)
    assert dead["reason"].value_counts().to_dict() == {
        reason: count for reason, count in rows.expected.items() if reason != "learned"
    }
    # Each with the row as it came.
    assert {"event_id", "feedback_time", "label"} == set(json.loads(dead["row"][0]))


def test_each_event_is_scored_once_and_the_error_is_that_of_what_was_served(rows, undisturbed):
    summary, workdir = undisturbed
    predictions = read_predictions(workdir).set_index("event_id")["prediction"]
    assert predictions.index.is_unique
    learned = pd.concat(
        [
            pd.read_parquet(path)[["event_id", "label_index"]]
            for path in version_log_of(workdir).directory.glob("feedback/*/*.parquet")
        ]
    ).set_index("event_id")["label_index"]
    assert learned.index.is_unique
    wrong = (predictions.loc[learned.index] != learned).sum()
    assert summary.total.served_error == wrong / len(learned)
    # Labels come batches later: what was served is not what the model says by then.
    assert summary.total.served_error > summary.total.prequential_error


def test_the_delay_of_labels_is_told(rows, undisturbed):
    summary, _ = undisturbed
    times = {row["event_id"]: pd.Timestamp(row["event_time"]) for row in rows.events}
    first = {}
    for row in sorted(rows.feedback, key=lambda row: row["feedback_time"]):
        first.setdefault(row["event_id"], pd.Timestamp(row["feedback_time"]))
    delays = [(first[e] - times[e]).total_seconds() for e in times if e in first]
    timely = [delay for delay in delays if delay <= 600]
    assert summary.total.mean_delay_seconds == pytest.approx(sum(timely) / len(timely))
    assert summary.total.labels.longest_delay_seconds == pytest.approx(max(timely))


class Crash(Exception):
    pass


@pytest.mark.parametrize(
    ("state_store", "steps"),
    [
        ("driver", list(Step)),
        ("rocksdb", [Step.DEAD_LETTERS_WRITTEN, Step.PUBLISHED, Step.LOGGED]),
    ],
)
def test_batches_that_crash_after_each_step_are_counted_once(
    state_store, steps, sources, undisturbed, tmp_path, monkeypatch
):
    """The n-th run crashes after the n-th step of a batch, and the next one goes on from there."""
    options = {"max_rows_per_batch": ROWS_PER_BATCH, "state_store": state_store}
    for crash_after in steps:

        def crash(loop, step, crash_after=crash_after):
            # In a batch with labels to learn: the first has none whose event has come.
            if step is crash_after and loop.batch:
                raise Crash(crash_after)

        with monkeypatch.context() as patched:
            patched.setattr(MicroBatchLoop, "_reached", crash)
            with pytest.raises(Crash, match=crash_after):
                live_run(tmp_path, *sources, **options)
    summary = live_run(tmp_path, *sources, **options)
    assert_equal(summary, tmp_path, undisturbed)


def test_a_stream_does_not_move_from_one_state_store_to_another(sources, undisturbed):
    _, workdir = undisturbed
    with pytest.raises(
        UserError, match="--state-store is 'rocksdb', but .* was begun with 'driver'"
    ):
        live_run(workdir, *sources, state_store="rocksdb")


def test_a_session_is_left_as_it_was(spark, undisturbed):
    for name in (*STREAM_CONF, *JOIN_CONF):
        assert spark.conf.get(name, None) != (STREAM_CONF | JOIN_CONF)[name]


def test_a_run_after_the_last_row_changes_nothing(sources, undisturbed):
    _, workdir = undisturbed
    again = live_run(workdir, *sources, max_rows_per_batch=ROWS_PER_BATCH)
    assert (again.run.rows_in, again.run.labels.received) == (0, 0)
    assert_equal(again, workdir, undisturbed)


def test_garbage_becomes_dead_letters_and_changes_nothing_else(rows, undisturbed, tmp_path):
    def with_garbage(lines: list[str], garbage: list[str]) -> str:
        # In the second batch.
        place = ROWS_PER_BATCH + 10
        return "\n".join([*lines[:place], *garbage, *lines[place:]]) + "\n"

    events = [json.dumps(row) for row in rows.events]
    feedback = [json.dumps(row) for row in rows.feedback]
    good = json.loads(events[0])
    bad_events = [
        "not json",
        json.dumps(good | {"event_id": None}),
        json.dumps(good | {"event_id": "b1", "event_time": None}),
        json.dumps(good | {"event_id": "b2", "event_time": "soon"}),
        json.dumps(good | {"event_id": "b3", "event_time": "9999-01-01T00:00:00Z"}),
        json.dumps(good | {"event_id": "b4"} | dict.fromkeys(FEATURES, "?")),
        json.dumps(good | {"event_id": "b5", "x0": "Infinity"}),
        json.dumps(good),
    ]
    label = json.loads(feedback[0])
    bad_feedback = [
        "[1, 2",
        json.dumps(label | {"event_id": ""}),
        json.dumps(label | {"event_id": "c1", "feedback_time": None}),
        json.dumps(label | {"event_id": "c2", "feedback_time": "99999999999"}),
        json.dumps(label | {"event_id": "c3", "label": None}),
        json.dumps(label | {"event_id": "c4", "label": "maybe"}),
    ]
    for name, lines, garbage in (
        ("events", events, bad_events),
        ("feedback", feedback, bad_feedback),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.json").write_text(with_garbage(lines, garbage))
    summary = live_run(
        tmp_path / "w", f"json:{tmp_path}/events", f"json:{tmp_path}/feedback",
        max_rows_per_batch=ROWS_PER_BATCH,
    )  # fmt: skip
    dead = read_dead_letters(tmp_path / "w")
    told = dead[~dead["reason"].str.endswith("_feedback")].groupby("kind")["reason"].apply(sorted)
    assert told.to_dict() == {
        "event": [
            "all_missing", "duplicate_id", "future_time", "infinite_feature", "null_id",
            "null_time", "unparsable", "unparsable",
        ],
        "label": [
            "future_time", "null_id", "null_label", "null_time", "unknown_label", "unparsable",
        ],
    }  # fmt: skip
    assert outcome(summary).items() >= rows.expected.items()
    assert summary.total.rows_scored == len(rows.events)
    assert dead["row"].notna().all()


def test_the_model_of_a_replay_goes_on_live(sources, tmp_path):
    """Features, classes and settings are those of the model."""
    small_replay(small_csv(tmp_path / "rows.csv", 200), tmp_path / "w")
    summary = live_run(tmp_path / "w", *sources, features=None, classes=None, model_options={})
    records = list(version_log_of(tmp_path / "w").records())
    assert summary.version == records[-1].version > 2
    assert len(records[-1].applied) == 2


def test_labels_are_not_learned_again_under_another_checkpoint(sources, tmp_path):
    live_run(tmp_path / "a", *sources)
    shared = {"snapshots": tmp_path / "a" / "snapshots"}
    with pytest.raises(UserError, match="--feedback: json:.* was fed to this model before"):
        live_run(tmp_path / "b", *sources, **shared)
    summary = live_run(tmp_path / "b", *sources, **shared, allow_relearn=True)
    assert len(version_log_of(tmp_path / "b").newest().applied) == 2
    assert summary.run.rows_learned > 0


def test_what_spark_keeps_is_bounded_when_no_label_ever_comes(tmp_path, monkeypatch):
    """Events wait for labels no longer than the label timeout and the lag allowed."""
    from app.streaming import query

    sizes = []
    query_of_run = query._wait_for_end

    def watched(query, *args):
        query_of_run(query, *args)
        sizes.extend(
            operator["numRowsTotal"]
            for progress in query.recentProgress
            for operator in progress["stateOperators"]
        )

    monkeypatch.setattr(query, "_wait_for_end", watched)
    rows = live_stream(1000, seconds=6000.0)
    write_json(tmp_path / "events", rows.events[:-1])
    (tmp_path / "feedback").mkdir()
    summary = live_run(
        tmp_path / "w", f"json:{tmp_path}/events", f"json:{tmp_path}/feedback",
        max_rows_per_batch=50, label_timeout=300.0, max_lag=300.0, state_store="rocksdb",
    )  # fmt: skip
    assert summary.total.rows_scored == 1000
    rows_per_second = 1000 / 6000
    # The last batch's rows are there before the watermark moves on.
    assert max(sizes) <= rows_per_second * (300 + 300 + 20) + 2 * 50
    log = BatchLog(tmp_path / "w" / "batches").read()
    assert [record.labels.pending for record in log] == [0] * len(log)
