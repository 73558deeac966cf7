"""How a cell becomes a number, or the text of an id or a label: for every format, here alone.

A value means the same whichever way it was written: 17 in a column of integers, 17.0 in one of
floating-point numbers, ``1.7E1`` as Java and ``1.7e+01`` as C write it, and each of them as text.
What is text in the first place is left as it is, but for white space around it. How a cell is read
depends on no other one of its column.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MISSING_TOKENS = ("", "na", "n/a", "nan", "null", "none", "?")
"""What stands for a missing value in text, whatever the case, unless other tokens are named."""

LARGEST = float(np.nextafter(float(np.finfo(np.float32).max) + 2.0**103, 0))
"""A number beyond it counts as infinite: it would be rounded to no float32."""

SOUND, NULL, NAN, INFINITE, UNPARSABLE = range(5)
"""What is wrong with a number."""

MISSING_IDS = ("", "nan")
"""What stands for no id: nothing, and what any writer makes of the NaN of a column of numbers."""

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"(?i)^[+-]?(?:nan|inf|infinity)$"
_TRUTH = re.compile(r"true|false", re.IGNORECASE)

# What writers of floating-point numbers write, and ids hardly hold: hexadecimal digits such as
# 10e2 have neither a point nor a sign.
_FLOAT_TEXT = re.compile(
    r"-0|-?(?:(?:0|[1-9][0-9]*)\.0+|[0-9](?:\.[0-9]+)?e[+-][0-9]{1,3}|[0-9]\.[0-9]+E-?[0-9]{1,3})"
)
_MAYBE_CHANGED = r"(?i)^(?:-0|-?[0-9]+\.0+|-?[0-9][0-9.]*e[-+0-9]+|true|false)$"


def canonical_text(value: str) -> str:
    """Return an id or a label as text that is the same however its number was written.

    Examples
    --------
    >>> [canonical_text(value) for value in (" 1.0 ", "1e+07", "1.0E7", "01", "12e4", "True")]
    ['1', '10000000', '10000000', '01', '12e4', 'true']
    """
    value = value.strip()
    if _TRUTH.fullmatch(value):
        return value.lower()
    if not _FLOAT_TEXT.fullmatch(value):
        return value
    return number_text(Decimal(value))


def number_text(value: Decimal) -> str:
    """Return a number as the shortest text without an exponent, a whole one as an integer.

    Examples
    --------
    >>> [number_text(Decimal(value)) for value in ("17.0", "1e22", "0.10", "-0", "1.5e-7", "Inf")]
    ['17', '10000000000000000000000', '0.1', '0', '0.00000015', 'Infinity']
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return "0" if text == "-0" else text


def texts(values: pa.Array, missing: Sequence[str] = MISSING_IDS) -> pa.Array:
    """Return ids or labels in canonical form.

    Parameters
    ----------
    values : pa.Array, shape (n,)
        Of any type that :func:`plain` gives.
    missing
        Lower-case texts that stand for no value.

    Returns
    -------
    pa.Array, shape (n,), string
        Null where there is no value: a null, a NaN, a token of ``missing``, a nested value.
    """
    kind = values.type
    if pa.types.is_floating(kind):
        # A float32 as the shortest text that is that float32.
        known = pc.if_else(pc.is_nan(values), None, values)
        text = _mapped(_of_float, known.cast(_STRING))
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        text = values.cast(_STRING)
    elif pa.types.is_decimal(kind):
        text = _mapped(number_text, values)
    else:
        text = pc.utf8_trim_whitespace(as_strings(values))
        if pc.any(pc.match_substring_regex(text, _MAYBE_CHANGED)).as_py():
            text = _mapped(canonical_text, text)
    return pc.if_else(is_one_of(text, missing), pa.scalar(None, _STRING), text)


def numbers(values: pa.Array, missing: Sequence[str] = MISSING_TOKENS) -> tuple[Any, Any]:
    """Return numbers, and what is wrong with those that are none.

    Parameters
    ----------
    values : pa.Array, shape (n,)
        Numbers, booleans (0 and 1), or text of either.
    missing
        Lower-case texts that stand for no value.

    Returns
    -------
    values : ndarray, shape (n,), float64
        NaN where there is no finite number.
    faults : ndarray, shape (n,), uint8
        ``SOUND``, ``NULL``, ``NAN``, ``INFINITE`` or ``UNPARSABLE``.
    """
    faults = np.zeros(len(values), np.uint8)
    kind = values.type
    if is_numeric(kind):
        as_float = values.cast(pa.float64(), safe=False)
    elif is_text(kind):
        as_float, faults = _of_text(as_strings(values), missing)
    else:
        as_float = pa.nulls(len(values), pa.float64())
        faults[:] = UNPARSABLE
    faults[np.asarray(values.is_null())] = NULL
    numbers = as_float.to_numpy(zero_copy_only=False)
    if not are_usable(numbers):
        unexplained = faults == SOUND
        faults[unexplained & np.isnan(numbers)] = NAN
        infinite = np.abs(numbers) > LARGEST
        faults[unexplained & infinite] = INFINITE
        numbers = np.where(infinite, np.nan, numbers)
    tokens = numbers_among(tuple(missing))
    if tokens:
        is_token = np.isin(numbers, tokens)
        faults[is_token] = NULL
        numbers = np.where(is_token, np.nan, numbers)
    return numbers, faults


