"""Where live predictions go: each sink has what was written, also after a crash."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from app.config.connectors import parse_sink
from app.streaming.loop import MicroBatchLoop
from app.streaming.steps import Step
from tests.integration.live_streams import live_run, live_stream, write_json
from tests.integration.streams import read_predictions

# Queries, or whole processes, start several times in each, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

ROWS_PER_BATCH = 100


@pytest.fixture
def sources(tmp_path: Path) -> tuple[str, str]:
    rows = live_stream(250)
    write_json(tmp_path / "events", rows.events)
    write_json(tmp_path / "feedback", rows.feedback)
    return f"json:{tmp_path}/events", f"json:{tmp_path}/feedback"


class Crash(Exception):
    pass


def run_with_a_crash(workdir: Path, sources, monkeypatch, *sinks: str):
    """Run with a crash in the second batch after its predictions were handed on, then resume."""
    options = {
        "max_rows_per_batch": ROWS_PER_BATCH, "sinks": tuple(map(parse_sink, sinks))
    }  # fmt: skip

    def crash(loop, step):
        if step is Step.FEEDBACK_RECORDED and loop.batch == 1:
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(MicroBatchLoop, "_reached", crash)
        with pytest.raises(Crash):
            live_run(workdir, *sources, **options)
    return live_run(workdir, *sources, **options)


def same(found: pd.DataFrame, written: pd.DataFrame) -> bool:
    columns = ["event_id", "prediction", "model_version", "batch_id"]
    in_order = [
        frame[columns].sort_values("event_id", ignore_index=True) for frame in (found, written)
    ]
    return in_order[0].equals(in_order[1])


def test_a_delta_table_has_each_prediction_once(sources, tmp_path, monkeypatch):
    run_with_a_crash(tmp_path / "w", sources, monkeypatch, f"delta:{tmp_path}/table")
    found = DeltaTable(tmp_path / "table").to_pandas()
    written = read_predictions(tmp_path / "w")
    assert len(found) == 251
    assert same(found, written)


def test_kafka_has_each_prediction_and_the_headers_tell_repeats(
    sources, tmp_path, monkeypatch, broker, spark
):
    broker.create_topic("predicted", 2)
    run_with_a_crash(tmp_path / "w", sources, monkeypatch, f"kafka://{broker.servers}/predicted")
    messages = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", broker.servers)
        .option("subscribe", "predicted")
        .option("includeHeaders", "true")
        .load()
        .select(
            F.col("value").cast("string"),
            F.expr("transform(headers, h -> h.key || '=' || cast(h.value as string))").alias("h"),
        )
        .toPandas()
    )
    rows = pd.DataFrame([json.loads(value) for value in messages["value"]])
    rows["headers"] = messages["h"].map(lambda headers: "|".join(sorted(headers)))
    # The second batch was sent twice, and is told by its key and headers.
    assert len(rows) == 251 + ROWS_PER_BATCH
    once = rows.drop_duplicates(["event_id", "headers"])
    written = read_predictions(tmp_path / "w")
    assert same(once, written)
    assert once["headers"].str.contains("batch=1").sum() == ROWS_PER_BATCH


def test_the_console_shows_each_batch(sources, tmp_path, capsys):
    live_run(tmp_path / "w", *sources, max_rows_per_batch=200, sinks=(parse_sink("console"),))
    told = capsys.readouterr().out
    shown = re.findall(r"batch \d+: (\d+) predictions", told)
    assert [int(n) for n in shown if int(n)] == [200, 51]
    assert "model_version" in told
