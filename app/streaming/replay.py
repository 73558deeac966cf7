"""A replay: files as a stream, scored and learned batch by batch until they are read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from app.config.rows import RECORD_SETTINGS
from app.config.run import YES, ReplaySettings
from app.contract import FixedContract
from app.errors import UserError
from app.files.finders import NamedFinder
from app.files.manifest import FileManifest
from app.files.reading.beginnings import LIBSVM
from app.files.resuming.checkpoint import Checkpoint
from app.files.resuming.remembered import RememberedSettings
from app.files.sequence import ListDigests, check_read
from app.files.workdir import WorkDirectory
from app.inspection.description import in_short
from app.inspection.document import with_contract
from app.monitor.listener import Listener
from app.monitor.metrics import RunSummary
from app.parsing.row_parser import RowParser
from app.registry.open import OpenModel
from app.streaming.batch_writer import BatchWriter
from app.streaming.feedback.proof import check_no_seen_ids, check_seen_ids
from app.streaming.lineage import FileInput, Input
from app.streaming.model_binding import BoundModel, ModelInput, Roles
from app.streaming.query import StopRequest
from app.streaming.replay_writer import ReplayWriter
from app.streaming.rows.layout import FeatureColumns
from app.streaming.rows.rules import parsing_rules, text_format
from app.streaming.run import run
from app.streaming.sources.replay import read_replay
from app.streaming.sources.replay_input import count_rows, design_of_input, read_input
from app.streaming.spark.conf import QUERY_CONF
from app.streaming.spark.scorers import Scorers

_LEAST_ROWS_PER_TASK = 2000


def replay(
    settings: ReplaySettings,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Replay the input from where the work directory left off, and return what was done.

    Parameters and errors are those of :func:`app.streaming.run.run`.
    """
    settings, given = with_contract(settings)
    return run(_ReplayJob(settings, given), settings, listener, stop)


def scoring_tasks(cores: int, rows_per_batch: int) -> int:
    """Return how many tasks are to score a batch of so many rows.

    The learner has a core to itself, and no task has less to do than it costs.

    >>> [scoring_tasks(cores, rows_per_batch=10_000) for cores in (1, 2, 4, 64)]
    [1, 1, 3, 5]
    """
    return max(1, min(cores - 1, rows_per_batch // _LEAST_ROWS_PER_TASK))


class _ReplayJob:
    """The job of :func:`replay`."""

    name = "hedgestream replay"
    packages: Sequence[str] = ()
    is_short = True
    ends_by_itself = True
    conf = QUERY_CONF

    def __init__(self, settings: ReplaySettings, given: FixedContract | None) -> None:
        self._settings = settings
        self.given = given
        self._files: tuple[str, ...] = ()
        self._tasks = self._rows_per_task = 1
        self._rows_done = 0

    def inspect(self) -> None:
        if self._settings.label is None and self._settings.learn == YES:
            raise UserError("--label: name the column of the class label; the contract names none")
        self._input = read_input(self._settings)

    def checkpoint(self, workdir: WorkDirectory) -> Path:
        return workdir.replay_checkpoint

    def verify(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        if checkpoint.query is None:
            return
        self._remembered(workdir).refuse_others()
        listed = ListDigests(self._manifest(workdir).files)
        for position in checkpoint.offsets():
            if position is not None:
                check_read(
                    position,
                    listed,
                    named=str(workdir.replay_files),
                    encoding=self._settings.encoding,
                )
        if self._settings.id is not None:
            check_seen_ids(
                workdir.seen_ids, checkpoint.query, checkpoint.committed, checkpoint.planned
            )
        else:
            check_no_seen_ids(workdir.seen_ids, checkpoint.query)

    def check(self, opened: OpenModel) -> None:
        """Nothing: a replay finds in its input what a new model needs."""

    def describe(
        self, workdir: WorkDirectory, opened: OpenModel, checkpoint: Checkpoint
    ) -> tuple[ModelInput, Input]:
        settings = self._settings
        label = settings.label if settings.learn == YES else None
        roles = Roles(label, settings.id, settings.time)
        layout = self._input.layout
        self._files = self._input.files
        if checkpoint.query is not None:
            known = self._manifest(workdir).files
            self._files = tuple(dict.fromkeys((*known, *self._files)))
        fed = FileInput(self._files, layout.row_format == "csv" and self._settings.header)
        return ModelInput(layout, self._features(opened), roles), fed

    def design(self, listener: Listener) -> FixedContract:
        design = design_of_input(self._settings, self._input, self.given)
        listener.described(in_short(design))
        for note in design.notes:
            listener.warned(note)
        return design.fixed

    def notes(self) -> Sequence[str]:
        return self._input.notes

    def begin(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        self._rows_done = sum(position["row"] for position in checkpoint.done() if position)
        manifest = self._manifest(workdir)
        listed = manifest.files
        if checkpoint.query is None and listed != list(self._files[: len(listed)]):
            # Without the checkpoint there is no offset that counts the files listed.
            workdir.set_replay_files_aside()
            manifest = self._manifest(workdir)
        self._remembered(workdir).write()
        # Once more when another run has listed files meanwhile.
        while manifest.look():
            pass
        self._files = tuple(manifest.files)

    def rows_to_read(self) -> int | None:
        rows = count_rows(self._files, self._input.layout, text_format(self._settings))
        return None if rows is None else rows - self._rows_done

    def scoring_tasks(self, slots: int) -> tuple[int, int]:
        rows = self._settings.rows_per_batch
        self._tasks = scoring_tasks(slots, rows)
        self._rows_per_task = math.ceil(rows / self._tasks)
        return self._tasks, self._rows_per_task

    def writer(self, workdir: WorkDirectory, bound: BoundModel, scorers: Scorers) -> BatchWriter:
        parser = RowParser(bound.contract, parsing_rules(self._settings))
        return ReplayWriter(workdir, bound.contract, parser, scorers.wanted)

    def rows(
        self, spark: SparkSession, workdir: WorkDirectory, opened: OpenModel, bound: BoundModel
    ) -> DataFrame:
        return read_replay(
            spark,
            self._files,
            self._input.layout,
            rows_per_batch=self._settings.rows_per_batch,
            rows_per_value=self._rows_per_task,
            tasks=self._tasks,
            columns=RowParser(bound.contract).needed,
            text=text_format(self._settings),
        )

    def _features(self, opened: OpenModel) -> FeatureColumns:
        """Return the feature columns. Files of LIBSVM need not reach the last one of the model."""
        found = self._input.features
        is_given = self._settings.features is not None or self._settings.format != LIBSVM
        if is_given or opened.current is None:
            return found
        names = FixedContract.from_metadata(opened.stored.metadata).features
        return dataclasses.replace(found, names=names, n_features=len(names))

    def _remembered(self, workdir: WorkDirectory) -> RememberedSettings:
        names = ("format", "label", "id", "time", *RECORD_SETTINGS)
        settings = {name: getattr(self._settings, name) for name in names}
        return RememberedSettings(workdir.replay_settings, settings)

    def _manifest(self, workdir: WorkDirectory) -> FileManifest:
        table = self._settings.input if self._settings.format == "delta" else None
        return FileManifest(workdir.replay_files, NamedFinder(self._input.files, table))

    def explain(self, error: Exception) -> str | None:
        return None
