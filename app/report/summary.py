"""What a run did, as text."""

from __future__ import annotations

from typing import Any

from app.config.options import option_name


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Return a run's summary as aligned lines of text."""
    reasons, labels = summary["dead_letters_by_reason"], summary["labels"]
    rows = {
        "rows in": f"{summary['rows_in']:,}",
        "rows scored": f"{summary['rows_scored']:,}",
        "rows learned": f"{summary['rows_learned']:,}",
        "dead letters": _counted(reasons),
        "error, served": _fraction(summary["served_error"]),
        "error, prequential": _fraction(summary["prequential_error"]),
        "model version": str(summary["version"]),
        "state SHA-256": summary["state_sha256"],
        "seconds": f"{summary['seconds']:.1f}, of which {summary['learn_seconds']:.1f} learning",
    }
    if labels["received"]:
        delay = summary["mean_delay_seconds"]
        mean = "-" if delay is None else f"{delay:,.1f}"
        rows["labels in"] = f"{labels['received']:,}, of which {labels['pending']:,} wait"
        rows["dead labels"] = _counted(labels["dead"])
        if dropped := labels["dropped_by"]:
            rows["labels dropped"] = ", ".join(
                f"{count:,} for {option_name(name)}" for name, count in dropped.items()
            )
        rows["label delay"] = f"{mean} s, at most {labels['longest_delay_seconds']:,.1f} s"
    total = summary["total"]
    if total["rows_in"] != summary["rows_in"]:
        rows["rows in, all runs"] = f"{total['rows_in']:,}"
        rows["error, all runs"] = f"{_fraction(total['prequential_error'])}, prequential"
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _counted(reasons: dict[str, int]) -> str:
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return f"{sum(reasons.values()):,}" + (f"  ({why})" if why else "")


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
