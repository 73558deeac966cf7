"""A Java that Spark can use is found, or the user is told how to get one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import JavaMissingError, UserError
from app.streaming.spark.java import require_java


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """Leave no Java on the PATH or in JAVA_HOME."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.fixture
def java(tmp_path):
    """Return a function that writes a ``java`` that tells a version on standard error."""

    def write(told, directory="bin", code=0):
        path = tmp_path / directory / "java"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{told}' >&2\nexit {code}\n")
        path.chmod(0o755)
        return path

    return write


def refusal() -> str:
    with pytest.raises(JavaMissingError) as caught:
        require_java()
    message = str(caught.value)
    assert "\n" not in message
    assert "Java 17 or newer" in message
    return message


def test_no_java_at_all_is_told_with_the_remedies():
    message = refusal()
    assert "none was found" in message
    assert "openjdk-17" in message
    assert "JAVA_HOME" in message


def test_a_missing_java_is_for_the_user_to_mend():
    assert issubclass(JavaMissingError, UserError)


@pytest.mark.parametrize(
    "told",
    [
        'openjdk version "17.0.1" 2021-10-19',
        'openjdk version "17" 2021-09-14',
        'openjdk version "21" 2023-09-19',
        'java version "25-ea" 2025-09-16',
        'java version "100.0.1"',
    ],
)
def test_a_java_of_17_or_newer_is_taken_as_it_is(java, told):
    java(told)
    require_java()
    assert "JAVA_HOME" not in os.environ


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ('openjdk version "11.0.2" 2019-01-15', 11),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "16.0.2"', 16),
        ('java version "9"', 9),
    ],
)
def test_an_older_java_is_refused_with_its_version(java, told, version):
    path = java(told)
    assert f"{path} is version {version}." in refusal()


@pytest.mark.parametrize(("told", "code"), [("no such thing", 0), ("", 1)])
def test_a_java_that_tells_no_version_is_none(java, told, code):
    java(told, code=code)
    assert "none was found" in refusal()


def test_a_version_on_standard_output_counts_too(java):
    path = java("")
    path.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"'\n")
    require_java()


def test_java_home_goes_before_the_path(java, tmp_path, monkeypatch):
    java('openjdk version "21"')
    old = java('openjdk version "11.0.2"', "home/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert f"{old} is version 11" in refusal()


def test_a_java_home_without_a_java_is_named(java, tmp_path, monkeypatch):
    java('openjdk version "21"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert f"JAVA_HOME={tmp_path}/gone holds none" in refusal()


def test_an_empty_java_home_is_as_none(java, monkeypatch):
    java('openjdk version "21"')
    monkeypatch.setenv("JAVA_HOME", "")
    require_java()


_STARTER = """
from app.errors import UserError
from app.streaming.spark.session import spark_session
try:
    spark_session("packages", packages=["org.one:a:1", "org.two:b:2"])
except UserError as error:
    print(type(error).__name__, error)
"""


def test_packages_are_what_the_jvm_is_launched_with(java, tmp_path, monkeypatch):
    path = java('openjdk version "17"')
    # A java that tells its arguments, and then ends as one does that cannot fetch a package.
    path.write_text(
        f"""#!/bin/sh
echo 'openjdk version "17"' >&2
[ "$1" = -version ] || {{ echo "$@" >> {tmp_path}/arguments; exit 1; }}
"""
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    # Of its own: this process may have a session already.
    told = subprocess.run(
        [sys.executable, "-c", _STARTER],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout.startswith("UserError Spark did not start with org.one:a:1, org.two:b:2; ")
    assert told.stdout.count("\n") == 1
    arguments = (tmp_path / "arguments").read_text()
    # Twice: a download that another process has spoilt is tried again.
    assert arguments.count("--conf spark.jars.packages=org.one:a:1,org.two:b:2") == 2
    assert "--conf spark.jars.excludes=org.apache.hadoop:hadoop-client-api," in arguments
