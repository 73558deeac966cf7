"""Rows of Arrow IPC streams that come as messages, from senders that nobody vouches for."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from app.files.sequence import SEQUENCE_COLUMN

MESSAGE_COLUMN = "message"

ROW_BITS = 10
MAX_ROWS_PER_MESSAGE = 1 << ROW_BITS

_ROWS_PER_ARROW_BATCH = 10_000


def rows_of_message(message: bytes | None, schema: pa.Schema) -> pa.Table | None:
    """Return the rows of one message, or None when it is no stream of such rows.

    Parameters
    ----------
    message
        One Arrow IPC stream and nothing after it. Its fields may come in any order
        and in any types whose values those of ``schema`` can hold.
    schema

    Examples
    --------
    >>> schema = pa.schema([("x", pa.float32())])
    >>> rows_of_message(b"x=1", schema) is None
    True
    """
    if message is None:
        return None
    source = pa.BufferReader(message)
    try:
        with pa.ipc.open_stream(source) as reader:
            if sorted(reader.schema.names) != sorted(schema.names):
                return None
            batches, missing = [], MAX_ROWS_PER_MESSAGE
            for batch in reader:
                missing -= len(batch)
                if missing < 0:
                    return None
                # Offsets that point out of the message are not looked at otherwise.
                batch.validate(full=True)
                batches.append(batch)
            if source.tell() != len(message):
                return None
            rows = pa.Table.from_batches(batches, reader.schema).select(schema.names)
            return rows.cast(schema)
    # What a forged message may raise is not listed anywhere, and none may stop the stream.
    except Exception:
        return None


class RowsOfMessages:
    """A function for ``mapInArrow`` that gives the rows of each message.

    Its input has the columns ``sequence`` (int64, of the message's first row) and
    ``message`` (binary). Its output has ``sequence`` (int64, each row's own) and the
    columns of ``schema``. A message that is no stream of such rows gives one row of
    nulls.

    Parameters
    ----------
    schema
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        unusable = pa.table([pa.nulls(1, field.type) for field in self._schema], self._schema)
        ready: list[pa.Table] = []
        n = 0
        for sequence, message in _messages(batches):
            rows = rows_of_message(message, self._schema)
            # Not by truth: a stream of no rows is fine.
            rows = unusable if rows is None else rows
            numbers = pa.array(range(sequence, sequence + len(rows)), pa.int64())
            ready.append(rows.add_column(0, SEQUENCE_COLUMN, numbers))
            n += len(rows)
            if n >= _ROWS_PER_ARROW_BATCH:
                yield from _merged(ready)
                ready, n = [], 0
        if ready:
            yield from _merged(ready)


def _messages(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, bytes | None]]:
    for batch in batches:
        sequences = batch[SEQUENCE_COLUMN].to_pylist()
        messages = batch[MESSAGE_COLUMN]
        for i, sequence in enumerate(sequences):
            yield sequence, messages[i].as_py()


def _merged(tables: list[pa.Table]) -> list[pa.RecordBatch]:
    return list(pa.concat_tables(tables).combine_chunks().to_batches())
