"""The command ``compact``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import rich_click as click

from app.cli.options import PATH, json_option, number
from app.config.validation import require_above_0

_HELP = "Remove those of batches written more than so many days ago."


@click.command()
@click.option("--workdir", type=PATH, required=True, help="Work directory of a run.")
@click.option("--keep-predictions", type=number, metavar="DAYS", help=_HELP)
@click.option("--keep-dead-letters", type=number, metavar="DAYS", help=_HELP)
@json_option()
def compact(
    workdir: Path, keep_predictions: float | None, keep_dead_letters: float | None, as_json: bool
) -> None:
    """Merge the small files of older batches; a run may be at work meanwhile.

    What readers see stays the same, apart from what is told to be removed. A read that began before
    may have to begin again.
    """
    kept = {"keep_predictions": keep_predictions, "keep_dead_letters": keep_dead_letters}
    for name, days in kept.items():
        if days is not None:
            require_above_0(name, days)
    from app.registry.packs.compaction import compact
    from app.registry.packs.upkeep import KeptDays

    done = compact(workdir, KeptDays(keep_predictions, keep_dead_letters))
    for problem in done.problems:
        print(f"note: {problem}", file=sys.stderr)
    if as_json:
        print(json.dumps(dataclasses.asdict(done)))
        return
    for what, merged, removed in (
        ("predictions", done.predictions, done.removed.predictions),
        ("dead letters", done.dead_letters, done.removed.dead_letters),
    ):
        print(f"{what:<13} {merged.files:,} files merged into {merged.into:,}; {removed:,} removed")
    print(f"{'versions':<13} {done.versions:,} records packed")
    print(f"{'feedback':<13} {done.feedback:,} batches packed")
