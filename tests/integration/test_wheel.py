"""The wheel carries all that the program reads, and its command works away from the source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "app", "udfs")

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel, from a copy: a build leaves files in the source tree."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(source))
    (built,) = wheels.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Install the wheel in a virtual environment of its own; return where its commands are.

    The dependencies are those of this process, since a second TensorFlow and Spark
    would take minutes. They are found by a path file, and path files of the folder
    that it names are not followed: so the source tree, which pip's editable install
    names in one, stays out of sight.
    """
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, symlinks=True)
    scheme = sysconfig.get_paths("venv", vars={"base": str(directory), "platbase": str(directory)})
    dependencies = Path(scheme["purelib"], "dependencies.pth")
    dependencies.write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip("--python", str(directory), "install", "--no-deps", "--ignore-installed", str(wheel))
    return Path(scheme["scripts"])


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    rows = "\n".join(f"{i % 7},{i % 3},{'yes' if i % 7 > 3 else 'no'}" for i in range(300))
    (tmp_path / "rows.csv").write_text(f"a,b,class\n{rows}\n")
    return tmp_path


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr


def run(command: list[str | Path], directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        # Neither the source tree, nor the session that this process may have.
        if not name.startswith(("PYTHONPATH", "PYSPARK_", "SPARK_", "REDIS_"))
    }
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=250
    )


def test_wheel_carries_what_is_no_python(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"app/py.typed", "udfs/py.typed", "app/streaming/spark/log4j2.properties"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "notebooks/"))]


def test_installed_command_replays_a_file_from_another_directory(installed, elsewhere):
    found = run([installed / "python", "-c", "import app, udfs; print(app, udfs)"], elsewhere)
    assert found.stdout.count(str(installed.parent)) == 2, found

    replay = ["replay", "--input", "rows.csv", "--format", "csv", "--label", "class"]
    done = run([installed / "hedgestream", *replay, "--workdir", "run", "--json"], elsewhere)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows_learned"] == 300
    # Without its log settings Spark greets with warnings of its own. The JVM's is no log line.
    assert " WARN " not in done.stderr
    assert "log4j" not in done.stderr
