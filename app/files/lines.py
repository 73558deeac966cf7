"""Single lines of CSV and JSON, read in Python to find out what an input holds.

The rows themselves are parsed by Spark. A line that cannot be read here is
passed over: it becomes a dead letter when its turn comes.
"""

from __future__ import annotations

import csv
import io
from typing import Any

from app.files.documents import parse_json


def csv_cells(line: str) -> list[str]:
    """Return a line's cells, none when it cannot be read. An open quote ends with its line."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def json_object(line: str) -> dict[str, Any]:
    """Return the JSON object on a line, an empty one when it holds none."""
    try:
        value = parse_json(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def csv_line(cells: list[str]) -> str:
    """Return cells as a line, quoted where they must be."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
