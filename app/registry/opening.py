"""Opening a model: its Redis, its snapshot directory, and who may use a work directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import StorageError, UserError, WorkdirInUseError
from app.registry.chain import VersionChain, model_in
from app.registry.embedded import EmbeddedRedis
from app.registry.head import HeadStore
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention

SNAPSHOTS = "snapshots"
FEEDBACK = "feedback"

_LOCK = ".lock"
_URL = ".redis-url"


@dataclass(frozen=True)
class OpenModel:
    """A model ready for use.

    Attributes
    ----------
    registry : ModelRegistry
        Recovered.
    redis_url : str
        With its password.
    """

    registry: ModelRegistry
    redis_url: str

    def __repr__(self) -> str:
        return f"OpenModel(model={self.registry.heads.model!r})"


@contextlib.contextmanager
def open_model(
    workdir: Path,
    redis_url: str | None,
    model: str,
    *,
    snapshots: Path | None = None,
    retention: Retention | None = None,
) -> Iterator[OpenModel]:
    """Open a model for learning, with a redis-server of its own when no URL is given.

    Parameters
    ----------
    workdir : Path
        Its ``snapshots`` is the model's directory, or a link to it.
    redis_url : str or None
    model : str
    snapshots : Path, optional
        The directory of a model that several work directories share. Taken from
        Redis when the model is there.
    retention : Retention, optional

    Raises
    ------
    WorkdirInUseError
        When another run has a redis-server of its own on the work directory.
    UserError
        When the snapshot directory is another than the model's.
    HedgestreamError
        When the model cannot be brought to its newest version.
    """
    with contextlib.ExitStack() as stack:
        if redis_url is None:
            stack.enter_context(_sole_run(workdir))
            redis_url = stack.enter_context(EmbeddedRedis()).url
            stack.enter_context(_shown_url(workdir / _URL, redis_url))
        yield stack.enter_context(_opened(workdir, redis_url, model, snapshots, retention))


@contextlib.contextmanager
def join_model(
    workdir: Path, redis_url: str | None, model: str | None = None
) -> Iterator[OpenModel]:
    """Open the model of a work directory that a run may be learning at this moment.

    Parameters and errors are those of :func:`open_model`, but a run that has a
    redis-server of its own is joined there.
    """
    model = chain_of(workdir, model).model
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(open_model(workdir, redis_url, model))
        except WorkdirInUseError as in_use:
            try:
                url = (workdir / _URL).read_text()
            except FileNotFoundError:
                # The run is about to begin, or has just ended.
                raise in_use from None
            opened = stack.enter_context(_opened(workdir, url, model, None, None))
        yield opened


def chain_of(workdir: Path, model: str | None = None) -> VersionChain:
    """Return the versions of the model in a work directory, to be looked at only.

    Raises
    ------
    UserError
        When there is none, or none of that name.
    """
    directory = workdir / SNAPSHOTS
    there = model_in(directory)
    if there is None or model not in (None, there):
        which = "model" if model is None else f"model {model!r}"
        raise UserError(f"--workdir: {workdir} holds no {which}")
    return VersionChain(directory, there)


@contextlib.contextmanager
def _opened(
    workdir: Path,
    redis_url: str,
    model: str,
    snapshots: Path | None,
    retention: Retention | None,
) -> Iterator[OpenModel]:
    with contextlib.closing(HeadStore(redis_url, model)) as heads:
        directory = _directory(workdir / SNAPSHOTS, snapshots, heads)
        registry = ModelRegistry(heads, directory, retention)
        record = registry.recover()
        if record is not None:
            registry.snapshots.prune(registry.retention, record.version)
        yield OpenModel(registry, redis_url)


def _directory(own: Path, named: Path | None, heads: HeadStore) -> Path:
    """Return the model's snapshot directory; the work directory links to one elsewhere."""
    told = heads.read_store()
    if own.is_symlink() and not own.exists():
        raise _not_here(heads.model, own.resolve())
    chosen = own if own.exists() else named or Path(told or own)
    if named is not None and chosen is own and not _is_same(named, own):
        raise UserError(f"--snapshots: this work directory has its snapshots in {own.resolve()}")
    try:
        # Checked before anything is made, which the next try would take for the user's choice.
        newest = VersionChain(chosen, heads.model).newest()
        if told and Path(told).is_dir():
            if not _is_same(Path(told), chosen):
                raise UserError(
                    f"--snapshots: model {heads.model!r} keeps its snapshots in {told}, and this "
                    f"work directory has its own in {chosen.resolve()}"
                )
        elif told and newest is None and Path(told).resolve() != own.resolve():
            raise _not_here(heads.model, Path(told))
        chosen.mkdir(parents=True, exist_ok=True)
        if not own.exists():
            own.symlink_to(chosen.resolve())
    except OSError as error:
        raise StorageError(f"{chosen} cannot be used: {error.strerror or error}") from error
    return own


def _is_same(directory: Path, other: Path) -> bool:
    return directory.is_dir() and other.is_dir() and directory.samefile(other)


def _not_here(model: str, directory: Path) -> UserError:
    return UserError(
        f"--snapshots: model {model!r} keeps its snapshots in {directory}, which is not on this "
        "machine; mount it and name it here"
    )


@contextlib.contextmanager
def _sole_run(workdir: Path) -> Iterator[None]:
    """Keep a second run with a redis-server of its own out of the work directory."""
    try:
        lock = open(workdir / _LOCK, "w")
    except OSError as error:
        raise StorageError(f"{workdir} cannot be used: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkdirInUseError(f"--workdir: another run is using {workdir}") from error
        # Of a run that was killed: nobody is to be sent to a server that is gone.
        (workdir / _URL).unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _shown_url(path: Path, url: str) -> Iterator[None]:
    """Tell the URL to other commands of the same user."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(url)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
