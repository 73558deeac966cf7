"""A planner of a data source that outlives its query ends without a word."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
from app.streaming.spark.runtime import end_with_the_jvm_quietly
end_with_the_jvm_quietly()
raise {error}
"""


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        ("BrokenPipeError(32, 'x')", False),
        ("ConnectionResetError()", False),
        ("ValueError(1)", True),
    ],
)
def test_a_lost_connection_is_no_trace_and_a_fault_is(error, is_told):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is is_told
