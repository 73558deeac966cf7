"""Rows from a Redis stream, read from any position and read again.

A position is ``{"id": i, "row": r}``: the entry that was read last and how many
were handed out up to it. Positions are the offsets of the Redis source.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

from redis.exceptions import ResponseError

from app.errors import DataLossError, RegistryError, UserError
from app.redis_io.client import Server, as_text
from app.redis_io.stream_loss import BEGINNING, Loss, loss_after, order

PIECE = 10_000
"""Entries that one call to Redis returns at most: other clients wait for it."""

TIMEOUT_SECONDS = 10.0

ROW_FIELD = b"json"
"""An entry with this field alone holds the whole row in it, as JSON."""

Position = dict[str, Any]
Entry = tuple[bytes, dict[bytes, bytes]]

T = TypeVar("T")

START: Position = {"id": BEGINNING, "row": 0}

_KEPT = "surrogateescape"

logger = logging.getLogger(__name__)


class RedisStream:
    """The entries of one Redis stream, each as one JSON object.

    A stream that does not exist yet is an empty one. Of entries deleted one by one
    (``XDEL``) before they were read nothing is noticed while the one before them,
    the last that was read, is there.

    Parameters
    ----------
    url
    key
    fail_on_data_loss
        Whether entries that are gone, or may be, are an error. Otherwise they are
        logged, once, and passed over.
    timeout
        Seconds to wait for a connection, and for a reply.

    Raises
    ------
    RegistryUnavailableError
        From every method, while Redis cannot be reached or cannot serve.
    UserError
        From every method, when the key holds something else than a stream.
    DataLossError
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        fail_on_data_loss: bool = True,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._server = Server(url, timeout)
        self._redis = self._server.client
        self._key = key
        self._fail_on_data_loss = fail_on_data_loss
        self._passed_over: str | None = None

    def read(self, start: Position, n: int, last: str = "+") -> tuple[list[bytes], Position]:
        """Return at most ``n`` entries after ``start``, and the position after them.

        Parameters
        ----------
        start
        n
        last
            Id of the last entry to read; ``+`` is the newest.
        """
        texts: list[bytes] = []
        after = start["id"]
        while len(texts) < n:
            wanted = min(n - len(texts), PIECE)
            entries, witnessed = self._after(after, wanted, last)
            if not witnessed:
                if texts:
                    # For the next read to judge: this one must be a range that can be read again.
                    break
                entries = self._unwitnessed(after, entries, wanted, last)
            texts += [_as_row(fields) for _, fields in entries]
            if entries:
                after = as_text(entries[-1][0])
            if len(entries) < wanted:
                break
        return texts, {"id": after, "row": start["row"] + len(texts)}

    def between(self, start: Position, end: Position) -> list[bytes]:
        """Return the entries after ``start`` up to ``end`` again.

        Entries that are gone are missing in the list. They are mostly the oldest, so
        those that are left are best numbered backwards from ``end``.
        """
        if start["row"] == end["row"]:
            # Nothing was read: the reader was held back.
            return []
        began_anew = order(start["id"]) >= order(end["id"])
        after = BEGINNING if began_anew else start["id"]
        texts: list[bytes] = []
        while True:
            entries = self._range(f"({after}", end["id"], PIECE)
            texts += [_as_row(fields) for _, fields in entries]
            if len(entries) < PIECE:
                break
            after = as_text(entries[-1][0])
        expected = end["row"] - start["row"]
        if len(texts) != expected:
            span = f"after {start['id']} up to {end['id']}"
            which = f"of the {expected} entries {span}, {max(0, expected - len(texts))} are gone"
            self._lost(Loss(which, f"it now holds {len(texts)} there"), start["id"])
        return texts[max(0, len(texts) - expected) :]

    def last_id(self) -> str:
        """Return the id of the newest entry that ever was, ``0-0`` before the first."""
        info = self._info()
        return BEGINNING if info is None else as_text(info["last-generated-id"])

    def close(self) -> None:
        self._server.close()

    def _after(self, after: str, n: int, last: str) -> tuple[list[Entry], bool]:
        """Return at most ``n`` entries after an id, and whether that one's is still there."""
        if after == BEGINNING:
            return self._range("-", last, n), True
        # Beginning with the witness: it costs no call of its own.
        entries = self._range(after, last, n + 1)
        if entries and as_text(entries[0][0]) == after:
            return entries[1:], True
        return entries[:n], False

    def _unwitnessed(self, witness: str, entries: list[Entry], n: int, last: str) -> list[Entry]:
        """Return the entries to go on with when the witness is gone."""
        following = as_text(entries[0][0]) if entries else None
        loss = loss_after(witness, following, self._info())
        if loss is not None:
            self._lost(loss, witness)
            if loss.restarted:
                return self._range("-", last, n)
        return entries

    def _lost(self, loss: Loss, witness: str) -> None:
        what = f"Redis stream {self._key!r}: {loss.which}: {loss.why}"
        if self._fail_on_data_loss:
            raise DataLossError(f"{what}; --no-fail-on-data-loss goes on without them")
        if self._passed_over != witness:
            self._passed_over = witness
            logger.warning("%s; going on without them", what)

    def _range(self, first: str, last: str, n: int) -> list[Entry]:
        entries = self._call(lambda: self._redis.xrange(self._key, first, last, n))
        return cast("list[Entry]", entries)

    def _info(self) -> dict[str, Any] | None:
        def info() -> dict[str, Any] | None:
            try:
                return self._redis.xinfo_stream(self._key)
            except ResponseError as error:
                if "no such key" in str(error):
                    return None
                raise

        return self._call(info)

    def _call(self, command: Callable[[], T]) -> T:
        try:
            return self._server.call(command)
        except RegistryError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise UserError(
                f"redis:{self._key}: the key {self._key!r} holds something else than a stream; "
                "name a stream, or a key that is free"
            ) from error


def _as_row(fields: dict[bytes, bytes]) -> bytes:
    if fields.keys() == {ROW_FIELD}:
        return fields[ROW_FIELD]
    # Bytes that are no text stay what they are, so that the row is none.
    row = {_unchanged(name): _unchanged(value) for name, value in fields.items()}
    return json.dumps(row, ensure_ascii=False).encode(errors=_KEPT)


def _unchanged(value: bytes) -> str:
    return value.decode(errors=_KEPT)
