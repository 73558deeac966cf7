"""What Spark fails with is told in one line, that of its cause. The texts are Spark's own."""

from __future__ import annotations

import pytest
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.errors import PySparkRuntimeError, PySparkValueError

from app.errors import StorageError, StreamFailedError
from app.streaming.spark.bridge import LOST
from app.streaming.spark.failures import line_of_cause, spark_failures

# What Spark appends to whatever ended a query: never the cause.
STATE = """
=== Streaming Query ===
Identifier: [id = 9f6e, runId = 37e8]
Current Committed Offsets: {}
Current Available Offsets: {}

Current State: ACTIVE
Thread State: RUNNABLE

Logical Plan:
~WriteToMicroBatchDataSourceV1 ForeachBatchSink, 9f6e, [checkpointLocation=file:///w/checkpoint]
+- ~Project [sequence#1154L, event_id#1165, CASE WHEN isnull(reason#1170) THEN features#1168 END]
   +- ~StreamingDataSourceV2ScanRelation[rows#1338] hedgestream_replay
"""

SOURCE = """\
[PYTHON_STREAMING_DATA_SOURCE_RUNTIME_ERROR] Failed when Python streaming data source perform \
latestOffset: Traceback (most recent call last):
  File "/site/app/files/sequence.py", line 139, in open_input
    return TextLines(path, has_header=file_format == "csv")
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
FileNotFoundError: [Errno 2] No such file or directory: '/in/3.csv'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/pyspark.zip/pyspark/sql/streaming/python_streaming_source_runner.py", line 281, in main
  File "/site/app/files/sequence.py", line 142, in open_input
    raise UserError(f"--input: {path} cannot be read: {error}") from error
app.errors.UserError: --input: /in/3.csv cannot be read: [Errno 2] No such file or directory
 SQLSTATE: 38000 SQLSTATE: XXKST"""

