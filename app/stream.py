"""The live stream as a script: ``spark-submit app/stream.py``."""

import sys
from pathlib import Path

if not __package__:
    # spark-submit puts app/ itself on the path, and not the directory that holds it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from app.cli.main import main

if __name__ == "__main__":
    main("stream")
