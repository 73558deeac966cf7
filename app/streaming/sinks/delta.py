"""A Delta table that each batch of a query is appended to once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from app.errors import StorageError, UserError
from app.files.delta_log import require_deltalake

if TYPE_CHECKING:
    from deltalake import DeltaTable

_TRIES = 10


def append_to_delta(table_path: str | Path, rows: pa.Table, *, query: str, batch: int) -> bool:
    """Append a batch to a Delta table, unless an earlier try did.

    The commit that adds the rows also records the batch as the newest of its query
    (Delta's ``txn`` action, application ``hedgestream-<query>``), so both are there
    or neither. Other writers may append at the same time.

    Parameters
    ----------
    table_path
        Created with the first rows when it is missing.
    rows
        None, and nothing is written.
    query
        Id of the query. A new checkpoint has a new one, and starts at batch 0 again.
    batch
        Above those that the query appended before.

    Returns
    -------
    bool
        Whether this call wrote the rows.

    Raises
    ------
    UserError
        When the table's columns are others, or the path is no place for a table.
    StorageError
        When the table cannot be written.

    References
    ----------
    Delta transaction log protocol, "Transaction Identifiers".
    """
    require_deltalake(f"Delta table {table_path}")
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError, DeltaError

    if not len(rows):
        return False
    path = Path(table_path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, and a Delta table is a directory; name another path")
    rows = _in_microseconds(rows)
    application = f"hedgestream-{query}"
    properties = CommitProperties(app_transactions=[Transaction(application, batch)])
    failure: Exception | None = None
    for _ in range(_TRIES):
        try:
            if not DeltaTable.is_deltatable(str(path)):
                _create(path, rows)
            table = DeltaTable(path)
            newest = table.transaction_version(application)
            if newest is not None and batch <= newest:
                return False
            _check_columns(rows, table, path)
            # On the version of which the record was read: a commit since then that
            # recorded a batch of the query is a conflict.
            write_deltalake(table, rows, mode="append", commit_properties=properties)
            return True
        except CommitFailedError as error:
            # Another try of this batch, or many other writers: the table shows which.
            failure = error
        except (DeltaError, OSError) as error:
            raise StorageError(f"Delta table {path} cannot be written: {error}") from error
    raise StorageError(
        f"Delta table {path} cannot be written: {_TRIES} tries met other writers: {failure}"
    )


def _create(path: Path, rows: pa.Table) -> None:
    """Create an empty table, unless another writer does.

    Not with the rows: two writers that create a table both succeed, the second as
    version 1, and no record is looked at.
    """
    from deltalake import CommitProperties, DeltaTable, Schema
    from deltalake.exceptions import DeltaError

    schema = Schema.from_arrow(rows.schema)
    once = CommitProperties(max_commit_retries=0)
    try:
        DeltaTable.create(path, schema, mode="error", commit_properties=once)
    except DeltaError:
        if not DeltaTable.is_deltatable(str(path)):
            raise


def _in_microseconds(rows: pa.Table) -> pa.Table:
    """Return rows with the timestamps that Delta has."""
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type)
        else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields), safe=False)


def _check_columns(rows: pa.Table, table: DeltaTable, path: Path) -> None:
    """Refuse rows without the table's very columns and types. Their order does not matter."""
    from deltalake import Schema

    there = {field.name: field.type for field in table.schema().fields}
    given = {field.name: field.type for field in Schema.from_arrow(rows.schema).fields}
    faults = [f"lacks column '{name}'" for name in there if name not in given]
    for name, type_ in given.items():
        if name not in there:
            faults.append(f"has a column '{name}' that the table has not")
        elif type_ != there[name]:
            faults.append(f"has column '{name}' as {_text(type_)}, not {_text(there[name])}")
    if faults:
        raise UserError(
            f"Delta table {path} has other columns than the rows to append: a row "
            f"{', '.join(faults)}. Name another table"
        )


def _text(type_: object) -> str:
    return getattr(type_, "type", str(type_))
