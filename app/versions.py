"""Commands on a model's versions: history, rollback, rebuild."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.console import integer, url_without_password

_Workdir = Annotated[Path, typer.Option(help="Work directory of a run.")]
_Version = Annotated[int, typer.Option(parser=integer, metavar="VERSION", help="Which version.")]
_Model = Annotated[str | None, typer.Option(help="Name of the model.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Last = Annotated[
    int, typer.Option(parser=integer, metavar="INTEGER", help="Only the newest so many; 0: all.")
]
_RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="Redis of the model. Default: that of the run.",
        envvar="REDIS_URL",
        callback=url_without_password,
    ),
]


def history_command(
    workdir: _Workdir, model: _Model = None, last: _Last = 0, as_json: _Json = False
) -> None:
    """List a model's versions: what made each, rows, error, hash and when."""
    from app.monitor.history import history_lines, version_history

    versions = version_history(workdir, model, last)
    if as_json:
        for version in versions:
            print(json.dumps(version))
    else:
        print("\n".join(history_lines(versions)))


def rollback_command(
    workdir: _Workdir,
    to: _Version,
    redis_url: _RedisUrl = None,
    model: _Model = None,
    as_json: _Json = False,
) -> None:
    """Publish an old version's state as a new version; a run may be at work meanwhile."""
    from app.registry.feedback import FeedbackLog
    from app.registry.opening import FEEDBACK, join_model
    from app.registry.rebuild import Rebuilder, roll_back

    with join_model(workdir, redis_url, model) as opened:
        registry = opened.registry
        feedback = FeedbackLog(registry.directory / FEEDBACK)
        rebuilder = Rebuilder(registry.chain, registry.snapshots, feedback)
        record = roll_back(registry, rebuilder, to)
    if as_json:
        print(json.dumps({"version": record.version, "state_sha256": record.state_sha256}))
    else:
        print(f"version {record.version} is the state of version {to}: {record.state_sha256}")


def rebuild_command(
    workdir: _Workdir,
    to: _Version,
    output: Annotated[
        Path | None, typer.Option(help="Write the state there, as safetensors.")
    ] = None,
    model: _Model = None,
    as_json: _Json = False,
) -> None:
    """Learn a past version again from an earlier snapshot, and compare the hashes."""
    from app.durable import write_durably
    from app.model.state import state_sha256, state_to_bytes
    from app.registry.feedback import FeedbackLog
    from app.registry.opening import FEEDBACK, chain_of
    from app.registry.rebuild import Rebuilder
    from app.registry.snapshots import SnapshotStore

    chain = chain_of(workdir, model)
    learned: list[int] = []
    rebuilder = Rebuilder(
        chain,
        SnapshotStore(chain.directory),
        FeedbackLog(chain.directory / FEEDBACK),
        lambda record: learned.append(record.version),
    )
    state, metadata = rebuilder.rebuild(to)
    if output is not None:
        write_durably(output, state_to_bytes(state, metadata))
    told = {"version": to, "state_sha256": state_sha256(state), "versions_learned": len(learned)}
    if as_json:
        print(json.dumps(told))
    else:
        print(
            f"version {to} is {told['state_sha256']}, as published; {len(learned)} versions were "
            "learned again"
        )
