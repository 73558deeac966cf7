"""Commands on a model's versions: history, rollback, rebuild."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from app.cli.options import PATH, integer, json_option, redis_url_option

_workdir = click.option("--workdir", type=PATH, required=True, help="Work directory of a run.")
_version = click.option("--to", type=integer, metavar="VERSION", required=True, help="Which one.")
_model = click.option("--model", help="Name of the model.")


@click.command()
@_workdir
@_model
@click.option("--last", type=integer, default=0, help="Only the newest so many; 0 for all.")
@json_option()
def history(workdir: Path, model: str | None, last: int, as_json: bool) -> None:
    """List a model's versions: what made each, rows, error, hash and when."""
    from app.report.history import history_lines, version_history

    versions = version_history(workdir, model, last)
    for line in map(json.dumps, versions) if as_json else history_lines(versions):
        print(line)


@click.command()
@_workdir
@_version
@redis_url_option("Redis of the model. If not given, that of the run.")
@_model
@json_option()
def rollback(
    workdir: Path, to: int, redis_url: str | None, model: str | None, as_json: bool
) -> None:
    """Publish an old version's state as a new version; a run may be at work meanwhile."""
    from app.registry.feedback_log import FeedbackLog
    from app.registry.open import join_model
    from app.registry.rebuild import Rebuilder
    from app.registry.rollback import roll_back

    with join_model(workdir, redis_url, model) as opened:
        registry = opened.registry
        feedback = FeedbackLog.of(registry.directory)
        rebuilder = Rebuilder(registry.versions, registry.snapshots, feedback)
        record = roll_back(registry, rebuilder, to)
    if as_json:
        print(json.dumps({"version": record.version, "state_sha256": record.state_sha256}))
    else:
        print(f"version {record.version} is the state of version {to}: {record.state_sha256}")


@click.command()
@_workdir
@_version
@click.option("--output", type=PATH, help="Write the state there, as safetensors.")
@_model
@json_option()
def rebuild(workdir: Path, to: int, output: Path | None, model: str | None, as_json: bool) -> None:
    """Learn a past version again from an earlier snapshot, and compare the hashes."""
    from app.files.atomic import write_durably
    from app.model.state import state_sha256, state_to_bytes
    from app.registry.feedback_log import FeedbackLog
    from app.registry.open import version_log_of
    from app.registry.rebuild import Rebuilder
    from app.registry.snapshots import SnapshotStore

    versions = version_log_of(workdir, model)
    learned: list[int] = []
    rebuilder = Rebuilder(
        versions,
        SnapshotStore(versions.directory),
        FeedbackLog.of(versions.directory),
        lambda record: learned.append(record.version),
    )
    state, metadata = rebuilder.rebuild(to)
    if output is not None:
        write_durably(output, state_to_bytes(state, metadata))
    sha256, count = state_sha256(state), len(learned)
    if as_json:
        print(json.dumps({"version": to, "state_sha256": sha256, "versions_learned": count}))
    else:
        print(f"version {to} is {sha256}, as published; {count} versions were learned again")
