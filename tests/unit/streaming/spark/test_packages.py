"""Packages for the JVM are fetched by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import UserError
from app.streaming.spark.packages import ivy_directory, kafka_package, resolve_lock
from tests.maven import MavenUnavailable, fetch

ROOT = Path(__file__).resolve().parents[4]

_STARTER = """
from app.streaming.spark.packages import kafka_package
from app.streaming.spark.session import spark_session
session = spark_session("packages", packages=[kafka_package()])
options = {"kafka.bootstrap.servers": "127.0.0.1:1", "subscribe": "topic"}
session.read.format("kafka").options(**options).load().schema
session.stop()
"""


@pytest.mark.spark
@pytest.mark.kafka
def test_jobs_that_start_at_once_on_a_new_host_share_one_download(tmp_path):
    try:
        fetch(kafka_package())
    except MavenUnavailable as unavailable:
        pytest.skip(str(unavailable))
    environment = {
        name: value for name, value in os.environ.items() if name != "PYSPARK_GATEWAY_PORT"
    }
    jobs = [
        # Processes of their own: this one may have a session already.
        subprocess.Popen(
            [sys.executable, "-c", _STARTER],
            cwd=ROOT,
            env=environment | {"HOME": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [job.communicate(timeout=120)[1] for job in jobs]

    assert [job.returncode for job in jobs] == [0, 0], "\n".join(errors)
    # Ivy says so of each file that it downloads.
    downloads = "".join(errors).count("[SUCCESSFUL ] org.apache.kafka#kafka-clients;")
    assert downloads == 1


def test_lock_held_for_too_long_is_reported_with_its_file(tmp_path):
    with resolve_lock(tmp_path):
        (lock,) = tmp_path.iterdir()
        with pytest.raises(UserError, match="held by another process") as caught:
            with resolve_lock(tmp_path, timeout_seconds=0.01):
                pytest.fail("two hold the lock")
    assert str(lock) in str(caught.value)


def test_waiting_for_the_lock_is_told(tmp_path):
    told = []
    with resolve_lock(tmp_path), pytest.raises(UserError):
        with resolve_lock(tmp_path, timeout_seconds=0.02, silent_seconds=0.01, warn=told.append):
            pytest.fail("two hold the lock")
    (message,) = told
    assert str(tmp_path) in message
    assert message.endswith("waiting for it")


def test_lock_is_free_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError, match="no download"), resolve_lock(tmp_path):
        raise RuntimeError("no download")
    with resolve_lock(tmp_path, timeout_seconds=0.01):
        pass


def test_missing_directory_is_made_with_its_parents(tmp_path):
    with resolve_lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_directory_that_cannot_be_written_to_is_for_the_user_to_change(tmp_path):
    directory = tmp_path / "file" / "below"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Set HOME") as caught, resolve_lock(directory):
        pytest.fail("a file holds no directory")
    assert str(directory) in str(caught.value)


def test_home_says_where_packages_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ivy_directory().parent == tmp_path
