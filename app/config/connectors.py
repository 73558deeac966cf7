"""Where a live stream comes from and goes to, each as one text of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from app.errors import InvalidParameterError

FILE_FORMATS = ("json", "csv", "arff", "parquet", "delta")
VALUE_FORMATS = ("json", "arrow")

_EXAMPLES = (
    "json:DIR, csv:DIR, arff:DIR, parquet:DIR, delta:TABLE, redis:STREAM or kafka://HOST:PORT/TOPIC"
)


@dataclass(frozen=True)
class SourceSpec:
    """A source of rows.

    Attributes
    ----------
    kind : {"directory", "delta", "redis", "kafka"}
    format : {"json", "csv", "arff", "parquet", "arrow"}
        What the files or the messages are.
    place
        Path of the directory or table, key of the Redis stream, or Kafka topic.
    servers
        Kafka's ``host:port,host:port``; empty for others.
    """

    kind: str
    format: str
    place: str
    servers: str = ""

    def __str__(self) -> str:
        if self.kind == "kafka":
            suffix = "" if self.format == "json" else f"?format={self.format}"
            return f"kafka://{self.servers}/{self.place}{suffix}"
        if self.kind in ("redis", "delta"):
            return f"{self.kind}:{self.place}"
        return f"{self.format}:{self.place}"


@dataclass(frozen=True)
class SinkSpec:
    """Where predictions go beside the work directory.

    Attributes
    ----------
    kind : {"delta", "kafka", "console"}
    place
        Path of the Delta table, or Kafka topic.
    servers
        Kafka's ``host:port,host:port``.
    """

    kind: str
    place: str = ""
    servers: str = ""

    def __str__(self) -> str:
        if self.kind == "kafka":
            return f"kafka://{self.servers}/{self.place}"
        return f"delta:{self.place}" if self.kind == "delta" else self.kind


def parse_source(text: str, option: str) -> SourceSpec:
    """Return the source that ``text`` names.

    Parameters
    ----------
    text
    option
        Name of the setting, for the message.

    Raises
    ------
    InvalidParameterError
        When it names none.

    Examples
    --------
    >>> parse_source("redis:clicks", "events")
    SourceSpec(kind='redis', format='json', place='clicks', servers='')
    >>> str(parse_source("kafka://a:9092,b:9092/clicks?format=arrow", "events"))
    'kafka://a:9092,b:9092/clicks?format=arrow'
    """
    scheme, _, rest = text.partition(":")
    if scheme == "kafka" and rest.startswith("//"):
        return _kafka(text, option)
    if not rest or scheme not in ("redis", *FILE_FORMATS):
        raise InvalidParameterError(option, f"must be {_EXAMPLES}, not {text!r}")
    if scheme == "redis":
        return SourceSpec("redis", "json", rest)
    if scheme == "delta":
        return SourceSpec("delta", "parquet", rest)
    return SourceSpec("directory", scheme, rest)


def parse_sink(text: str, option: str = "sinks") -> SinkSpec:
    """Return the sink that ``text`` names. Parameters and errors are those of `parse_source`.

    Examples
    --------
    >>> parse_sink("delta:/tables/predictions")
    SinkSpec(kind='delta', place='/tables/predictions', servers='')
    """
    scheme, _, rest = text.partition(":")
    if text == "console":
        return SinkSpec("console")
    if scheme == "delta" and rest:
        return SinkSpec("delta", rest)
    if scheme == "kafka" and rest.startswith("//"):
        topic = _kafka(text, option)
        if topic.format == "json":
            return SinkSpec("kafka", topic.place, topic.servers)
    raise InvalidParameterError(
        option, f"must be delta:TABLE, kafka://HOST:PORT/TOPIC or console, not {text!r}"
    )


def _kafka(text: str, option: str) -> SourceSpec:
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query))
    value_format = options.pop("format", "json")
    topic = parts.path.strip("/")
    if not parts.netloc or not topic or "/" in topic or options or "@" in parts.netloc:
        raise InvalidParameterError(
            option,
            f"must look like kafka://HOST:PORT/TOPIC[?format={'|'.join(VALUE_FORMATS)}], not "
            f"{text!r}",
        )
    if value_format not in VALUE_FORMATS:
        raise InvalidParameterError(
            option, f"must have a format of {' or '.join(VALUE_FORMATS)}, not {value_format!r}"
        )
    return SourceSpec("kafka", value_format, topic, parts.netloc)
