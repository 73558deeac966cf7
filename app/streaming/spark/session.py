"""The Spark session, and the Java it needs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from py4j.java_gateway import JavaGateway
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from app.errors import StreamFailedError, UserError
from app.streaming.spark.bridge import forget_ended, quiet_accumulators
from app.streaming.spark.java import require_java
from app.streaming.spark.packages import ivy_directory, resolve_lock

# What the application relies on, wherever it runs.
_REQUIRED = {
    "spark.sql.session.timeZone": "UTC",
    # Columns x and X are two.
    "spark.sql.caseSensitive": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.streaming.stopTimeout": "60s",
}

# What suits one machine, when the user has not said otherwise.
_LOCAL = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # For a UI that is off, Spark would remember the last thousand of each.
    "spark.ui.retainedJobs": "20",
    "spark.ui.retainedStages": "20",
    "spark.sql.ui.retainedExecutions": "20",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "2g",
}

_LOCAL_JAVA_OPTIONS = "-XX:+UseSerialGC"

# The JVM does little, and only its first compiler tier pays off within minutes.
_SHORT_RUN_JAVA_OPTIONS = " -XX:TieredStopAtLevel=1"

# What connectors ask for and pyspark brings: 50 MB that need not be fetched a second time.
_BROUGHT_BY_PYSPARK = (
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.scala-lang.modules:scala-parallel-collections_2.13",
    "org.slf4j:slf4j-api",
    "org.xerial.snappy:snappy-java",
    "at.yawk.lz4:lz4-java",
    "com.google.code.findbugs:jsr305",
)

_LOG4J = Path(__file__).resolve().with_name("log4j2.properties")


def spark_session(
    app_name: str,
    *,
    packages: Sequence[str] = (),
    short_run: bool = True,
    on_launched: Callable[[], None] = lambda: None,
    warn: Callable[[str], None] = lambda message: None,
) -> SparkSession:
    """Return the active session, or a new one: local on all cores unless configured otherwise.

    Parameters
    ----------
    app_name
    packages
        Maven coordinates of what the JVM needs beyond pyspark. They count only when
        the JVM is launched here: a session that is active already, or that
        spark-submit is setting up, keeps what it has.
    short_run
        Whether what is done will end within minutes.
    on_launched
        Called once the JVM runs: from then on this process starts no other, and
        may play with its standard error.
    warn
        Called when another process is waited for.

    Raises
    ------
    JavaMissingError
        When there is no session yet and no Java to start one with.
    UserError
        When the packages cannot be fetched.
    StreamFailedError
        When the JVM ends before it is ready.
    """
    forget_ended()
    if SparkContext._active_spark_context is not None:
        # Not getActiveSession, which another thread's session is not.
        session = SparkSession.builder.getOrCreate()
        on_launched()
    else:
        conf = SparkConf().setAppName(app_name)
        if _is_submitted():
            gateway = _launch(conf, (), warn)
        else:
            require_java()
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            conf.setMaster("local[*]").setAll(list(_LOCAL.items()))
            java_options = _LOCAL_JAVA_OPTIONS
            if short_run:
                java_options += _SHORT_RUN_JAVA_OPTIONS
            java_options += f" -Dlog4j2.configurationFile={_LOG4J.as_uri()}"
            conf.set("spark.driver.extraJavaOptions", java_options)
            gateway = _launch(conf, packages, warn)
        on_launched()
        session = SparkSession(SparkContext(conf=conf, gateway=gateway))
        if packages:
            _take_jars_off_path()
    quiet_accumulators(session.sparkContext)
    for key, value in _REQUIRED.items():
        session.conf.set(key, value)
    return session


def _launch(conf: SparkConf, packages: Sequence[str], warn: Callable[[str], None]) -> JavaGateway:
    if not packages:
        try:
            return launch_gateway(conf)
        except (PySparkRuntimeError, Py4JError, ConnectionError, EOFError) as error:
            raise StreamFailedError(
                "Spark's JVM did not start; what it printed says why"
            ) from error
    ivy = ivy_directory()
    conf.set("spark.jars.ivy", str(ivy))
    conf.set("spark.jars.packages", ",".join(packages))
    conf.set("spark.jars.excludes", ",".join(_BROUGHT_BY_PYSPARK))
    with resolve_lock(ivy, warn=warn):
        # A spark-submit beside this process takes no lock, and may spoil the first attempt.
        with contextlib.suppress(PySparkRuntimeError):
            return launch_gateway(conf)
        try:
            return launch_gateway(conf)
        except PySparkRuntimeError as error:
            raise UserError(
                f"Spark did not start with {', '.join(packages)}; what it printed says why. "
                "Packages are fetched once, from Maven Central: without a way to it, have "
                "spark-submit start this application with --jars"
            ) from error


def _take_jars_off_path() -> None:
    """Undo that Spark has Python look for modules in jars: every import would be slower."""
    sys.path[:] = [path for path in sys.path if not path.endswith(".jar")]


def _is_submitted() -> bool:
    """Return whether spark-submit started this process, and so has set the session up."""
    return "PYSPARK_GATEWAY_PORT" in os.environ
