"""Whether entries of a Redis stream went away before they were read.

The last entry that was read is the witness. Redis trims a stream from its oldest
entry on, so while the witness is there no trimming has reached the ones after it.
Once it is gone, what the server says about the stream decides, and in doubt it is
a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.redis_io.client import as_text

BEGINNING = "0-0"
"""Below every entry's id."""


@dataclass(frozen=True)
class Loss:
    """Entries that are gone, or may be.

    Attributes
    ----------
    which
        Names them by their ids.
    why
        How that is known.
    restarted
        Whether the stream has begun anew, with ids below those that were read.
    """

    which: str
    why: str
    restarted: bool = False


def loss_after(witness: str, following: str | None, info: Mapping[str, Any] | None) -> Loss | None:
    """Judge a stream that no longer holds its witness.

    Parameters
    ----------
    witness
        Id of the last entry that was read.
    following
        Id of the first entry after it that is still there, None when there is none.
    info
        What ``XINFO STREAM`` says, or None when there is no such stream.

    Returns
    -------
    Loss or None
        None when nothing can have been lost.

    Examples
    --------
    >>> trimmed = {"last-generated-id": "9-0", "first-entry": ("7-0", {"x": "1"})}
    >>> loss_after("5-0", "7-0", trimmed).which
    'entries after 5-0 and before 7-0 may be gone'
    >>> loss_after("9-0", None, {"last-generated-id": "9-0", "first-entry": None}) is None
    True
    """
    if info is None:
        return Loss(f"entries after {witness} are gone", "there is no such stream any more")
    newest = as_text(info["last-generated-id"])
    if order(newest) < order(witness):
        why = f"its newest id is {newest}, so Redis was emptied or went back to an older copy"
        return Loss(f"entries after {witness} are gone", why, restarted=True)
    if newest == witness:
        return None
    oldest = info.get("first-entry")
    if oldest is None:
        return Loss(
            f"entries after {witness} up to {newest} are gone", "it holds no entry any more"
        )
    why = f"{witness}, the last one read, is no longer there"
    # Not moved by trimming, so of use only where no trimming has come: Redis 7.0 and newer.
    deleted = info.get("max-deleted-entry-id")
    if deleted is not None and order(as_text(oldest[0])) < order(witness):
        deleted = as_text(deleted)
        if order(deleted) <= order(witness):
            return None
        return Loss(f"entries after {witness} are gone", f"{deleted} was deleted")
    end = f"before {following}" if following else f"up to {newest}"
    return Loss(f"entries after {witness} and {end} may be gone", why)


def order(entry_id: str) -> tuple[int, int]:
    """Return what ids are ordered by.

    Examples
    --------
    >>> order("9-10") > order("9-9"), order("10-0") > order("9-0")
    (True, True)
    """
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
