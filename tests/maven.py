"""Jars from Maven Central, for tests, by the Ivy that comes with pyspark."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pyspark

from app.streaming.spark.packages import resolve_lock

PYSPARK_JARS = Path(pyspark.__file__).parent / "jars"

_IVY = Path.home() / ".ivy2"
_SECONDS = 280
# What Ivy says when a connection fails, as against when a server has no such package.
_UNREACHABLE = re.compile(r"Server access error at url \S+ \((.*)\)|(Host \S+ not found)")


class MavenUnavailable(Exception):
    """Raised when a jar is not at hand and Maven Central cannot be reached."""


def fetch(coordinate: str) -> list[Path]:
    """Return the jars of a package and of all it depends on.

    They are downloaded once, into Ivy's cache.

    Parameters
    ----------
    coordinate : str
        ``group:artifact:version``.

    Raises
    ------
    MavenUnavailable
    """
    found = _IVY / "hedgestream-tests" / coordinate.replace(":", "_")
    with resolve_lock(_IVY):
        if not found.exists() or not all(jar.exists() for jar in _jars(found)):
            _resolve(coordinate, found)
    return _jars(found)


def _jars(file: Path) -> list[Path]:
    return [Path(jar) for jar in file.read_text().strip().split(os.pathsep)]


def _resolve(coordinate: str, found: Path) -> None:
    found.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=found.parent) as directory:
        listed = Path(directory, "listed")
        ivy = next(PYSPARK_JARS.glob("ivy-*.jar"))
        told = subprocess.run(
            [
                "java", f"-Divy.home={_IVY}", "-jar", ivy, "-warn", "-m2compatible",
                "-dependency", *coordinate.split(":"),
                "-confs", "default", "-cachepath", listed,
            ],
            capture_output=True, text=True, timeout=_SECONDS,
        )  # fmt: skip
        if told.returncode or not listed.exists():
            output = told.stdout + told.stderr
            unreachable = _UNREACHABLE.search(output)
            if unreachable:
                reason = unreachable.group(1) or unreachable.group(2)
                raise MavenUnavailable(f"Maven Central cannot be reached: {reason}")
            raise RuntimeError(f"{coordinate} cannot be resolved: {output}")
        # By a rename, so that another run never reads half a list.
        os.replace(listed, found)
