"""An id or a label is one text, however its number was written."""

from __future__ import annotations

import pyarrow as pa
import pytest

from app.parsing.cells import canonical_text, plain, texts

FORMS = {
    "1": "1",
    "1.0": "1",
    " 1.000 ": "1",
    "-3.0": "-3",
    "0.0": "0",
    "-0.0": "0",
    "007": "007",
    "007.0": "007.0",
    "1.5": "1.5",
    "1.50": "1.50",
    "1.05": "1.05",
    "1.": "1.",
    ".0": ".0",
    "1.0.0": "1.0.0",
    "1e0": "1e0",
    "12e4": "12e4",
    "1e+07": "10000000",
    "1.0E7": "10000000",
    "1.5e-07": "0.00000015",
    "+1": "+1",
    " up ": "up",
    "in between": "in between",
    "v1.0": "v1.0",
    "True": "true",
    "FALSE": "false",
    "truest": "truest",
    "\t1\t": "1",
    "1.0\n": "1",
}


@pytest.mark.parametrize(("text", "canonical"), FORMS.items())
def test_a_text_has_one_form_and_keeps_it(text, canonical):
    assert canonical_text(text) == canonical
    assert canonical_text(canonical) == canonical


def test_a_column_has_the_forms_of_its_cells():
    assert texts(pa.array([*FORMS, None])).to_pylist() == [*FORMS.values(), None]
    for text, canonical in FORMS.items():
        assert texts(pa.array([text])).to_pylist() == [canonical]


@pytest.mark.parametrize(
    "numbers",
    [
        pa.array([17, 10_000_000]),
        pa.array([17.0, 1e7], pa.float64()),
        pa.array([17.0, 1e7], pa.float32()),
        pa.array(["17.0", "1e+07"]),
        pa.array(["1.7E1", "1.0E7"]),
        pa.array([b"17", b"10000000"]),
        pa.array(["17", "10000000"]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_a_number_is_one_text_in_a_column_of_any_type(numbers):
    assert texts(plain(numbers)).to_pylist() == ["17", "10000000"]


@pytest.mark.parametrize("text", ["", "  ", "nan", "NaN", " NAN "])
def test_what_is_no_id(text):
    assert texts(pa.array([text])).to_pylist() == [None]
