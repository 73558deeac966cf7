"""Proof that a file beside a checkpoint belongs to the checkpoint's position.

A file that was removed, emptied or restored from another day than its checkpoint looks
like a fresh start: rows would be learned twice, or labels wait in vain.
"""

from __future__ import annotations

from pathlib import Path

from app.errors import UserError
from app.streaming.feedback.ledger_file import position_of
from app.streaming.feedback.seen_ids import Taken, taken_by


def check_ledger(path: Path, committed: int | None, planned: int | None) -> None:
    """Refuse a ledger that is not its checkpoint's. Nothing is made or changed.

    Parameters
    ----------
    path
        Where the ledger of the checkpoint's query is, or should be.
    committed, planned
        The last batch that the checkpoint has committed, and planned; None when there is none.

    Raises
    ------
    UserError
        When it is missing, or belongs to another batch.
    StorageError, DamagedFileError
        When it cannot be read.
    NewerFormatError
    """
    entered = position_of(path) if path.exists() else None
    if entered is None and committed is not None:
        raise _nothing_in(path, "what became of its events and labels", committed)
    _check(path, entered, committed, planned)


def check_seen_ids(path: Path, query: str, committed: int | None, planned: int | None) -> None:
    """Refuse a file of seen ids that is not its checkpoint's. Nothing is made or changed.

    Parameters
    ----------
    path
    query
        One that takes ids from a column.
    committed, planned
        As in :func:`check_ledger`.

    Raises
    ------
    UserError
        When it is missing, knows nothing of the query, or belongs to another batch.
    StorageError, DamagedFileError
        When it cannot be read.
    """
    taken = taken_by(path, query)
    if taken.batch is not None:
        _check(path, taken.batch, committed, planned)
    # An older release has not written down how far it got.
    elif committed is not None and not taken.has_ids:
        raise _nothing_in(
            path, "which ids were taken", committed, ", or leave out --id if it began without"
        )


def check_no_seen_ids(path: Path, query: str) -> None:
    """Refuse to go on without ids where a query has taken them from a column.

    Raises
    ------
    UserError
        When it has.
    StorageError, DamagedFileError
        When the file cannot be read.
    """
    if taken_by(path, query) != Taken():
        raise UserError(
            "--id is not given, but the checkpoint of this work directory was begun with one: "
            f"{path} holds the ids. Name the column again, or begin anew in another --workdir"
        )


def _check(path: Path, entered: int | None, committed: int | None, planned: int | None) -> None:
    if entered is None:
        return
    if committed is not None and entered < committed:
        raise UserError(
            f"{path} belongs to batch {entered}, but the checkpoint has committed batch "
            f"{committed}: restore the copy that belongs to the checkpoint, or begin anew in "
            "another --workdir"
        )
    if planned is None or entered > planned:
        newest = "none" if planned is None else f"none after batch {planned}"
        raise UserError(
            f"{path} belongs to batch {entered}, but the checkpoint has planned {newest}: it is "
            "an older copy. Restore the one that belongs to the file, or begin anew in another "
            "--workdir"
        )


def _nothing_in(path: Path, what: str, committed: int, otherwise: str = "") -> UserError:
    return UserError(
        f"{path} does not say {what}, but the checkpoint has committed batch {committed}: restore "
        f"it from a copy{otherwise}, or begin anew in another --workdir"
    )
