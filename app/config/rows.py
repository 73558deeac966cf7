"""How rows are written, as far as they do not say it themselves, and how many may be of no use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from zoneinfo import ZoneInfo

from app.config.options import ROWS, TEXT, Option, parse_character, parse_names
from app.config.validation import is_real, require, require_choice

DECIMALS = (".", ",")
TIME_UNITS = ("s", "ms", "us")

RECORD_SETTINGS = ("encoding", "delimiter", "escapes", "header", "quote", "comment")
"""Settings that say where a record of text ends: with others an offset would be another place."""


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """What rows mean.

    Parameters
    ----------
    encoding
        Of text files, one of Python's. Compressed ones and UTF-16 are known by their first bytes.
    header
        Whether the first line of a CSV names its columns. Without a header they are c0, c1, c2
        and so on.
    delimiter
        One character between the fields of CSV. If not given, what the first line has of comma,
        semicolon, tab and bar.
    quote
        What stands around a field of CSV that holds a delimiter, a line break or, doubled, itself;
        empty for nothing. If not given, a double quote, and in ARFF a single one.
    comment
        What a line of CSV begins with that is passed over. If not given, nothing.
    escapes
        Whether a backslash within quotes takes what is special from the next character of CSV.
    decimal : {".", ","}
        What stands before the fraction of a number in CSV.
    thousands
        What stands between its thousands. If not given, nothing.
    missing_values
        Texts that stand for a missing value, whatever the case; an empty one always does. If not
        given: NA, N/A, NaN, null, None and ?.
    time_unit : {"s", "ms", "us"}
        What numbers that are times count since 1970. If not given, seconds, and none before 1973:
        20240102 and 2024 are dates that are no numbers of seconds.
    time_zone
        Where times without a zone are local, a name of the tz database.
    max_dead_letters
        Share of a run's rows, or of its labels, above which the run ends with exit code 5.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.
    """

    encoding: Annotated[str, Option(TEXT)] = "utf-8"
    header: Annotated[bool, Option(TEXT)] = True
    delimiter: Annotated[str | None, Option(TEXT, metavar="CHARACTER", parse=parse_character)] = (
        None
    )
    quote: Annotated[str | None, Option(TEXT, metavar="CHARACTER")] = None
    comment: Annotated[str | None, Option(TEXT, metavar="PREFIX")] = None
    escapes: Annotated[bool, Option(TEXT)] = False
    decimal: Annotated[str, Option(TEXT, choices=DECIMALS)] = "."
    thousands: Annotated[str | None, Option(TEXT, metavar="CHARACTER")] = None
    missing_values: Annotated[
        tuple[str, ...] | None, Option(TEXT, metavar="A,B,C", parse=parse_names)
    ] = None
    time_unit: Annotated[str | None, Option(TEXT, choices=TIME_UNITS)] = None
    time_zone: Annotated[str, Option(TEXT)] = "UTC"
    max_dead_letters: Annotated[float, Option(ROWS, metavar="FRACTION")] = 1.0

    def __post_init__(self) -> None:
        require(_is_encoding(self.encoding), "encoding", "one of Python's encodings", self.encoding)
        quote = '"' if self.quote is None else self.quote
        is_quote = quote == "" or (_stands_between(quote) and quote.isascii() and quote != "\\")
        require(is_quote, "quote", "one ASCII character that no name or number has", self.quote)
        is_prefix = self.comment is None or bool(re.fullmatch(r"\S[^\r\n]*", self.comment))
        require(is_prefix, "comment", "text on one line that begins with no space", self.comment)
        for name in ("delimiter", "thousands"):
            value = getattr(self, name)
            stands_between = value is None or _stands_between(value, quote)
            require(stands_between, name, "one character that no name or number has", value)
        is_ascii = self.delimiter is None or self.delimiter.isascii()
        require(is_ascii, "delimiter", "one ASCII character", self.delimiter)
        require_choice(self, "decimal", DECIMALS)
        require(self.thousands != self.decimal, "thousands", "another than decimal", self.thousands)
        if self.time_unit is not None:
            require_choice(self, "time_unit", TIME_UNITS)
        require(_is_zone(self.time_zone), "time_zone", "a name of the tz database", self.time_zone)
        share = self.max_dead_letters
        is_share = is_real(share) and 0 <= share <= 1
        require(is_share, "max_dead_letters", "a share from 0 to 1", share)


def _stands_between(value: str, quote: str = "") -> bool:
    return len(value) == 1 and not value.isalnum() and value not in f"{quote}\r\n\0+-"


def _is_encoding(name: str) -> bool:
    try:
        # Unlike a look-up, it refuses what is no encoding of text, such as hex.
        "".encode(name)
    except (LookupError, TypeError, ValueError):
        return False
    return True


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, OSError, TypeError, ValueError):
        return False
    return True
