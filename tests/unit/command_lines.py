"""Command lines, run in the process of a test."""

from __future__ import annotations

CSV = "id,x0,x1,y\na,1,2,0\nb,3,4,1\n"


def replay_with(**options) -> list[str]:
    given = {"input": "in.csv", "format": "csv", "label": "y", "workdir": "w"} | options
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in given.items())
    return ["replay", *(part for pair in pairs for part in pair if pair[1] is not None)]
