"""The commands as a user runs them, each in a process of its own."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.integration.streams import small_csv, small_replay

ROOT = Path(__file__).resolve().parents[2]
SMALL_OPTIONS = ["--layers", "3", "--units", "8", "--rows-per-batch", "100"]
SUMMARY_KEYS = {
    "rows_in", "rows_scored", "rows_learned", "dead_letters", "served_error",
    "prequential_error", "version", "state_sha256", "seconds", "learn_seconds",
}  # fmt: skip


def run(*command: str) -> subprocess.CompletedProcess[str]:
    # As in an activated virtual environment: spark-submit looks for python3 on the PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=clean | {"PATH": path}, timeout=280
    )


def replay_options(path: Path, workdir: Path) -> list[str]:
    return [
        "--input", str(path), "--format", "csv", "--label", "label", "--workdir", str(workdir),
        *SMALL_OPTIONS, "--json",
    ]  # fmt: skip


def test_spark_submit_and_python_m_app_do_the_same(tmp_path: Path):
    path, workdir = small_csv(tmp_path / "rows.csv", 250), tmp_path / "a work=dir"
    submitted = run(
        "spark-submit", "--properties-file", "spark-conf/local.conf", "app/replay.py",
        *replay_options(path, workdir),
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr
    summary = json.loads(submitted.stdout.splitlines()[-1])
    assert summary.keys() >= SUMMARY_KEYS
    assert (summary["rows_learned"], summary["version"]) == (250, 3)

    again = run(sys.executable, "-m", "app", "replay", *replay_options(path, workdir))
    assert again.returncode == 0, again.stderr
    resumed = json.loads(again.stdout.splitlines()[-1])
    assert resumed["rows_in"] == 0
    assert resumed["state_sha256"] == summary["state_sha256"]

    status = run(sys.executable, "-m", "app", "status", "--workdir", str(workdir), "--json")
    shown = json.loads(status.stdout)
    assert (shown["model"], shown["version"]) == ("default", 3)
    assert shown["state_sha256"] == summary["state_sha256"]
    assert list(shown["applied"].values()) == [2]


@pytest.mark.parametrize("launcher", [["-m", "app", "replay"], ["app/replay.py"]])
def test_a_wrong_column_ends_with_code_2_and_one_line(launcher, tmp_path: Path):
    path = small_csv(tmp_path / "rows.csv", 10)
    told = run(
        sys.executable, *launcher, "--input", str(path), "--format", "csv", "--label", "lable",
        "--workdir", str(tmp_path / "w"),
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr.splitlines() == [
        f"error: --label: no column 'lable' in {path}; there are: x0, x1, x2, x3, label"
    ]


def test_a_model_that_diverges_ends_with_code_1_and_one_line(tmp_path: Path):
    path = small_csv(tmp_path / "rows.csv", 100)
    told = run(
        sys.executable, "-m", "app", "replay", *replay_options(path, tmp_path / "w"),
        "--learning-rate", "1e30",
    )  # fmt: skip
    assert told.returncode == 1
    (line,) = (line for line in told.stderr.splitlines() if not line.startswith("WARNING"))
    assert line.startswith("error: batch 0 ") and "nothing of it was published" in line


def test_without_java_the_first_thing_told_is_that(tmp_path: Path):
    path = small_csv(tmp_path / "rows.csv", 10)
    command = [sys.executable, "-m", "app", "replay", *replay_options(path, tmp_path / "w")]
    without = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
    without |= {"JAVA_HOME": str(tmp_path / "no-java")}
    told = subprocess.run(command, capture_output=True, text=True, env=without, timeout=60)
    assert told.returncode == 2
    assert told.stderr.startswith("error: Spark needs Java 17 or newer")
    assert len(told.stderr.splitlines()) == 1


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys, spark: SparkSession):
    monkeypatch.setenv("HEDGESTREAM_NOTEBOOK_DIR", str(tmp_path))
    monkeypatch.setenv("HEDGESTREAM_NOTEBOOK_ROWS", "600")
    source = ROOT / "notebooks" / "01_replay_a_stream.py"
    assert source.read_text().startswith("# Databricks notebook source\n")
    runpy.run_path(str(source))
    shown = capsys.readouterr().out
    assert "rows learned        600" in shown
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_a_redis_of_the_users_own_keeps_the_model_between_work_directories(tmp_path: Path):
    from app.monitor.status import model_status
    from app.registry.embedded import EmbeddedRedis

    with EmbeddedRedis() as server:
        path = small_csv(tmp_path / "rows.csv", 200)
        first = small_replay(path, tmp_path / "one", redis_url=server.url, model="shared")
        second = small_replay(path, tmp_path / "two", redis_url=server.url, model="shared")
        shown = model_status(None, server.url, "shared")
    assert (first.version, second.version) == (2, 4)
    assert shown["state_sha256"] == second.state_sha256
    assert sorted(shown["applied"].values()) == [1, 1]
