"""Predictions that are written to a Kafka topic, by Spark's own connector."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from app.config.connectors import SourceSpec
from app.streaming.sources.kafka import explain_failure
from app.streaming.spark.failures import SPARK_ERRORS

_MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"


def write_kafka(predictions: DataFrame, spec: SourceSpec, *, query: str, batch: int) -> None:
    """Send a micro-batch of predictions to a topic, each as one JSON object.

    A message has the event id as its key and the headers ``query``, ``batch`` and
    ``version`` (of the model), all text in UTF-8. Delivery is at least once: a batch
    that is tried again after a crash is sent again, in whole or in part. A consumer
    drops what it has seen by the key together with the headers ``query`` and
    ``batch``: a batch has an event id once.

    Parameters
    ----------
    predictions
        With ``event_id`` (string) and ``model_version`` (long); every column is sent.
    spec
        A topic, of kind ``kafka``.
    query
        Id of the streaming query.
    batch

    Raises
    ------
    StreamFailedError
        When the topic did not take it all.
    """
    every = F.struct(*(F.col(name) for name in predictions.columns))
    kept = {"ignoreNullFields": "false", "timestampFormat": _MICROSECONDS}
    headers = {
        "query": F.lit(query),
        "batch": F.lit(str(batch)),
        "version": F.col("model_version").cast("string"),
    }
    messages = predictions.select(
        F.col("event_id").alias("key"),
        F.to_json(every, kept).alias("value"),
        F.array(
            *(
                F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))
                for name, value in headers.items()
            )
        ).alias("headers"),
    )
    writer = messages.write.format("kafka").option("kafka.bootstrap.servers", spec.servers)
    try:
        writer.option("topic", spec.place).save()
    except SPARK_ERRORS as error:
        explained = explain_failure(error, spec)
        if explained is None:
            raise
        raise explained from error
