"""What the settings of a run say of its rows, as readers and parsers take it."""

from __future__ import annotations

from app.config.rows import RowSettings
from app.files.reading.text_stream import TextFormat
from app.parsing.cells import MISSING_TOKENS
from app.parsing.row_parser import ParsingRules
from app.parsing.times import TimeRules


def text_format(settings: RowSettings) -> TextFormat:
    """Return how text files are written."""
    return TextFormat(
        settings.encoding,
        settings.delimiter,
        settings.escapes,
        settings.decimal,
        settings.thousands or "",
        settings.quote,
        settings.comment or "",
        settings.header,
    )


def parsing_rules(settings: RowSettings, *, rejects_future: bool = False) -> ParsingRules:
    """Return what cells mean."""
    named = settings.missing_values
    missing = MISSING_TOKENS if named is None else ("", *(token.lower() for token in named))
    times = TimeRules(settings.time_unit, settings.time_zone)
    return ParsingRules(missing, times, rejects_future)
