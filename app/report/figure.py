"""What a run did, as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import UserError
from app.monitor.records import BatchRecord

IMAGE_SUFFIXES = (".png", ".svg", ".pdf")

_MOST_POINTS = 2000
_SUMMED = ("rows_scored", "rows_learned", "served_errors", "prequential_errors")
_ERROR_COLOR, _SERVED_COLOR, _DRIFT_COLOR = "#1f4e8c", "#9a9a9a", "#b03030"


def draw_report(
    records: Sequence[BatchRecord], path: Path, drift_points: Sequence[int] = ()
) -> None:
    """Draw error over rows above alpha by depth over rows, and write it as an image.

    Parameters
    ----------
    records
        What each batch did; at least one learned rows. Of very many, neighbours are drawn as one.
    path
        The image; its suffix chooses the format: .png, .svg or .pdf.
    drift_points
        Rows, counted from 0, to mark.

    Raises
    ------
    UserError
        When matplotlib is not installed, nothing was learned, or the file
        cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "the report needs the package matplotlib: pip install 'hedgestream[report]'"
        ) from error
    if path.suffix not in IMAGE_SUFFIXES:
        raise UserError(f"--output must end in {', '.join(IMAGE_SUFFIXES)}, not '{path.name}'")
    if not any(record.rows_learned for record in records):
        raise UserError("--workdir: nothing has been learned there yet")
    records = _thinned(records)
    edges = np.cumsum([0] + [record.rows_in for record in records])
    alpha = np.array([record.alpha for record in records]).T

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_errors(above, records, edges)
    for row in drift_points:
        for axes in (above, below):
            axes.axvline(row, color=_DRIFT_COLOR, linestyle="--", linewidth=1)
    if drift_points:
        above.plot([], [], color=_DRIFT_COLOR, linestyle="--", linewidth=1, label="drift")
    above.legend(frameon=False, loc="upper right")
    depths = np.arange(alpha.shape[0] + 1) + 0.5
    mesh = below.pcolormesh(edges, depths, alpha, cmap="viridis", vmin=0)
    below.set(xlabel="rows", ylabel="head, shallow to deep")
    below.set_yticks([1, alpha.shape[0]])
    figure.colorbar(mesh, ax=below, label="alpha", pad=0.01)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise UserError(f"--output: {path} cannot be written: {error.strerror}") from error


def _thinned(records: Sequence[BatchRecord]) -> Sequence[BatchRecord]:
    """Return no more records than a picture shows, each the sum of as many batches."""
    together = -(-len(records) // _MOST_POINTS)
    if together <= 1:
        return records
    groups = [records[first : first + together] for first in range(0, len(records), together)]
    return [_summed(group) for group in groups]


def _summed(group: Sequence[BatchRecord]) -> BatchRecord:
    """Return batches as one, with the alpha that was reached after them."""
    sums = {name: sum(getattr(record, name) for record in group) for name in _SUMMED}
    # As one number, without those that were scored too.
    rejected = sum(record.rows_in - record.rows_scored for record in group)
    return dataclasses.replace(group[-1], dead_letters={"any": rejected}, **sums)


def _draw_errors(axes: Any, records: Sequence[BatchRecord], edges: np.ndarray) -> None:
    rows = np.array([record.rows_learned for record in records])
    wrong = np.array([record.prequential_errors for record in records])
    served = np.array([record.served_errors for record in records])
    middles = (edges[:-1] + edges[1:]) / 2
    # A batch without labels has no error, and so leaves a gap.
    some = np.where(rows > 0, rows, np.nan)
    axes.plot(middles, served / some, color=_SERVED_COLOR, linewidth=1, label="served, each batch")
    axes.plot(
        middles, wrong / some, color=_ERROR_COLOR, linewidth=1.5, label="prequential, each batch"
    )
    axes.plot(
        edges[1:],
        np.cumsum(wrong) / np.fmax(np.cumsum(rows), np.nanmin(some)),
        color=_ERROR_COLOR,
        linewidth=1,
        linestyle=":",
        label="prequential, cumulative",
    )
    axes.set(ylabel="error", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
