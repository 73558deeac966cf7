"""Packages for the JVM beyond those that pyspark brings."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pyspark

from app.errors import UserError

_LOCK_NAME = "hedgestream.lock"
# Longer than a slow network takes for the ten megabytes of the Kafka connector.
_LOCK_SECONDS = 600.0
_SILENT_SECONDS = 5.0


def kafka_package() -> str:
    """Return the Maven coordinate of the Kafka connector for this Spark.

    Examples
    --------
    >>> kafka_package()
    'org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0'
    """
    # Of the minor's first release: Maven Central does not have the connector of every patch
    # release that PyPI has of pyspark (4.2.1 is one it has not), and the connector's interface
    # with Spark does not change within a minor.
    major, minor = pyspark.__version__.split(".")[:2]
    return f"org.apache.spark:spark-sql-kafka-0-10_2.13:{major}.{minor}.0"


def ivy_directory() -> Path:
    """Return where Spark's Ivy keeps the packages it has fetched.

    It is what ``spark-defaults.conf`` says, or else Spark's own default, but below ``$HOME``,
    which Java does not look at.

    Raises
    ------
    UserError
        When there is no home directory.
    """
    configured = _default_of("spark.jars.ivy")
    if configured is not None:
        return Path(configured)
    try:
        return Path.home() / ".ivy2.5.2"
    except RuntimeError as error:
        raise UserError(
            f"packages cannot be fetched for Spark: {error}. Set HOME to a directory that can be "
            "written to, or spark.jars.ivy in spark-defaults.conf"
        ) from error


def _default_of(key: str) -> str | None:
    """Return what ``spark-defaults.conf`` sets, which a launched JVM would read by itself."""
    directory = os.environ.get("SPARK_CONF_DIR")
    if directory is None and "SPARK_HOME" in os.environ:
        directory = os.path.join(os.environ["SPARK_HOME"], "conf")
    if directory is None:
        return None
    try:
        lines = Path(directory, "spark-defaults.conf").read_text().splitlines()
    except OSError:
        return None
    # The properties files of Java: the name ends at white space, '=' or ':'.
    found = [re.fullmatch(rf"\s*{re.escape(key)}\s*[=:\s]\s*(\S+)\s*", line) for line in lines]
    return next((match.group(1) for match in reversed(found) if match), None)


@contextlib.contextmanager
def resolve_lock(
    directory: Path,
    *,
    timeout_seconds: float = _LOCK_SECONDS,
    silent_seconds: float = _SILENT_SECONDS,
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[None]:
    """Let one process at a time fetch packages into a directory of Ivy's.

    Ivy itself locks nothing: of two processes that download the same file, one
    finds it empty or gone and gives up.

    Parameters
    ----------
    directory
        Created when it is missing.
    timeout_seconds
        How long to wait for another process, which needs minutes on a slow network.
    silent_seconds
        How much of that is not worth a word.
    warn
        Called when it takes longer.

    Raises
    ------
    UserError
        When the directory cannot be written to, or another process holds the lock for longer.
    """
    path = directory / _LOCK_NAME
    lock = filelock.FileLock(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=min(silent_seconds, timeout_seconds))
        except filelock.Timeout:
            warn(f"another process fetches packages for Spark, and holds {path}; waiting for it")
            lock.acquire(timeout=timeout_seconds)
    except filelock.Timeout as error:
        raise UserError(
            f"{path} has been held by another process for {timeout_seconds:g} s: it fetches "
            "packages there. Wait for that process, or end it"
        ) from error
    except NotImplementedError:
        # A filesystem without locks: one job at a time is fine there, as it always was.
        yield
        return
    except OSError as error:
        raise UserError(
            f"{directory} cannot keep what is fetched for Spark: {error}. Set HOME to a directory "
            "that can be written to"
        ) from error
    try:
        yield
    finally:
        lock.release()
