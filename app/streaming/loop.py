"""The micro-batch: score, learn, publish."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from app.errors import DivergedError, VersionConflictError
from app.model.state import is_finite
from app.monitor.batch_log import BatchLog, BatchRecord
from app.registry.head import HeadRecord
from app.registry.registry import Lease, ModelRegistry
from app.streaming.duplicates import SeenIds
from app.streaming.schema import Contract, mark_duplicates
from app.streaming.sinks import WriteOnceParquet

if TYPE_CHECKING:
    from app.model import HBPClassifier

_QUERY_ID_PROPERTY = "sql.streaming.queryId"
_MAX_RACES = 10

_ORDER = [("event_time", "ascending"), ("sequence", "ascending"), ("event_id", "ascending")]
_ORDER_COLUMNS = [name for name, _ in _ORDER]
_COLLECTED_COLUMNS = [*_ORDER_COLUMNS, "features", "label_index", "served_index", "reason"]


@dataclass(frozen=True)
class LabelledRows:
    """The labelled rows of a batch in their total order: time, sequence, event id.

    Attributes
    ----------
    features : ndarray, shape (n, D), float32
    labels : ndarray, shape (n,), int32
    served : ndarray, shape (n,), int32
        The class that was predicted for each when it was scored.
    """

    features: np.ndarray
    labels: np.ndarray
    served: np.ndarray

    @classmethod
    def from_arrow(cls, table: pa.Table, n_features: int) -> LabelledRows:
        """Take the good rows with a label out of ``table``."""
        good = pc.is_null(table["reason"])
        table = table.filter(pc.and_(good, pc.is_valid(table["label_index"]))).sort_by(_ORDER)
        values = table["features"].combine_chunks().flatten()
        return cls(
            values.to_numpy().reshape(-1, n_features),
            table["label_index"].to_numpy(),
            table["served_index"].to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.labels)


class MicroBatchLoop:
    """The function that Spark calls with each micro-batch of validated rows.

    Its input is that of :func:`app.streaming.schema.validate`.

    Parameters
    ----------
    registry : ModelRegistry
    contract : Contract
    score : callable
        The UDF of :func:`udfs.score.score_udf`.
    workdir : Path
        Where predictions, dead letters, the batch log and the seen ids lie.
    metadata : mapping of str to str
        Goes with every state: model settings and contract.
    classifier : HBPClassifier
        The learner; its state is replaced by the registry's.
    on_batch : callable
        Told of each batch when it is done.
    before_scoring : callable
        Called before each batch is scored. While a worker is still warming up
        Spark would start another, and wait for that one.

    Attributes
    ----------
    failure : Exception or None
        What made the last call raise. Spark wraps it in an error of its own.
    """

    def __init__(
        self,
        *,
        registry: ModelRegistry,
        contract: Contract,
        score: Callable[[str], Column],
        workdir: Path,
        metadata: Mapping[str, str],
        classifier: HBPClassifier,
        on_batch: Callable[[BatchRecord], None],
        before_scoring: Callable[[], None] = lambda: None,
    ) -> None:
        self.failure: Exception | None = None
        self._registry = registry
        self._contract = contract
        self._score = score
        self._metadata = dict(metadata)
        self._classifier = classifier
        self._on_batch = on_batch
        self._before_scoring = before_scoring
        self._predictions = WriteOnceParquet(workdir / "predictions")
        self._dead_letters = WriteOnceParquet(workdir / "dead_letters")
        self._log = BatchLog(workdir / "batches")
        self._seen_path = workdir / "seen_ids.sqlite"
        self._base: HeadRecord | None = None
        self._lease: Lease | None = None
        self._seen: SeenIds | None = None
        for sink in (self._predictions, self._dead_letters):
            sink.discard_staged()

    def __call__(self, df: DataFrame, batch: int) -> None:
        try:
            self._process(df, batch)
        except Exception as error:
            self.failure = error
            raise

    def close(self) -> None:
        if self._seen is not None:
            self._seen.close()

    def _process(self, df: DataFrame, batch: int) -> None:
        """Do one micro-batch, in this order.

        1. Fence: stop if a newer learner holds this query's checkpoint.
        2. A batch that the head record says was applied is a replay after a
           crash: learn and score nothing, drain the plan, return.
        3. Score the rows, then write predictions and dead letters, once.
        4. Bring the labelled rows to the driver in their total order; learn them.
        5. Refuse a state that holds a NaN or an infinity.
        6. Write the snapshot of the next version, and the batch's record.
        7. Publish: compare-and-set in Redis. This is the commit. If another
           learner was first: reload, learn again on top, publish again.
        8. Write HEAD.json.
        9. Return, so that Spark commits the batch.

        A crash before 7 leaves files that the next try finds (3) or overwrites
        (6) with the same content. A crash after 7 leaves a batch that the next
        try recognises (2); ``ModelRegistry.recover`` then does 8.
        """
        query = df.sparkSession.sparkContext.getLocalProperty(_QUERY_ID_PROPERTY)
        lease = self._lease_on(query)
        self._registry.fence(lease)
        self._catch_up()
        if self._base.applied.get(query, -1) >= batch:
            df.write.format("noop").mode("overwrite").save()
            return

        self._before_scoring()
        started = time.perf_counter()
        table = self._score_batch(df, query, batch)
        labelled = LabelledRows.from_arrow(table, self._contract.n_features)
        reasons = table["reason"].drop_null().value_counts().to_pylist()
        record = BatchRecord(
            query=query,
            batch=batch,
            rows_scored=self._predictions.count_rows(query, batch),
            rows_learned=len(labelled),
            dead_letters={count["values"]: count["counts"] for count in reasons},
            served_errors=int((labelled.served != labelled.labels).sum()),
            prequential_errors=0,
            version=self._base.version,
            alpha=self._classifier.alpha.tolist(),
            finished_at=_now(),
            seconds={"score": time.perf_counter() - started},
        )
        if len(labelled):
            record = self._learn_and_publish(labelled, lease, record)
        else:
            self._log.write(record)
        self._on_batch(record)

    def _lease_on(self, query: str) -> Lease:
        if self._lease is None or self._lease.query != query:
            self._lease = self._registry.acquire(query)
            self.close()
            if self._contract.id is not None:
                self._seen = SeenIds(self._seen_path, query)
        return self._lease

    def _catch_up(self) -> None:
        """Take over the current version if it is not the one in hand."""
        head = self._registry.heads.read()
        if (
            head is not None
            and self._base is not None
            and ((head.version, head.state_sha256) == (self._base.version, self._base.state_sha256))
        ):
            return
        self._base, state, _ = self._registry.load()
        self._classifier.set_state(state)

    def _score_batch(self, df: DataFrame, query: str, batch: int) -> pa.Table:
        """Do step 3; return the rows that are bad or labelled, with what was served for them."""
        rows = self._without_duplicates(df, batch)
        retried = self._predictions.has(query, batch)
        if retried:
            rows = self._with_kept_predictions(rows, query, batch)
        else:
            # Not below a filter: Spark might evaluate the UDF once for each side of it.
            rows = rows.withColumn("served", self._score("features"))
        rows = rows.persist()
        try:
            if not retried:
                self._predictions.write(self._predicted(rows, batch), query, batch)
            table = (
                rows.filter("reason IS NOT NULL OR label_index IS NOT NULL")
                .withColumn("served_index", F.col("served.prediction"))
                .select(*_COLLECTED_COLUMNS)
                .toArrow()
            )
            bad = table["reason"].null_count < len(table)
            if bad and not self._dead_letters.has(query, batch):
                self._dead_letters.write(_rejected(rows, batch), query, batch)
        finally:
            rows.unpersist()
        return table

    def _without_duplicates(self, df: DataFrame, batch: int) -> DataFrame:
        """Return the rows with those whose id is taken turned into dead letters."""
        if self._seen is None:
            return df
        good = df.filter("reason IS NULL").select(*_ORDER_COLUMNS).toArrow().sort_by(_ORDER)
        positions = self._seen.accept(good["event_id"].to_pylist(), batch)
        sequences = good["sequence"].to_pylist()
        return mark_duplicates(df, [sequences[position] for position in positions])

    def _with_kept_predictions(self, rows: DataFrame, query: str, batch: int) -> DataFrame:
        """Return rows with what an earlier try of this batch predicted and wrote."""
        number = F.array_position(self._class_labels(), F.col("prediction")) - 1
        kept = self._predictions.read(rows.sparkSession, query, batch).select(
            "event_id", F.struct(number.cast("int").alias("prediction")).alias("served")
        )
        return rows.join(kept, "event_id", "left")

    def _predicted(self, rows: DataFrame, batch: int) -> DataFrame:
        # `get`, unlike `element_at`, is null for the rows that were not scored.
        label = F.get(self._class_labels(), F.col("served.prediction"))
        return rows.filter("reason IS NULL").select(
            "event_id",
            "event_time",
            label.alias("prediction"),
            "served.probabilities",
            "served.model_version",
            F.lit(batch).cast("long").alias("batch_id"),
        )

    def _class_labels(self) -> Column:
        contract = self._contract
        return F.array(*map(F.lit, contract.classes)).cast(T.ArrayType(contract.label_type))

    def _learn_and_publish(
        self, labelled: LabelledRows, lease: Lease, record: BatchRecord
    ) -> BatchRecord:
        """Do steps 4 to 8 and return the completed record."""
        for _ in range(_MAX_RACES):
            started = time.perf_counter()
            probabilities = self._classifier.partial_fit(labelled.features, labelled.labels)
            learned = time.perf_counter()
            state = self._classifier.get_state()
            if not is_finite(state):
                raise DivergedError(
                    f"batch {record.batch} (query {record.query}) drove the model from version "
                    f"{self._base.version} to a NaN or an infinity; nothing of it was published"
                )
            head, data = self._registry.stage(
                self._base, lease, record.batch, state, self._metadata
            )
            wrong = int((probabilities.argmax(axis=1) != labelled.labels).sum())
            record = dataclasses.replace(
                record,
                prequential_errors=wrong,
                version=head.version,
                alpha=self._classifier.alpha.tolist(),
                finished_at=_now(),
                seconds=record.seconds
                | {"learn": learned - started, "publish": time.perf_counter() - learned},
            )
            self._log.write(record)
            try:
                self._registry.commit(self._base, lease, head, data)
            except VersionConflictError:
                self._catch_up()
                continue
            self._registry.record_head(head, lease)
            self._base = head
            return record
        raise VersionConflictError(
            f"batch {record.batch} lost {_MAX_RACES} races in a row for the next version"
        )


def _rejected(rows: DataFrame, batch: int) -> DataFrame:
    return rows.filter("reason IS NOT NULL").select(
        "sequence", "event_id", "reason", "row", F.lit(batch).cast("long").alias("batch_id")
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
