"""How late labels came, and what would have the model learn for that."""

from __future__ import annotations

from app.monitor.metrics import RunSummary

_LEAST_ROWS = 2000
"""Rows learned below which the two errors of a run say little of each other."""


def horizon_note(summary: RunSummary) -> str | None:
    """Return what to say of a model without a horizon whose labels come late, if that costs.

    A label is learned at the end of its row's batch at the soonest; in a live stream, it comes
    some time after its event as well.
    """
    run = summary.run
    served, at_once = run.served_error, run.prequential_error
    if served is None or at_once is None or run.rows_learned < _LEAST_ROWS:
        return None
    if served - at_once < max(0.01, 0.1 * at_once):
        return None
    rows = run.rows_scored / max(run.batches, 1)
    if run.mean_delay_seconds:
        rows += run.mean_delay_seconds * run.rows_scored / max(summary.seconds, 1e-9)
    horizon = rounded(rows)
    return (
        f"{served:.4f} of what was served was wrong, and {at_once:.4f} had each label been there "
        f"with the next row: labels came some {horizon:,} rows late. A new model with --horizon "
        f"{horizon} learns for that"
    )


def rounded(rows: float) -> int:
    """Return a number of rows to two digits, at least 1.

    Examples
    --------
    >>> rounded(4968.3), rounded(0.2)
    (5000, 1)
    """
    return max(int(float(f"{rows:.1e}")), 1)
