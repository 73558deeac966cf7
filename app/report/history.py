"""A model's versions, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.registry.open import version_log_of
from app.registry.version import ModelVersion


def version_history(workdir: Path, model: str | None = None, last: int = 0) -> list[dict[str, Any]]:
    """Return what is known of each version, oldest first.

    Parameters
    ----------
    workdir
    model
        Name of the model; when None, the one that is there.
    last
        How many of the newest versions; 0 for all.

    Raises
    ------
    UserError
        When the directory holds no such model.
    """
    versions = version_log_of(workdir, model)
    newest = versions.newest()
    first = max(0, newest.version + 1 - last) if newest and last > 0 else 0
    return [_entry(record) for record in versions.records(first)]


def history_lines(versions: list[dict[str, Any]]) -> list[str]:
    """Return versions as aligned lines of text."""
    rows = [("version", "made by", "query", "batch", "rows", "error", "SHA-256", "published")]
    for version in versions:
        made_by = version["kind"]
        if made_by == "rollback":
            made_by += f" to {version['to']}"
        error = version["prequential_error"]
        rows.append(
            (
                str(version["version"]),
                made_by,
                (version["query"] or "")[:8],
                _shown(version["batch"]),
                _shown(version["rows_learned"]),
                "" if error is None else f"{error:.4f}",
                version["state_sha256"][:16],
                version["published_at"],
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _entry(record: ModelVersion) -> dict[str, Any]:
    origin = record.origin
    batch = origin.get("record", {})
    rows = batch.get("rows_learned")
    return {
        "version": record.version,
        "kind": origin.get("kind"),
        "query": origin.get("query"),
        "batch": origin.get("batch"),
        "to": origin.get("to"),
        "rows_learned": rows,
        "prequential_error": batch["prequential_errors"] / rows if rows else None,
        "state_sha256": record.state_sha256,
        "published_at": record.published_at,
    }


def _shown(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