WORKER = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/site/udfs/score.py", line 89, in score
    body()
    ^^^^^^
{}
"""

JAVA = """An error occurred while calling o3542.save.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 25.0 failed \
1 times, most recent failure: Lost task 0.0 in stage 25.0 (TID 25) (192.0.2.2 executor driver): \
{cause}
\tat org.apache.spark.api.python.BasePythonRunner.hasNext(PythonRunner.scala:704)
\tat org.apache.spark.scheduler.Task.run(Task.scala:147)
Caused by: java.io.EOFException
\tat java.base/java.io.DataInputStream.readInt(DataInputStream.java:386)
\t... 25 more

Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2935)
Caused by: {cause}
\tat org.apache.spark.api.python.BasePythonRunner.hasNext(PythonRunner.scala:704)
Caused by: java.io.EOFException
\t... 25 more
"""


@pytest.mark.parametrize(
    ("ended_by", "told"),
    [
        (
            "Failed to read log file file:/w/checkpoint/offsets/2. [MALFORMED_LOG_FILE] Log file "
            "was malformed: failed to read correct log version from garbage. SQLSTATE: KD002 "
            "SQLSTATE: XXKST",
            "Failed to read log file file:/w/checkpoint/offsets/2. [MALFORMED_LOG_FILE] Log file "
            "was malformed: failed to read correct log version from garbage.",
        ),
        (
            "Unexpected end-of-input: expected close marker for Object (start marker at [Source: "
            "REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: "
            "1])\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); "
            "line: 1, column: 44] SQLSTATE: XXKST",
            "Unexpected end-of-input: expected close marker for Object (start marker)",
        ),
        (
            "Checksum error: file:/w/checkpoint/commits/2 at 0 exp: -2153 got: 1553 SQLSTATE: "
            "XXKST",
            "Checksum error: file:/w/checkpoint/commits/2 at 0 exp: -2153 got: 1553",
        ),
        (
            "[STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY] Cannot restart streaming query "
            "because the state directory is empty or missing.\nStateful operators in current "
            "batch: [(OperatorId: 0 -> OperatorName: symmetricHashJoin)].\nPlease restore the "
            "missing state files. SQLSTATE: 42K03 SQLSTATE: XXKST",
            "[STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY] Cannot restart streaming query "
            "because the state directory is empty or missing. Stateful operators in current "
            "batch: [(OperatorId: 0 -> OperatorName: symmetricHashJoin)]. Please restore the "
            "missing state files.",
        ),
        (
            "java.io.IOException: No space left on device SQLSTATE: XXKST",
            "IOException: No space left on device",
        ),
        (SOURCE, "--input: /in/3.csv cannot be read: [Errno 2] No such file or directory"),
    ],
    ids=["damaged offset", "cut offset", "damaged commit", "no state", "full disk", "source"],
)
def test_a_query_that_ended_is_told_by_what_ended_it(ended_by, told):
    query = "[STREAM_FAILED] Query [id = 9f6e, runId = 37e8] terminated with exception: "
    assert line_of_cause(PySparkRuntimeError(query + ended_by + STATE)) == told


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("MemoryError", "MemoryError"),
        ("ValueError: two\nlines", "ValueError: two lines"),
        ("ValueError: one\n\n  indented", "ValueError: one indented"),
        ("Odd: no error by its name", "Odd: no error by its name"),
        ("pyarrow.lib.ArrowInvalid: bad", "pyarrow.lib.ArrowInvalid: bad"),
        ("app.errors.StorageError: full", "full"),
        ("OSError: [Errno 28] No space left: '/x'", "OSError: [Errno 28] No space left: '/x'"),
    ],
)
def test_a_python_worker_is_told_by_its_last_exception(raised, told):
    assert line_of_cause(PySparkRuntimeError(WORKER.format(raised))) == told
    # As one of Java's causes.
    java = JAVA.format(cause=f"org.apache.spark.api.python.PythonException: {raised}")
    trace = WORKER.format(raised).rstrip() + "\n\tat org.apache.spark.Some.method(Some.scala:1)\n"
    assert line_of_cause(PySparkRuntimeError(java + trace)) == told


def test_a_worker_that_starts_too_slowly_says_what_to_do():
    cause = "org.apache.spark.SparkException: Python worker failed to connect back."
    told = line_of_cause(PySparkRuntimeError(JAVA.format(cause=cause)))
    assert "did not start within the ten seconds" in told
    assert "Run the same command again" in told


DIED = "a Python worker has ended unexpectedly (was it killed, or out of memory?)"


def test_a_worker_that_died_without_a_word_is_told_as_that():
    cause = (
        "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider "
        "setting 'spark.python.worker.faulthandler.enabled' to 'true'"
    )
    assert line_of_cause(PySparkRuntimeError(JAVA.format(cause=cause))) == DIED


@pytest.mark.parametrize(
    ("ended_by", "cause"),
    [
        ("Connection reset", "java.net.SocketException: Connection reset"),
        ("", "java.io.EOFException"),
    ],
)
@pytest.mark.parametrize(
    ("frame", "is_worker"),
    [
        ("sql.execution.python.streaming.PythonStreamingSourceRunner.latestOffset", True),
        ("rpc.netty.Dispatcher.post", False),
    ],
)
def test_a_source_that_died_is_known_by_who_heard_of_it(ended_by, cause, frame, is_worker):
    query = "[STREAM_FAILED] Query [id = 9f6e, runId = 37e8] terminated with exception: "
    error = PySparkRuntimeError(f"{query}{ended_by} SQLSTATE: XXKST{STATE}")
    error._stackTrace = (
        f"org.apache.spark.sql.streaming.StreamingQueryException: {ended_by}{STATE}\n"
        f"\tat org.apache.spark.Some.run(Some.scala:1)\nCaused by: {cause}\n"
        "\tat java.base/sun.nio.ch.SocketChannelImpl.read(SocketChannelImpl.java:426)\n"
        "\tat java.base/java.io.DataInputStream.readInt(DataInputStream.java:381)\n"
        f"\tat org.apache.spark.{frame}(X.scala:235)\n"
    )
    said = DIED if is_worker else ended_by or "PySparkRuntimeError without a message"
    assert line_of_cause(error) == said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            JAVA.format(cause="java.lang.OutOfMemoryError: Java heap space"),
            "OutOfMemoryError: Java heap space",
        ),
        (
            "Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 times, most recent "
            "failure: Lost task 0.3 in stage 2.0 (TID 5) (10.0.0.7 executor 1): java.io."
            "IOException: Stale file handle\n\tat java.base/java.io.Some.read(Some.java:1)\n\n"
            "Driver stacktrace: SQLSTATE: XXKST",
            "IOException: Stale file handle",
        ),
        (
            "An error occurred while calling o9.parquet.\n: org.apache.hadoop.fs."
            "ParentNotDirectoryException: Parent path is not a directory: file:/a\n"
            "\tat org.apache.hadoop.fs.RawLocalFileSystem.mkdirs(RawLocalFileSystem.java:892)\n",
            "ParentNotDirectoryException: Parent path is not a directory: file:/a",
        ),
        (
            "[UNRESOLVED_COLUMN.WITHOUT_SUGGESTION] A column with name `a` cannot be resolved. "
            "SQLSTATE: 42703;\n'Project ['a]\n+- LogicalRDD [sequence#2880L], false\n",
            "[UNRESOLVED_COLUMN.WITHOUT_SUGGESTION] A column with name `a` cannot be resolved.",
        ),
        (
            "[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012\n== DataFrame ==\n"
            '"divide" was called from\njava.base/jdk.internal.Accessor.invoke0(Native Method)\n',
            "[DIVIDE_BY_ZERO] Division by zero.",
        ),
        ("it broke\n\nJVM stacktrace:\norg.apache.A: it broke\n\tat org.apache.A.b", "it broke"),
        ("", "PySparkRuntimeError without a message"),
    ],
    ids=["heap", "task", "path", "plan", "expression", "trace", "nothing"],
)
def test_the_innermost_cause_that_has_a_message_is_told(text, told):
    assert line_of_cause(PySparkRuntimeError(text)) == told


class TestLost:
    @pytest.fixture(autouse=True)
    def ended(self, monkeypatch):
        """A gateway to a JVM that nobody listens for any more."""

        class Process:
            def poll(self) -> int:
                return -9

        class Gateway:
            def __init__(self) -> None:
                self.proc = Process()

        monkeypatch.setattr(SparkContext, "_gateway", Gateway())

    @pytest.mark.parametrize(
        "error",
        [
            Py4JNetworkError("Answer from Java side is empty"),
            Py4JError("An error occurred while calling o1.save"),
            ConnectionRefusedError(111, "Connection refused"),
            ConnectionResetError(104, "Connection reset by peer"),
            BrokenPipeError(32, "Broken pipe"),
            EOFError(),
        ],
    )
    def test_whatever_the_end_of_the_jvm_raises_is_told_as_that(self, error):
        with pytest.raises(StreamFailedError) as caught, spark_failures():
            raise error
        assert str(caught.value) == LOST
        assert caught.value.__cause__ is error
        assert line_of_cause(error) == LOST

    def test_the_projects_own_error_stays(self):
        with pytest.raises(StorageError), spark_failures():
            raise StorageError("full")


@pytest.mark.parametrize("error", [ConnectionRefusedError(), EOFError(), ZeroDivisionError()])
def test_what_is_not_sparks_stays_as_it_is(monkeypatch, error):
    monkeypatch.setattr(SparkContext, "_gateway", None)
    with pytest.raises(type(error)), spark_failures():
        raise error


def test_another_error_of_sparks_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(SparkContext, "_gateway", None)
    with pytest.raises(StreamFailedError, match="^Spark failed: a b$"), spark_failures():
        raise PySparkValueError("a\nb")