@functools.lru_cache(maxsize=64)
def numbers_among(missing: tuple[str, ...]) -> list[float]:
    """Return those tokens for a missing value that are numbers, such as -999."""
    return [float(token) for token in missing if re.fullmatch(_NUMBER, token)]


def are_usable(numbers: np.ndarray) -> bool:
    """Return whether all of some numbers are there, and none is beyond :data:`LARGEST`."""
    return bool((np.abs(numbers) <= LARGEST).all())


def of_objects(values: list[Any]) -> pa.Array:
    """Return the values of a JSON column as one Arrow column: of their own type if they share one,
    else of text. An array or an object is its JSON text.
    """
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) == 1 and kinds <= _ARROW_TYPES.keys():
        with contextlib.suppress(pa.ArrowException, OverflowError):
            return pa.array(values, _ARROW_TYPES[kinds.pop()])
    return pa.array([None if value is None else _object_text(value) for value in values], _STRING)


def lists_of_objects(values: list[Any]) -> pa.Array | None:
    """Return the arrays of a JSON column, of numbers or of text, None when there is none.

    Beside arrays, what is none is an empty one.
    """
    if not any(type(value) is list for value in values):
        return None
    lists = [
        None if value is None else value if isinstance(value, list) else [] for value in values
    ]
    with contextlib.suppress(pa.ArrowException, TypeError, OverflowError):
        if not any(type(item) is bool for value in lists if value for item in value):
            return pa.array(lists, pa.list_(pa.float64()))
    items = [
        value and [None if item is None else _object_text(item) for item in value]
        for value in lists
    ]
    return pa.array(items, pa.list_(_STRING))


def plain(values: pa.Array) -> pa.Array:
    """Return a typed column of whatever origin as one of a type that has cells of its own.

    Text that is no UTF-8, which Parquet does not look at, is null.
    """
    kind = values.type
    types = pa.types
    if types.is_dictionary(kind):
        return plain(values.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(values))
    if isinstance(values, pa.ExtensionArray):
        is_uuid = kind.extension_name == "arrow.uuid"
        return _mapped(str, values) if is_uuid else plain(values.storage)
    if types.is_string(kind) or types.is_large_string(kind):
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            return as_strings(values.cast(pa.large_binary()))
    return values


def as_strings(values: pa.Array) -> pa.Array:
    """Return text of any kind, also bytes in UTF-8, as strings; null where there is no text."""
    if pa.types.is_nested(values.type):
        return pa.nulls(len(values), _STRING)
    try:
        return values.cast(_STRING)
    except pa.ArrowInvalid:
        return _mapped(_decoded, values)
    except pa.ArrowNotImplementedError:
        return _mapped(str, values)


def is_numeric(kind: pa.DataType) -> bool:
    """Return whether a type holds numbers, or booleans."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type holds text, as strings or in bytes, or nothing at all."""
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
        or types.is_null(kind)
    )


def is_one_of(text: pa.Array, tokens: Sequence[str]) -> pa.Array:
    """Return where text is one of some lower-case tokens, whatever its case."""
    return pc.is_in(pc.utf8_lower(text), pa.array(tokens, _STRING))


_STRING = pa.string()
_ARROW_TYPES: dict[type, pa.DataType] = {
    str: _STRING,
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def _of_text(text: pa.Array, missing: Sequence[str]) -> tuple[pa.Array, np.ndarray]:
    faults = np.zeros(len(text), np.uint8)
    with contextlib.suppress(pa.ArrowInvalid):
        # What is written plainly is read at once; the rest takes a closer look.
        plainly = pc.cast(text, pa.float64())
        if not pc.any(pc.is_nan(plainly)).as_py():
            return plainly, faults
    text = pc.utf8_trim_whitespace(text)
    is_missing = is_one_of(text, missing)
    is_truth = pc.fill_null(pc.match_substring_regex(text, r"(?i)^(?:true|false)$"), False)
    text = pc.if_else(is_truth, _truth_digits(text), text)
    is_number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
    is_not_finite = pc.fill_null(pc.match_substring_regex(text, _NOT_FINITE), False)
    readable = pc.if_else(pc.or_(is_number, is_not_finite), text, pa.scalar(None, _STRING))
    as_float = pc.cast(pc.utf8_ltrim(readable, "+"), pa.float64())
    faults[np.asarray(as_float.is_null())] = UNPARSABLE
    # NaN is a token for a missing value, and is told by its own name.
    is_nan = np.asarray(is_not_finite) & np.asarray(pc.fill_null(pc.is_nan(as_float), False))
    faults[np.asarray(pc.fill_null(is_missing, False))] = NULL
    faults[is_nan] = NAN
    return as_float, faults


def _truth_digits(text: pa.Array) -> pa.Array:
    is_true = pc.equal(pc.utf8_lower(text), "true")
    return pc.if_else(is_true, pa.scalar("1"), pa.scalar("0"))


def _mapped(text_of: Callable[[Any], str | None], values: pa.Array) -> pa.Array:
    every = values.to_pylist()
    return pa.array([None if value is None else text_of(value) for value in every], _STRING)


def _of_float(text: str) -> str:
    """Return a floating-point number in canonical form, from Arrow's text of it."""
    return text if text.endswith("inf") else number_text(Decimal(text))


def _object_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "{...}"


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
