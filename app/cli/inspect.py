"""The command ``inspect``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import rich_click as click

from app.cli.options import given_options, json_option, settings_options
from app.config.features import InputSettings
from app.config.options import PANELS, Option, parse_path
from app.config.run import settings_from


@dataclass(frozen=True, kw_only=True)
class InspectSettings(InputSettings):
    """What is to be looked at.

    Parameters are those of :class:`~app.config.features.InputSettings`, and this.

    Parameters
    ----------
    output
        File to write the contract to, for --contract. If not given, none is written.
    """

    output: Annotated[Path | None, Option(metavar="FILE", parse=parse_path)] = None


@click.command(
    params=settings_options(InspectSettings),
    panels=[click.RichOptionPanel(title) for title in PANELS],
)
@json_option("Print the contract.")
@click.pass_context
def inspect(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Look at files before anything is learned: what a new model would be made for.

    Shown are each feature's kind, range, missing share and an example, and the classes. What is
    written can be edited, and given to replay and stream as --contract.
    """
    settings = settings_from(InspectSettings, given_options(context, options))
    # Here and not above: options are checked before more is imported.
    from app.inspection.description import as_table
    from app.inspection.document import document_of, with_contract, write_document
    from app.streaming.sources.replay_input import design_of_input, read_input

    settings, given = with_contract(settings)
    found = read_input(settings)
    design = design_of_input(settings, found, given)
    features = found.features
    content = document_of(design, settings, features.n_features if features.is_array else None)
    for note in design.notes:
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(content) if as_json else "\n".join(as_table(design)))
    if settings.output is not None:
        write_document(content, settings.output)
