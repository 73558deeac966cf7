"""Inputs of replays, and what is found in them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from app.config.run import ReplaySettings
from app.errors import UserError
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.streaming.sources.replay_input import ReplayInput, count_rows, read_input

CSV = "id,t,x0,x1,y\na,1,0.5,2,0\nb,2,1.5,3,1\n"
TABLE = pa.table({"x": [0.5, 1.5], "y": [0, 1]})


def settings(path, file_format="csv", **options) -> ReplaySettings:
    named = {"label": "y", "workdir": Path("unused")} | options
    return ReplaySettings(input=path, format=file_format, **named)


def input_of(path, file_format="csv", **options) -> ReplayInput:
    return read_input(settings(path, file_format, **options))


def rows_of(found: ReplayInput, text: TextFormat = AS_USUAL) -> int | None:
    return count_rows(found.files, found.layout, text)


def refusal(path, file_format="csv", **options) -> str:
    with pytest.raises(UserError) as caught:
        input_of(path, file_format, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def json_lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
