"""What import-linter does not see of the house: sizes, and names of Spark's internals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for room in ("app", "udfs", "tests") for path in (ROOT / room).rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES if path.is_relative_to(ROOT / "app")})

MOST_LINES = 400
MOST_MODULES = 12
SPARK = ROOT / "app" / "streaming" / "spark"
INTERNALS = re.compile(r"\b(sparkContext|_jvm|_jsc|py4j)\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def uses_internals(path: Path) -> bool:
    """Return whether a module names what is internal to Spark."""
    return bool(INTERNALS.search(path.read_text()))


def test_the_house_was_found():
    assert ROOT / "app" / "model" / "learner.py" in MODULES
    assert any(uses_internals(path) for path in SPARK.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_short_enough_to_be_read(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_folder_has_few_enough_modules_to_be_found_in(folder):
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES


def test_internals_of_spark_are_named_in_one_place():
    elsewhere = [
        name(path)
        for path in MODULES
        if path.is_relative_to(ROOT / "app") or path.is_relative_to(ROOT / "udfs")
        if not path.is_relative_to(SPARK) and uses_internals(path)
    ]
    assert elsewhere == []
