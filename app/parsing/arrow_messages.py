"""Rows of Arrow IPC streams that come as messages, from senders that nobody vouches for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pyarrow as pa

from app.files.reading.parquet_rows import damaged_row
from app.files.sequence import numbered

ROW_BITS = 10
MAX_ROWS_PER_MESSAGE = 1 << ROW_BITS


def rows_of_message(message: bytes | None) -> list[pa.RecordBatch] | None:
    """Return the rows of one message, or None when it is no stream of rows.

    Parameters
    ----------
    message
        One Arrow IPC stream of at most 1,024 rows, and nothing after it.

    Examples
    --------
    >>> rows_of_message(b"x=1") is None
    True
    """
    if message is None:
        return None
    source = pa.BufferReader(message)
    try:
        with pa.ipc.open_stream(source) as reader:
            batches, missing = [], MAX_ROWS_PER_MESSAGE
            for batch in reader:
                missing -= len(batch)
                if missing < 0:
                    return None
                # Offsets that point out of the message are not looked at otherwise.
                batch.validate(full=True)
                batches.append(batch)
            return batches if source.tell() == len(message) else None
    # What a forged message may raise is not listed anywhere, and none may stop the stream.
    except Exception:
        return None


def numbered_rows(
    sequences: pa.Array, messages: pa.Array, merged: int = 10_000
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of messages, those of one schema together.

    Parameters
    ----------
    sequences : int64
        Number of the first row of each.
    messages : binary
        One that is no stream of rows gives one row that cannot be parsed.
    merged
        Rows of one batch, at most but for those of the last message.
    """
    ready: list[pa.RecordBatch] = []
    for first, message in zip(sequences.to_pylist(), messages.to_pylist(), strict=True):
        rows = rows_of_message(message)
        if rows is None:
            yield from _merged(ready)
            ready = []
            yield numbered(damaged_row("it is no Arrow stream of at most 1,024 rows"), first)
            continue
        before = itertools.accumulate(map(len, rows), initial=first)
        for raw, number in zip(rows, before, strict=False):
            batch = numbered(raw.replace_schema_metadata({"format": "parquet"}), number)
            if ready and batch.schema != ready[0].schema:
                yield from _merged(ready)
                ready = []
            ready.append(batch)
        if sum(map(len, ready)) >= merged:
            yield from _merged(ready)
            ready = []
    yield from _merged(ready)


def _merged(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return [pa.concat_batches(batches)] if batches else []
