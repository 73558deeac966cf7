"""Opening a model: its Redis and its snapshot directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.config.run import EXIT
from app.errors import ModelNotFoundError, StorageError, UserError, WorkdirInUseError
from app.files.runs import claimed
from app.files.workdir import WorkDirectory, check_format
from app.model.state import State
from app.redis_io.embedded import EmbeddedRedis
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention, StoredState
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog, model_in

_URL = ".redis-url"


class OpenModel:
    """A model ready for use.

    Attributes
    ----------
    registry
    redis_url
        With its password.
    """

    def __init__(self, registry: ModelRegistry, redis_url: str) -> None:
        self.registry = registry
        self.redis_url = redis_url
        self._recovered = registry.recover_state()

    @property
    def current(self) -> ModelVersion | None:
        """The version that was current when the model was opened or created.

        None before it is created. What is current later is asked of the registry.
        """
        return self._recovered[0] if self._recovered else None

    @property
    def version(self) -> ModelVersion:
        """The same of a model that exists.

        Raises
        ------
        ModelNotFoundError
            Before it is created.
        """
        return self._existing()[0]

    @property
    def stored(self) -> StoredState:
        """The state of ``version``, read and checked when the model was opened or created.

        Raises
        ------
        ModelNotFoundError
            Before it is created.
        """
        return self._existing()[1]

    def create(self, state: State, metadata: Mapping[str, str]) -> ModelVersion:
        """Publish version 0, or leave another learner's, and return what is then current."""
        version = self.registry.create(state, metadata)
        self._recovered = version, self.registry.read(version)
        return version

    def _existing(self) -> tuple[ModelVersion, StoredState]:
        if not self._recovered:
            raise ModelNotFoundError(f"model {self.registry.model!r} has not been created yet")
        return self._recovered

    def __repr__(self) -> str:
        return f"OpenModel(model={self.registry.model!r})"


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
    workdir
        Its ``snapshots`` is the model's directory, or a link to it.
    redis_url
    model
        Its name.
    snapshots
        The directory of a model that several work directories share. Taken from
        Redis when the model is there.
    retention

    Raises
    ------
    UserError
        When the snapshot directory is another than the model's.
    HedgestreamError
        When the model cannot be brought to its newest version.
    """
    with contextlib.ExitStack() as stack:
        if redis_url is None:
            redis_url = stack.enter_context(EmbeddedRedis()).url
            stack.enter_context(_published_url(workdir / _URL, redis_url))
        yield stack.enter_context(_opened(workdir, redis_url, model, snapshots, retention))


@contextlib.contextmanager
def join_model(
    workdir: Path, redis_url: str | None, model: str | None = None
) -> Iterator[OpenModel]:
    """Open the model of a work directory that a run may be learning at this moment.

    Parameters and errors are those of :func:`open_model`, but a run that has a
    redis-server of its own is joined there.
    """
    model = version_log_of(workdir, model).model
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(claimed(workdir, EXIT))
        except WorkdirInUseError:
            # A run without one of its own is at the Redis that the caller names.
            with contextlib.suppress(FileNotFoundError):
                redis_url = redis_url or (workdir / _URL).read_text()
            if redis_url is None:
                # The run is about to begin, or has just ended.
                raise
            opened = stack.enter_context(_opened(workdir, redis_url, model, None, None))
        else:
            opened = stack.enter_context(open_model(workdir, redis_url, model))
        yield opened


def version_log_of(workdir: Path, model: str | None = None) -> VersionLog:
    """Return the version log of the model in a work directory, to be looked at only.

    Raises
    ------
    UserError
        When there is none, or none of that name, or the directory is of a newer format.
    """
    check_format(workdir)
    directory = WorkDirectory(workdir).snapshots
    there = model_in(directory)
    if there is None or model not in (None, there):
        which = "model" if model is None else f"model {model!r}"
        raise UserError(f"--workdir: {workdir} holds no {which}")
    return VersionLog(directory, there)


@contextlib.contextmanager
def _opened(
    workdir: Path,
    redis_url: str,
    model: str,
    snapshots: Path | None,
    retention: Retention | None,
) -> Iterator[OpenModel]:
    with contextlib.closing(RedisVersionStore(redis_url, model)) as store:
        directory = _directory(WorkDirectory(workdir).snapshots, snapshots, store)
        registry = ModelRegistry(store, directory, retention)
        opened = OpenModel(registry, redis_url)
        if opened.current is not None:
            registry.prune(opened.current.version)
        yield opened


def _directory(own: Path, named: Path | None, store: RedisVersionStore) -> Path:
    """Return the model's snapshot directory; the work directory links to one elsewhere."""
    known = store.read_snapshot_directory()
    if own.is_symlink() and not own.exists():
        raise _not_here(store.model, own.resolve())
    chosen = own if own.exists() else named or Path(known or own)
    if named is not None and chosen is own and not _is_same(named, own):
        raise UserError(f"--snapshots: this work directory has its snapshots in {own.resolve()}")
    try:
        # Checked before anything is made, which the next try would take for the user's choice.
        newest = VersionLog(chosen, store.model).newest()
        if known and Path(known).is_dir():
            if not _is_same(Path(known), chosen):
                raise UserError(
                    f"--snapshots: model {store.model!r} keeps its snapshots in {known}, and this "
                    f"work directory has its own in {chosen.resolve()}"
                )
            if newest is None and chosen not in (own, named):
                raise UserError(
                    f"--snapshots: Redis says that model {store.model!r} keeps its snapshots in "
                    f"{known}, and no model is there; name the directory here"
                )
        elif known and newest is None and Path(known).resolve() != own.resolve():
            raise _not_here(store.model, Path(known))
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
def _published_url(path: Path, url: str) -> Iterator[None]:
    """Let other commands of the same user find the URL."""
    # In place of what a run left that was killed, or hangs: nobody is to be sent to its server.
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(url)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.read_text() == url:
                path.unlink()
