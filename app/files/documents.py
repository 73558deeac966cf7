"""Small JSON files: read whole, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.errors import DamagedFileError


def parse_json(data: bytes | str) -> Any:
    """Return parsed JSON.

    Raises
    ------
    ValueError
        When it is none, also when it is nested deeper than Python can follow.

    Examples
    --------
    >>> parse_json(b"[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: it is nested too deeply
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, kind: type | tuple[type, ...] = dict) -> Any:
    """Return what a JSON file holds.

    Parameters
    ----------
    path
    kind
        What it must hold.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    DamagedFileError
        When it cannot be read, or holds something else.
    """
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise DamagedFileError(path, str(error)) from error
    if not isinstance(content, kind):
        raise DamagedFileError(path, f"it holds {type(content).__name__}")
    return content


def json_object(line: str) -> dict[str, Any]:
    """Return the JSON object on a line, an empty one when it holds none."""
    try:
        value = parse_json(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
