"""The commands as a user runs them, each in a process of its own."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from app.errors import UserError
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


def test_versions_are_listed_rebuilt_and_rolled_back_to(tmp_path: Path):
    path, workdir = small_csv(tmp_path / "rows.csv", 300), tmp_path / "w"
    summary = small_replay(path, workdir)
    at = [sys.executable, "-m", "app"]

    listed = run(*at, "history", "--workdir", str(workdir), "--json")
    versions = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(v["version"], v["kind"], v["rows_learned"]) for v in versions] == [
        (0, "created", None), (1, "batch", 100), (2, "batch", 100), (3, "batch", 100),
    ]  # fmt: skip
    assert versions[3]["state_sha256"] == summary.state_sha256

    (lost,) = (workdir / "snapshots").glob("v0000000002-*")
    lost.unlink()
    rebuilt = run(*at, "rebuild", "--workdir", str(workdir), "--to", "2", "--json")
    assert json.loads(rebuilt.stdout) == {
        "version": 2, "state_sha256": versions[2]["state_sha256"], "versions_learned": 1,
    }  # fmt: skip

    rolled = run(*at, "rollback", "--workdir", str(workdir), "--to", "2", "--json")
    assert json.loads(rolled.stdout) == {
        "version": 4, "state_sha256": versions[2]["state_sha256"],
    }  # fmt: skip
    again = small_replay(path, workdir)
    assert (again.run.rows_in, again.version) == (0, 4)

    for command in ("rebuild", "rollback"):
        told = run(*at, command, "--workdir", str(workdir), "--to", "9")
        assert told.returncode == 2
        assert told.stderr == "error: --to: there is no version 9; there are 0 to 4\n"


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
    from app.redis_io.embedded import EmbeddedRedis
    from app.report.status import model_status

    first_path = small_csv(tmp_path / "first.csv", 200, seed=1)
    second_path = small_csv(tmp_path / "second.csv", 200, seed=2)
    with EmbeddedRedis() as server:
        shared = {"redis_url": server.url, "model": "shared"}
        first = small_replay(first_path, tmp_path / "one", **shared)
        second = small_replay(second_path, tmp_path / "two", **shared)
        shown = model_status(None, server.url, "shared")
    assert (first.version, second.version) == (2, 4)
    assert shown["state_sha256"] == second.state_sha256
    assert sorted(shown["applied"].values()) == [1, 1]
    assert (tmp_path / "two" / "snapshots").samefile(tmp_path / "one" / "snapshots")


def test_an_input_the_model_has_learned_is_refused_under_a_new_checkpoint(tmp_path: Path):
    path = small_csv(tmp_path / "rows.csv", 200)
    small_replay(path, tmp_path / "w")
    shutil.rmtree(tmp_path / "w" / "checkpoint")
    copy = shutil.copy(path, tmp_path / "copy.csv")
    with pytest.raises(UserError, match="--input: .*copy.csv was fed to this model before"):
        small_replay(copy, tmp_path / "w")
    summary = small_replay(copy, tmp_path / "w", allow_relearn=True)
    assert (summary.version, summary.run.rows_learned) == (4, 200)
