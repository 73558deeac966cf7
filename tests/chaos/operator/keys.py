"""What may happen to the keys of a model in Redis."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import redis

from app.registry.version import ModelVersion
from tests.unit.damages import alter_header, cut, flip

HEAD = "hbp:{default}:head"
_PREFIX = "hbp:{default}:"

KeyFault = Callable[[redis.Redis, random.Random], str]


def _keys(client: redis.Redis, suffix: str) -> list[bytes]:
    return sorted(client.keys(_PREFIX + suffix))


def flush(client: redis.Redis, rng: random.Random) -> str:
    client.flushall()
    return "FLUSHALL"


def delete(client: redis.Redis, rng: random.Random) -> str:
    key = rng.choice(_keys(client, "*"))
    client.delete(key)
    return f"DEL {key.decode()}"


def wrong_type(client: redis.Redis, rng: random.Random) -> str:
    """Replace a key by one of another type."""
    key = rng.choice([HEAD.encode(), *_keys(client, "*")])
    make = {
        b"hash": lambda: client.set(key, "x"),
        b"string": lambda: client.rpush(key, "x"),
    }.get(client.type(key), lambda: client.sadd(key, "x"))
    client.delete(key)
    make()
    return f"wrong type of {key.decode()}"


def version_03(client: redis.Redis, rng: random.Random) -> str:
    """Write the version in another way that some take for the same number."""
    version = client.hget(HEAD, "version") or b"0"
    forged = rng.choice([b"0" + version, b"+" + version, version + b".0", b" " + version])
    client.hset(HEAD, "version", forged)
    return f"HSET version {forged.decode()!r}"


def forged_snapshot(client: redis.Redis, rng: random.Random) -> str:
    path = rng.choice(["../../../../etc/passwd", "/etc/passwd", "", "v0.safetensors", "a\0b"])
    client.hset(HEAD, "snapshot", path)
    return f"HSET snapshot {path!r}"


def forged_applied(client: redis.Redis, rng: random.Random) -> str:
    applied = json.loads(client.hget(HEAD, "applied") or b"{}")
    query = next(iter(applied), "q")
    forged = rng.choice(
        [{query: 10**6}, {query: -1}, {}, {query: "5"}, {query: None}, {"../x": 1}, [], 10**30]
    )
    client.hset(HEAD, "applied", json.dumps(forged))
    return f"HSET applied {str(forged)[:40]}"


def forged_whole(client: redis.Redis, rng: random.Random) -> str:
    """Forge fields of the record together with the hashes over them."""
    fields = {k.decode(): v.decode() for k, v in client.hgetall(HEAD).items() if k != b"store"}
    record = ModelVersion.from_fields(fields)
    query = next(iter(record.applied), "q")
    change = rng.choice(
        [
            {"applied": record.applied | {query: 10**6}},
            {"applied": {}},
            {"commit": "0" * 16},
            {"snapshot": "v0000000000-0000000000000000.safetensors"},
            {"state_sha256": "0" * 64},
            {"version": record.version + 1},
            {"version": record.version + 1, "parent": record.commit, "commit": "f" * 16},
        ]
    )
    forged = ModelVersion(**{**vars(record), **change})
    client.hset(HEAD, mapping=forged.to_fields())
    return f"forged with its hashes: {', '.join(change)}"


def forged_field(client: redis.Redis, rng: random.Random) -> str:
    name = rng.choice(sorted(client.hkeys(HEAD)))
    value = flip(client.hget(HEAD, name), rng, b"")
    client.hset(HEAD, name, value)
    return f"HSET {name.decode()} {value[:40]!r}"


def lost_field(client: redis.Redis, rng: random.Random) -> str:
    name = rng.choice(sorted(client.hkeys(HEAD)))
    client.hdel(HEAD, name)
    return f"HDEL {name.decode()}"


def epoch_beyond(client: redis.Redis, rng: random.Random) -> str:
    """Set the fence of a query to a number that no float holds, or to none."""
    key = rng.choice(_keys(client, "epoch:*"))
    value = rng.choice(["99999999999999999999", str(2**53 + 1), "9" * 17, "-5", "1e3", "abc", "03"])
    client.set(key, value)
    return f"SET epoch {value}"


def swapped_metadata(client: redis.Redis, rng: random.Random) -> str:
    """Give the newest state other metadata, or take another version's bytes for it."""
    version = int(client.hget(HEAD, "version"))
    key = f"{_PREFIX}state:{version}"
    data = client.get(key) or b""
    older = client.get(f"{_PREFIX}state:{version - 1}")
    if older and rng.random() < 0.3:
        client.set(key, older)
        return "state of the version before in place of the newest"
    client.set(key, _with_metadata(data, rng))
    return "swapped metadata of the newest state"


def damaged_state(client: redis.Redis, rng: random.Random) -> str:
    key = rng.choice(_keys(client, "state:*"))
    damage = rng.choice([cut, flip, alter_header])
    client.set(key, damage(client.get(key), rng, b""))
    return f"{damage.__name__} {key.decode()}"


def _with_metadata(data: bytes, rng: random.Random) -> bytes:
    """Return safetensors with the same arrays, and classes or features in another order."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]
    for name, value in metadata.items():
        for one, other in (("0", "1"), ("x0", "x1")):
            listed = f'"{one}", "{other}"'
            if listed in value:
                metadata[name] = value.replace(listed, f'"{other}", "{one}"')
    metadata["version"] = str(rng.choice([0, 999]))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


KEY_FAULTS: dict[str, KeyFault] = {
    "flushall": flush,
    "delete a key": delete,
    "wrong key type": wrong_type,
    "version 03": version_03,
    "snapshot path forged": forged_snapshot,
    "applied forged": forged_applied,
    "record forged with its hashes": forged_whole,
    "field forged": forged_field,
    "field lost": lost_field,
    "epoch beyond 2^53": epoch_beyond,
    "metadata swapped": swapped_metadata,
    "state damaged": damaged_state,
}
