"""A Delta table's log: the files of its rows, and the commits that added them.

Tables are on a local or mounted filesystem: commits are read from ``_delta_log``
directly, since a poll of the next one must cost no more than opening a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from app.errors import UserError
from app.files.documents import json_object, parse_json

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LOG = "_delta_log"
_VERSION = re.compile(r"^(\d{20})\.")
_MAPPING = "delta.columnMapping.mode"


@dataclass(frozen=True)
class Commit:
    """What one version of a table changed.

    Attributes
    ----------
    added
        Data files of new rows, in the commit's order, relative to the table.
    removes_rows
        Whether rows of earlier versions are gone or changed. A compaction does neither.
    is_plain
        False when from here on the table is partitioned, or uses deletion vectors
        or column mapping.
    """

    added: tuple[str, ...]
    removes_rows: bool
    is_plain: bool


def require_deltalake(wanted_by: str) -> None:
    """Make sure that the package deltalake is installed.

    Parameters
    ----------
    wanted_by
        The option that needs it, for the message.

    Raises
    ------
    UserError
        When it is not.
    """
    try:
        import deltalake  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{wanted_by} needs the package deltalake: pip install 'hedgestream[delta]'"
        ) from error


def open_table(path: Path, option: str) -> DeltaTable:
    """Return a table whose data files hold its rows as they are.

    Parameters
    ----------
    path
    option
        The option that named it, for the messages.

    Raises
    ------
    UserError
        When it is no Delta table, or is partitioned, or uses deletion vectors or
        column mapping.
    """
    require_deltalake("--format delta" if option == "--input" else f"{option}: a Delta table")
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(path)
        metadata, features = table.metadata(), table.protocol().reader_features
    except DeltaError as error:
        raise UserError(f"{option}: {path} is not a Delta table: {error}") from error
    if not _is_plain(metadata.partition_columns, features, metadata.configuration):
        raise UserError(f"{option}: {not_plain(path)}")
    return table


def not_plain(path: Path) -> str:
    """Return why a table is refused."""
    return (
        f"Delta table {path} is partitioned or uses deletion vectors or column mapping; "
        "write it to a plain append-only table first"
    )


def snapshot_files(table: DeltaTable, path: Path) -> list[str]:
    """Return the data files of a table's version in the order of their commits.

    They are relative to the table.
    """
    added = pa.table(table.get_add_actions(flatten=True))
    # Commits may share a millisecond, and clocks may go back: the log's order comes first.
    committed = _commit_order(path)
    files = sorted(
        zip(added["path"].to_pylist(), added["modification_time"].to_pylist(), strict=True),
        key=lambda file: (committed.get(file[0], -1), file[1], file[0]),
    )
    return [name for name, _ in files]


def newest_version(path: Path) -> int | None:
    """Return the newest version that the log holds any file of, None when there is no log."""
    try:
        names = [entry.name for entry in (path / _LOG).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    versions = [int(match.group(1)) for match in map(_VERSION.match, names) if match]
    return max(versions, default=None)


def read_commit(path: Path, version: int) -> Commit | None:
    """Return a commit, None when the log does not hold it.

    Raises
    ------
    UserError
        When the commit is there and cannot be read.
    """
    file = path / _LOG / f"{version:020d}.json"
    try:
        actions = [parse_json(line) for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    adds = [action["add"] for action in actions if "add" in action]
    removes = [action["remove"] for action in actions if "remove" in action]
    new = [add for add in adds if add.get("dataChange", True)]
    return Commit(
        added=tuple(unquote(add["path"]) for add in new),
        removes_rows=any(remove.get("dataChange", True) for remove in removes),
        is_plain=all(map(_leaves_plain, actions)),
    )


def _leaves_plain(action: dict[str, Any]) -> bool:
    metadata, protocol = action.get("metaData", {}), action.get("protocol", {})
    return not action.get("add", {}).get("deletionVector") and _is_plain(
        metadata.get("partitionColumns"),
        protocol.get("readerFeatures"),
        metadata.get("configuration"),
    )


def _is_plain(
    partition_columns: list[str] | None,
    features: list[str] | None,
    configuration: dict[str, str] | None,
) -> bool:
    mapping = (configuration or {}).get(_MAPPING, "none")
    refused = {"deletionVectors", "columnMapping"} & set(features or ())
    return not partition_columns and not refused and mapping == "none"


def _commit_order(path: Path) -> dict[str, int]:
    """Return each file's place in the commits that the log still holds."""
    order: dict[str, int] = {}
    for commit in sorted((path / _LOG).glob("*.json")):
        for action in map(json_object, commit.read_text().splitlines()):
            if "add" in action:
                order[unquote(action["add"]["path"])] = len(order)
    return order
