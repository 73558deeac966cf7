"""The rows of a Parquet file, in its own types, and what stands in place of a damaged one's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from app.files.paths import partition_metadata
from app.files.reading.lengths import refuse_cut


class ParquetRows:
    """The rows of one Parquet file. Reading on from where the last read ended is cheap.

    Attributes
    ----------
    names
        Of all its columns.
    outlasts_damage
        Whether the rest of a file that is damaged inside is one row, after which the position is
        the file's end.
    """

    outlasts_damage = False

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        self._path = path
        self._said = {"format": "parquet", **partition_metadata(path)}
        self._parquet = pq.ParquetFile(path)
        self.names: tuple[str, ...] = tuple(self._parquet.schema_arrow.names)
        times = Counter(self.names)
        self._columns = [name for name in dict.fromkeys(columns) if times[name] == 1]
        self._position = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, row: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        if row != self._position:
            refuse_cut(self._path, row, self._parquet.metadata.num_rows, "rows")
            self._batches, self._rest, self._position = self._batches_from(row), None, row
        taken: list[pa.RecordBatch] = []
        missing = n
        try:
            while missing:
                batch = self._rest or next(self._batches, None)
                if batch is None:
                    break
                taken.append(batch.slice(0, missing))
                self._rest = batch.slice(missing) if len(batch) > missing else None
                missing -= len(taken[-1])
        except (OSError, pa.ArrowException) as error:
            if not self.outlasts_damage or not is_damage(error):
                raise
            self._position = self._parquet.metadata.num_rows
            return [*taken, _damaged(self._path, error)], self._position
        self._position += n - missing
        return taken, self._position

    def ended(self) -> bool:
        n_rows: int = self._parquet.metadata.num_rows
        return self._position >= n_rows

    def close(self) -> None:
        self._parquet.close()

    def _batches_from(self, row: int) -> Iterator[pa.RecordBatch]:
        for group in range(self._parquet.num_row_groups):
            length = self._parquet.metadata.row_group(group).num_rows
            if row >= length:
                row -= length
                continue
            for batch in self._parquet.iter_batches(row_groups=[group], columns=self._columns):
                skipped, row = min(row, len(batch)), row - min(row, len(batch))
                if len(batch) > skipped:
                    yield batch.slice(skipped).replace_schema_metadata(self._said)


class NoParquet:
    """One row, in place of a file that is no Parquet."""

    def __init__(self, path: str, error: Exception) -> None:
        # A directory is no file: it fails here.
        open(path, "rb").close()
        self._row = _damaged(path, error)

    def read(self, row: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        is_due = bool(n and not row)
        return [self._row] if is_due else [], row + is_due

    def ended(self) -> bool:
        return True

    def close(self) -> None:
        pass


def damaged_row(damage: str) -> pa.RecordBatch:
    """Return the one row in place of what cannot be read."""
    said = {"format": "parquet", "damage": damage}
    return pa.record_batch([pa.nulls(1)], pa.schema([("damaged", pa.null())], said))


def _damaged(path: str, error: Exception) -> pa.RecordBatch:
    return damaged_row(f"{path} is damaged: {' '.join(str(error).split())}")


def is_damage(error: Exception) -> bool:
    """Return whether an error lies in a file, not in its disk or in this process."""
    if isinstance(error, OSError):
        return error.errno is None
    return not isinstance(error, (pa.ArrowMemoryError, pa.ArrowCancelled))
