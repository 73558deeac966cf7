# Databricks notebook source
# MAGIC %md
# MAGIC # Replay a stream
# MAGIC
# MAGIC A deep model meets a stream it has never seen: it scores each batch, learns from it, and
# MAGIC publishes the new version for the next. The stream here changes its concept twice.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Where things go
# MAGIC
# MAGIC Everything a run keeps lies in one work directory: the checkpoint, the versions of the
# MAGIC model, the predictions and the dead letters. Running this notebook again goes on from there.

# COMMAND ----------

import os
import tempfile
from pathlib import Path

root = Path(os.environ.get("HEDGESTREAM_NOTEBOOK_DIR") or tempfile.mkdtemp(prefix="hedgestream-"))
rows = int(os.environ.get("HEDGESTREAM_NOTEBOOK_ROWS", "30000"))
stream, workdir = root / "cd1.csv", root / "workdir"

# COMMAND ----------

# MAGIC %md
# MAGIC ## A stream with two drifts
# MAGIC
# MAGIC Labels come from a random deep network; after a third of the rows from another one; for the
# MAGIC last third from the first again.

# COMMAND ----------

from app import drift_points, write_cd1

write_cd1(stream, rows, n_features=20)
print(f"{rows:,} rows in {stream}, drifts at {drift_points(rows)}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Score, learn, publish
# MAGIC
# MAGIC Two errors come back. The *served* one is that of the predictions written out, each made with
# MAGIC the version that was current when its batch arrived. The *prequential* one predicts each row
# MAGIC just before that row is learned.

# COMMAND ----------

from app import replay, summary_lines

summary = replay(
    input=stream,
    format="csv",
    label="label",
    workdir=workdir,
    rows_per_batch=max(rows // 10, 1),
)
print("\n".join(summary_lines(summary.to_dict())))

# COMMAND ----------

# MAGIC %md
# MAGIC ## What happened
# MAGIC
# MAGIC Above, the error jumps at each drift and comes down again. Below, the weight that the hedge
# MAGIC gives to the classifier at each depth.

# COMMAND ----------

from app import BatchLog, draw_report

picture = root / "report.png"
draw_report(BatchLog(workdir / "batches").read(), picture, drift_points(rows))
print(picture)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The predictions
# MAGIC
# MAGIC Parquet, written once for each batch. `model_version` says which version scored a row.

# COMMAND ----------

from app.streaming.spark.session import spark_session

predictions = spark_session("hedgestream notebook").read.parquet(str(workdir / "predictions"))
predictions.groupBy("model_version").count().orderBy("model_version").show()
