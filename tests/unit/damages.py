"""What may happen to bytes: a damage takes them, a source of chance, and other bytes."""

from __future__ import annotations

import json
import random

OTHER_TYPES = [None, True, 0, -1, 1.5, 10**30, "", "5", [], [1], {}, {"q": "1"}, {"q": None}]


def cut(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flip(data: bytes, rng: random.Random, other: bytes) -> bytes:
    if not data:
        return b"\x00"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def zero(data: bytes, rng: random.Random, other: bytes) -> bytes:
    first, last = sorted(rng.choices(range(len(data) + 1), k=2))
    return data[:first] + bytes(last - first) + data[last:]


def empty(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return b""


def replace(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return other


def tear(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Leave it half-written over another."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + other[at:]


def retype(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Leave JSON that parses, with a value of another type somewhere in it."""
    try:
        content = within = json.loads(data)
    except ValueError:
        content = within = None
    while isinstance(within, dict) and within:
        name = rng.choice(sorted(within))
        if not isinstance(within[name], dict) or rng.random() < 0.5:
            within[name] = rng.choice(OTHER_TYPES)
            return json.dumps(content).encode()
        within = within[name]
    return json.dumps(rng.choice(OTHER_TYPES)).encode()


def alter_header(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Leave safetensors bytes that parse, with other metadata or another array's name."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return data
    metadata = header.get("__metadata__", {})
    names = sorted(set(header) - {"__metadata__"})
    change = rng.choice(["value", "more", "less", "none", "name"])
    if change == "value" and metadata:
        metadata[rng.choice(sorted(metadata))] = rng.choice(["", "9", "{}", "no,yes,maybe"])
    elif change == "less" and metadata:
        del metadata[rng.choice(sorted(metadata))]
    elif change == "none":
        header.pop("__metadata__", None)
    elif change == "name" and names:
        header["another"] = header.pop(rng.choice(names))
    else:
        header["__metadata__"] = metadata | {"note": "more"}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


_TO_ANY = [cut, flip, zero, empty, replace, tear]
TO_JSON = [*_TO_ANY, retype]
TO_STATE = [*_TO_ANY, alter_header]
