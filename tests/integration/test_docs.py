"""The README and docs/: their code blocks run as they stand, and their links lead somewhere."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import SkipTest
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.redis_server import RedisServer

# Pages start Spark several times, on a machine that may be busy.
pytestmark = [pytest.mark.spark, pytest.mark.redis, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"bash", "python", "json", "text"}
READERS_REDIS = "127.0.0.1:6379"
# By itself it exits with 0 when the server refuses a command.
STRICT_REDIS_CLI = 'redis-cli() { command redis-cli -e "$@"; }'


@pytest.fixture
def redis_address(tmp_path: Path) -> Iterator[str]:
    """Yield host and port of a server: what listens where the pages say is somebody else's."""
    with RedisServer(tmp_path) as server:
        yield urlsplit(server.url).netloc


def write_rows(directory: Path) -> None:
    """Write what the pages replay, 1,000 rows each: rows.csv, and a Parquet file in rows/."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"amount": rng.gamma(2, 20, size=1000), "age": rng.integers(18, 80, 1000)})
    rows["class"] = np.where(rows["amount"] > rows["age"], "yes", "no")
    rows.to_csv(directory / "rows.csv", index=False)
    orders = pd.DataFrame(rng.normal(size=(1000, 3)), columns=["a", "b", "c"])
    orders["y"] = np.where(orders["a"] > orders["b"], "yes", "no")
    orders["order_id"] = [f"order-{i}" for i in range(1000)]
    orders["ordered_at"] = pd.date_range("2026-01-05", periods=1000, freq="s", tz="UTC")
    (directory / "rows").mkdir()
    orders.to_parquet(directory / "rows" / "orders.parquet", coerce_timestamps="us")


def bash_in(directory: Path, redis_address: str) -> Callable[[Example], str | None]:
    """Return what runs a block in an activated virtual environment, and says how it failed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    others = ("PYSPARK_", "SPARK_", "REDIS_", "EXECUTOR_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}

    def evaluate(example: Example) -> str | None:
        block = example.parsed.replace(READERS_REDIS, redis_address)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{STRICT_REDIS_CLI}\n{block}"],
            cwd=directory,
            env=kept | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return f"exit code {done.returncode}: {done.stderr}" if done.returncode else None

    return evaluate


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_blocks_of_a_page_run(
    page: Path, tmp_path: Path, redis_address: str, monkeypatch: pytest.MonkeyPatch
):
    write_rows(tmp_path)
    monkeypatch.chdir(tmp_path)
    bash = CodeBlockParser("bash", bash_in(tmp_path, redis_address))
    document = Sybil([PythonCodeBlockParser(), bash, SkipParser()]).parse(page)
    for example in document.examples():
        # A block that cannot run here is left out, and the rest of its page is not.
        with contextlib.suppress(SkipTest):
            example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_left_out_has_a_reason(page: Path):
    for example in Sybil([SkipParser()]).parse(page).examples():
        action, reason = example.parsed
        assert (action, bool(reason)) == ("next", True), f"{page}, line {example.line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_in_a_language_that_is_run_or_known_not_to_be(page: Path):
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert set(fences[::2]) <= LANGUAGES
    assert set(fences[1::2]) <= {""}


def test_the_readme_is_for_ten_minutes_and_its_links_lead_somewhere():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
