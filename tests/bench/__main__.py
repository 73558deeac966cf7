"""Every benchmark in turn, then one table of their figures: ``python -m tests.bench``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import figures

COMMANDS = (
    ("tests.bench.learner",),
    ("tests.bench.categories",),
    ("tests.bench.rows",),
    ("tests.bench.scorer",),
    ("tests.bench.loop",),
    ("tests.bench.loop", "--scale"),
    ("tests.bench.freshness",),
    ("tests.bench.live",),
)


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "figures"
        path.touch()
        ended = []
        for module, *arguments in COMMANDS:
            print(f"\n{' '.join([module, *arguments])}", flush=True)
            command = [sys.executable, "-m", module, *arguments]
            ended.append(subprocess.run(command, env=figures.environment(path)).returncode)
        print("\n" + figures.table(figures.gathered(path)))
    return max(ended)


if __name__ == "__main__":
    sys.exit(main())
