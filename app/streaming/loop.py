"""The micro-batch: score, learn, publish."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame

from app.contract import DIVERGED, NOT_LEARNED
from app.errors import HedgestreamError, StaleLearnerError
from app.model.layer_watch import LayerWatch
from app.model.state import is_finite
from app.monitor.batch_log import BatchLog
from app.monitor.phases import PhaseTimer
from app.monitor.records import BatchRecord
from app.redis_io.retry import OutageRetry
from app.registry.conflict import retry_on_conflict
from app.registry.epochs import Lease
from app.registry.feedback_log import FeedbackLog, LearnedRows
from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion
from app.streaming.background_learner import BackgroundLearner, Learned
from app.streaming.batch_writer import BatchContext, BatchWriter
from app.streaming.rows.labelled import LabelledRows
from app.streaming.spark.runtime import query_of_batch
from app.streaming.steps import WRITTEN, Step

if TYPE_CHECKING:
    from app.model import HBPClassifier

logger = logging.getLogger(__name__)


class MicroBatchLoop:
    """The function that Spark calls with each micro-batch of what its writer takes.

    Parameters
    ----------
    registry
    writer
    log
    metadata
        Goes with every state: model settings and contract.
    classifier
        The learner, in the state of ``base``.
    base
        The version to begin with, unless there is a newer one.
    retry
        Repeats what Redis could not do, for as long as an outage is waited for.
    on_query
        Called with the query's id before its first batch.
    on_batch
        Called with each batch's record when it is done.
    warn
        Called with messages that the user may want to read.
    before_scoring
        Called before each batch is scored. While a worker is still warming up
        Spark would start another, and wait for that one.
    upkeep
        Called after each batch that was logged.
    learns
        Whether labelled rows are learned, or become dead letters ``not_learned``.

    Attributes
    ----------
    failure
        What made the last call raise. Spark wraps it in an error of its own.
    batch
        The last batch that was begun.
    version
        The version that it was begun with.
    began, first_predicted, ended
        When the first batch was begun, when its predictions were written, and when the last
        batch was done, by ``time.perf_counter``.
    """

    def __init__(
        self,
        *,
        registry: ModelRegistry,
        writer: BatchWriter,
        log: BatchLog,
        metadata: Mapping[str, str],
        classifier: HBPClassifier,
        base: ModelVersion,
        retry: OutageRetry,
        on_query: Callable[[str], None],
        on_batch: Callable[[BatchRecord], None],
        warn: Callable[[str], None],
        before_scoring: Callable[[], None] = lambda: None,
        upkeep: Callable[[], None] = lambda: None,
        learns: bool = True,
    ) -> None:
        self.failure: Exception | None = None
        self.batch: int | None = None
        self.version: int | None = None
        self.began: float | None = None
        self.first_predicted: float | None = None
        self.ended: float | None = None
        self._registry = registry
        self._writer = writer
        self._log = log
        self._metadata = dict(metadata)
        self._classifier = classifier
        self._retry = retry
        self._on_query = on_query
        self._on_batch = on_batch
        self._warn = warn
        self._before_scoring = before_scoring
        self._upkeep = upkeep
        self._learns = learns
        self._feedback = FeedbackLog.of(registry.directory)
        self._base: ModelVersion | None = base
        self._lease: Lease | None = None
        self._watch = LayerWatch(classifier.config, warn)
        self._timer = PhaseTimer()
        self._learner = BackgroundLearner(classifier)

    def __call__(self, df: DataFrame, batch: int) -> None:
        now = time.perf_counter()
        self._timer = PhaseTimer()
        if self.began is None:
            self.began = now
        if self.ended is not None:
            self._timer.seconds["between"] = now - self.ended
        self.batch = batch
        try:
            self._process(df, batch)
        except Exception as error:
            self.failure = self.overtaken() or error
            raise
        finally:
            self.ended = time.perf_counter()

    def take_over(self, query: str) -> None:
        """Become the one learner of a query, which is to be started.

        Raises
        ------
        HedgestreamError
            When that cannot be done.
        """
        self._retry(lambda: self._lease_on(query))

    def overtaken(self) -> StaleLearnerError | None:
        """Return the error of a newer learner, if that is why something failed."""
        try:
            if self._lease is not None:
                self._registry.fence(self._lease)
        except StaleLearnerError as stale:
            return stale
        except HedgestreamError:
            pass
        return None

    def _process(self, df: DataFrame, batch: int) -> None:
        """Do one micro-batch: the commit protocol.

        Learning (4) may begin as soon as the labelled rows are on the driver, in a thread of
        its own, while rows are scored with the version before it and written (3). It changes
        nothing but memory, and nothing is published before both are done: so what is scored
        is scored with the newest version published, and what is learned is learned on top of
        it. If that version is no longer the newest, what was learned is dropped and learned
        again.

        1. Fence: stop if a newer learner holds this query's checkpoint. Take over
           the current version, mending Redis if it has lost it.
           *Crash:* nothing was done.
        2. A batch that the version record says was learned is a replay after a crash:
           score and learn nothing, drain the plan, go to 9.
        3. Score the rows; write predictions, then dead letters, each in one step.
           *Crash:* the next try keeps what is written, and scores those rows no more.
        4. Bring the labelled rows to the driver in their total order; record them
           in the feedback log; learn them, or wait until they are learned.
           *Crash:* the next try finds the same rows recorded; learning was in memory.
        5. A state that holds a NaN or an infinity is dropped, and its rows become
           dead letters ``diverged``; go to 9.
           *Crash:* the next try diverges as well, or finds the dead letters written.
        6. Stage the next version: write its snapshot, then its record.
           *Crash:* a file that nothing names; the next try writes the same state.
        7. Publish: compare-and-set in Redis of version, commit and epoch. This is
           the commit. If another learner was first, load its version, learn again
           on top of it, and go to 6.
           *Crash:* ``ModelRegistry.recover`` finds the version in Redis and does 8.
           If Redis is lost too, the batch was not committed and is learned again.
        8. Finalize: create the version's record in the version log, which is what Redis is
           restored from. If another learner's is there, because Redis was lost since 7,
           learn again on top of that one. Then write HEAD.json.
           *Crash:* the next try finds the batch learned (2). A HEAD.json that lags
           is only where the search for the newest record begins.
        9. Log the batch and return, so that Spark commits it.
           *Crash:* the next try finds the batch learned (2), and logs it.
        """
        # Step 1.
        query = query_of_batch(df)
        lease = self._retry(lambda: self._lease_on(query))
        self._fence(lease)
        base = self._take_over(self._retry(lambda: self._registry.current(self._base)))
        self.version = base.version
        self._reached(Step.FENCED)
        # Step 2.
        if base.has_learned(query, batch):
            df.write.format("noop").mode("overwrite").save()
            self._log_again(query, batch)
            return

        # Step 3.
        self._before_scoring()
        self._timer.end("start_up")
        alpha = self._classifier.alpha.tolist()

        def learn_in_background(rows: LearnedRows) -> None:
            is_to_learn = self._learns and not self._writer.files.has_unlearned(query, batch)
            if is_to_learn and len(rows.labels):
                # Until a version is published, what is in hand is neither base nor it.
                self._base = None
                self._learner.begin(rows)

        try:
            context = BatchContext(
                query=query,
                batch=batch,
                version=base,
                timer=self._timer,
                check_fence=lambda: self._fence(lease),
                reached=self._written,
                on_labelled=learn_in_background,
            )
            scored = self._writer.write(df, context)
            record = BatchRecord(
                query=query,
                batch=batch,
                rows_scored=scored.rows,
                rows_stale=scored.rows_stale,
                rows_learned=0,
                dead_letters=scored.dead_letters,
                served_errors=0,
                prequential_errors=0,
                version=base.version,
                alpha=alpha,
                finished_at=_now(),
                seconds=dict(self._timer.seconds),
                labels=scored.labels,
            )
            labelled = scored.labelled
            # Step 4, and 5 to 8 once the rows are learned.
            if not self._learns and len(labelled):
                record = self._leave(df, labelled, record, NOT_LEARNED)
            elif len(labelled):
                self._feedback.write(query, batch, labelled)
                self._timer.end("write")
                self._reached(Step.FEEDBACK_RECORDED)
                record = self._learn(df, labelled, base, lease, record)
        finally:
            # What failed leaves nobody behind who still learns.
            self._learner.wait()
        # Step 9.
        self._fence(lease)
        self._log.write(record)
        self._reached(Step.LOGGED)
        self._upkeep()
        self._timer.end("log")
        self._on_batch(self._timed(record))

    def _reached(self, step: Step) -> None:
        """Mark a step as done, for the debug log and for tests that let a batch die there."""
        logger.debug("%s", step)

    def _written(self, part: str) -> None:
        self.first_predicted = self.first_predicted or time.perf_counter()
        self._reached(WRITTEN[part])

    def _fence(self, lease: Lease) -> None:
        self._retry(lambda: self._registry.fence(lease))

    def _lease_on(self, query: str) -> Lease:
        if self._lease is None or self._lease.query != query:
            lease = self._registry.acquire(query)
            self._on_query(query)
            self._writer.take_over(query)
            self._lease = lease
        return self._lease

    def _take_over(self, current: ModelVersion) -> ModelVersion:
        """Make ``current`` the version in hand."""
        if self._base is None or current.commit != self._base.commit:
            stored = self._retry(lambda: self._registry.read(current))
            self._classifier.set_state(stored.state)
            self._base = current
        return current

    def _log_again(self, query: str, batch: int) -> None:
        """Write the record of a batch that died between its commit and its record."""
        if not self._log.has(query, batch) and (record := self._recorded(query, batch)):
            self._log.write(record)

    def _recorded(self, query: str, batch: int) -> BatchRecord | None:
        """Return the record of a batch that was learned, as its version has it."""
        learned = self._registry.versions.find(query, batch)
        return None if learned is None else BatchRecord.from_dict(learned.origin["record"])

    def _timed(self, record: BatchRecord) -> BatchRecord:
        return dataclasses.replace(record, seconds=record.seconds | self._timer.seconds)

    def _learn(
        self,
        df: DataFrame,
        labelled: LabelledRows,
        base: ModelVersion,
        lease: Lease,
        record: BatchRecord,
    ) -> BatchRecord:
        """Do steps 4 to 8 and return the completed record."""
        if reason := self._writer.files.unlearned_reason(record.query, record.batch):
            return self._leave(df, labelled, record, reason)

        def attempt() -> BatchRecord | None:
            current = self._retry(lambda: self._registry.current(base))
            if current.has_learned(record.query, record.batch):
                # An earlier try's commit was lost with Redis, and came back or was finalized.
                return self._recorded(record.query, record.batch) or record
            learned = self._learner.take()
            if learned is None or current.commit != base.commit:
                self._take_over(current)
                self._base = None
                learned = self._learner.learn(labelled)
            self._timer.end("wait")
            return self._publish(current, learned, labelled, lease, record)

        learned = retry_on_conflict(attempt)
        if learned is None:
            self._warn(
                f"batch {record.batch}: learning its {len(labelled):,} labelled rows gives a NaN "
                f"or an infinity; they are dead letters '{DIVERGED}', and the model stays at "
                f"version {record.version}. A smaller --learning-rate or --gradient-clip-norm "
                "prevents it"
            )
            return self._leave(df, labelled, record, DIVERGED)
        return learned

    def _leave(
        self, df: DataFrame, labelled: LabelledRows, record: BatchRecord, reason: str
    ) -> BatchRecord:
        """Make the labelled rows dead letters, and return the record with them."""
        letters = self._writer.unlearned_letters(df, record.batch, labelled, reason)
        # Those of an earlier try stay.
        self._writer.files.write_unlearned(letters, record.query, record.batch)
        letters_by_reason = record.dead_letters | {reason: len(labelled)}
        return dataclasses.replace(record, dead_letters=letters_by_reason)

    def _publish(
        self,
        base: ModelVersion,
        learned: Learned,
        labelled: LabelledRows,
        lease: Lease,
        record: BatchRecord,
    ) -> BatchRecord | None:
        """Publish what was learned on top of ``base``; return None when it diverged."""
        self._reached(Step.LEARNED)
        # Step 5.
        if not is_finite(learned.state):
            return None
        self._watch(learned.state, labelled.features, learned.met["layers_reset"])
        record = dataclasses.replace(
            learned.counted_in(record),
            rows_learned=len(labelled),
            served_errors=int((labelled.served != labelled.labels).sum()),
            version=base.version + 1,
            finished_at=_now(),
            seconds=record.seconds | self._timer.seconds | {"learn": learned.seconds},
        )
        # Step 6.
        summary = {"record": dataclasses.asdict(record)}
        staged = self._registry.stage(
            base, lease, record.batch, learned.state, self._metadata, summary
        )
        self._reached(Step.SNAPSHOT_WRITTEN)
        # Step 7.
        self._retry(lambda: self._registry.commit(base, staged, lease))
        self._reached(Step.PUBLISHED)
        # Step 8.
        self._retry(lambda: self._registry.finalize(staged))
        self._reached(Step.FINALIZED)
        self._registry.write_current(staged.record)
        self._reached(Step.CURRENT_WRITTEN)
        self._base = staged.record
        self._timer.end("publish")
        return self._timed(record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
