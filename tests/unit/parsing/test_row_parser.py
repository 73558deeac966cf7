"""A row is fit for the model, or it has a reason and is kept as it came."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from app.contract import (
    DIVERGED,
    DUPLICATE_ID,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Contract,
)
from app.files.reading.parquet_rows import damaged_row
from app.files.sequence import numbered
from app.monitor.records import BatchRecord
from app.parsing.raw_batch import CORRUPT_COLUMN
from app.parsing.row_parser import ParsingRules
from app.parsing.times import TimeRules
from tests.unit.rows import (
    ARRAYS,
    INFINITY,
    KEYED,
    NAN,
    REASONS,
    as_json,
    named,
    parsed,
    text_batch,
    validated,
)

# name: line, reason, original values (none where the line is no row)
CSV_CASES = {
    "good": ("a,1,1.5,2,0", None, None),
    "good, quoted": ('"a","1","1.5","2","0"', None, None),
    "good, padded": (" a , 1 , 1.5 , 2 , 0 ", None, None),
    "good, without a label": ("a,1,1.5,2,", None, None),
    "good, with signs and exponents": ("a,1,+1.5,.2e1,0", None, None),
    "short": ("a,1,1.5,0", WRONG_LENGTH, None),
    "long": ("a,1,1.5,2,0,9", WRONG_LENGTH, None),
    "open quote": ('"a,1,1.5,2,0', WRONG_LENGTH, None),
    "no UTF-8": (b"\xff,1,1.5,2,0", WRONG_LENGTH, None),
    "line break in quotes": ('"a\nb",1,nan,2,0', NAN_FEATURE, {"id": "a\nb"}),
    "commas only": (",,,,", NULL_ID, {"id": "", "y": ""}),
    "no id": (",1,1.5,2,0", NULL_ID, {"t": "1", "x0": "1.5", "x1": "2", "y": "0"}),
    "blank id": ("  ,1,1.5,2,0", NULL_ID, {"id": "  "}),
    "no time": ("a,,1.5,2,0", NULL_TIME, {"id": "a", "x0": "1.5", "x1": "2", "y": "0"}),
    "time of day": ("a,12:00,1.5,2,0", UNPARSABLE, {"t": "12:00"}),
    "no feature": ("a,1,,2,0", NULL_FEATURE, {"x1": "2", "y": "0"}),
    "blank feature": ("a,1,1.5,  ,0", NULL_FEATURE, {"x0": "1.5"}),
    "NA": ("a,1,1.5,NA,0", NULL_FEATURE, {"x1": "NA"}),
    "text feature": ("a,1,1.5,abc,0", UNPARSABLE, {"x1": "abc"}),
    "comma in a feature": ('a,1,"1,5",2,0', UNPARSABLE, {"x0": "1,5"}),
    "two numbers": ("a,1,1 5,2,0", UNPARSABLE, {"x0": "1 5"}),
    "nan": ("a,1,nan,2,0", NAN_FEATURE, {"x0": "nan"}),
    "NaN": ("a,1,1.5,NaN,0", NAN_FEATURE, {"x1": "NaN"}),
    "inf": ("a,1,inf,2,0", INFINITE_FEATURE, {"x0": "inf"}),
    "-Infinity": ("a,1,1.5,-Infinity,0", INFINITE_FEATURE, {"x1": "-Infinity"}),
    "inf and -inf": ("a,1,inf,-inf,0", INFINITE_FEATURE, {"x0": "inf", "x1": "-inf"}),
    "1e39": ("a,1,1e39,2,0", INFINITE_FEATURE, {"x0": "1e39"}),
    "-1e39": ("a,1,1.5,-1e39,0", INFINITE_FEATURE, {"x1": "-1e39"}),
    "1e999": ("a,1,1e999,2,0", INFINITE_FEATURE, {"x0": "1e999"}),
    "unknown label": ("a,1,1.5,2,7", UNKNOWN_LABEL, {"y": "7"}),
    "label of another case": ("a,1,1.5,2,UP", UNKNOWN_LABEL, {"y": "UP"}),
    "kept as it came": (
        '"say ""hi"", a","2024-01-01",nan, 2.50 ,"1.0"',
        NAN_FEATURE,
        {"id": 'say "hi", a', "t": "2024-01-01", "x0": "nan", "x1": " 2.50 ", "y": "1.0"},
    ),
    # With several faults, the first found is told.
    "short before all": (",x,nan,7", WRONG_LENGTH, None),
    "id before all": (",x,nan,,7", NULL_ID, {}),
    "no feature before text": ("a,,abc,,7", NULL_FEATURE, {"x0": "abc"}),
    "text before nan": ("a,,nan,abc,7", UNPARSABLE, {"x1": "abc"}),
    "nan before infinite": ("a,,inf,nan,7", NAN_FEATURE, {"x0": "inf"}),
    "infinite before no time": ("a,,inf,2,7", INFINITE_FEATURE, {"x0": "inf"}),
    "no time before label": ("a,,1.5,2,7", NULL_TIME, {"y": "7"}),
    "time before label": ("a,soon,1.5,2,7", UNPARSABLE, {"t": "soon"}),
}

# name: line, reason
JSON_CASES = {
    "good": (as_json(), None),
    "good, as text": (as_json(t="1", x0="1.5", x1=" 2 ", y="0"), None),
    "good, other order and more": ('{"z":[1],"y":0,"x1":2,"x0":1.5,"t":1,"id":"a"}', None),
    "good, null label": (as_json(y=None), None),
    "good, no label": (as_json(y="absent"), None),
    "open": ('{"id": "a"', UNPARSABLE),
    "no JSON": ("a,1,1.5,2,0", UNPARSABLE),
    "no UTF-8": (b'{"id": "\xff"}', UNPARSABLE),
    "half a surrogate pair": (as_json(id="\ud800"), UNPARSABLE),
    "number": ("5", UNPARSABLE),
    "null": ("null", UNPARSABLE),
    "string": ('"a"', UNPARSABLE),
    "array": ("[1, 2]", UNPARSABLE),
    "array of objects": (f"[{as_json()}]", UNPARSABLE),
    "deep": ("[" * 5000, UNPARSABLE),
    "empty object": ("{}", NULL_ID),
    "no id": (as_json(id="absent"), NULL_ID),
    "null id": (as_json(id=None), NULL_ID),
    "null time": (as_json(t=None), NULL_TIME),
    "time of day": (as_json(t="12:00"), UNPARSABLE),
    "null feature": (as_json(x0=None), NULL_FEATURE),
    "no feature": (as_json(x1="absent"), NULL_FEATURE),
    "empty feature": (as_json(x0=""), NULL_FEATURE),
    "text feature": (as_json(x0="abc"), UNPARSABLE),
    "object feature": (as_json(x0={"a": 1}), UNPARSABLE),
    "nan as text": (as_json(x0="nan"), NAN_FEATURE),
    "NaN token": (as_json(x0=NAN), NAN_FEATURE),
    "Infinity token": (as_json(x0=INFINITY), INFINITE_FEATURE),
    "-Infinity token": (as_json(x1=-INFINITY), INFINITE_FEATURE),
    "inf as text": (as_json(x1="inf"), INFINITE_FEATURE),
    "1e39": (as_json(x0=1e39), INFINITE_FEATURE),
    "unknown label": (as_json(y=7), UNKNOWN_LABEL),
    "boolean label": (as_json(y=True), UNKNOWN_LABEL),
    "id before all": (as_json(id=None, t="x", x0=NAN, y=7), NULL_ID),
    "no feature before nan": (as_json(x0=NAN, x1=None), NULL_FEATURE),
    "nan before no time": (as_json(x0=NAN, t=None), NAN_FEATURE),
    "no time before label": (as_json(t=None, y=7), NULL_TIME),
}

ARRAY_CASES = {
    "good": ('{"f":[1.5,2],"y":0}', None),
    "good, as text": ('{"f":["1.5"," 2 "],"y":0}', None),
    "short": ('{"f":[1.5],"y":0}', WRONG_LENGTH),
    "long": ('{"f":[1.5,2,3],"y":0}', WRONG_LENGTH),
    "empty": ('{"f":[],"y":0}', WRONG_LENGTH),
    "null element": ('{"f":[1.5,null],"y":0}', NULL_FEATURE),
    "null array": ('{"f":null,"y":0}', NULL_FEATURE),
    "no array": ('{"y":0}', NULL_FEATURE),
    "number for an array": ('{"f":5,"y":0}', WRONG_LENGTH),
    "object for an array": ('{"f":{"a":1},"y":0}', WRONG_LENGTH),
    "text for an array": ('{"f":"","y":0}', WRONG_LENGTH),
    "text element": ('{"f":[1.5,"abc"],"y":0}', UNPARSABLE),
    "array element": ('{"f":[[1.5],2],"y":0}', UNPARSABLE),
    "NaN token": ('{"f":[1.5,NaN],"y":0}', NAN_FEATURE),
    "Infinity token": ('{"f":[-Infinity,2],"y":0}', INFINITE_FEATURE),
    "1e39": ('{"f":[1e39,2],"y":0}', INFINITE_FEATURE),
    "length before null": ('{"f":[null],"y":7}', WRONG_LENGTH),
    "null before text": ('{"f":["abc",null],"y":7}', NULL_FEATURE),
}

TEXT_CASES = {
    "csv": (KEYED, "csv", CSV_CASES),
    "json": (KEYED, "json", JSON_CASES),
    "arrays": (ARRAYS, "json", ARRAY_CASES),
}
EVERY_CASE = [(kind, case) for kind, (_, _, cases) in TEXT_CASES.items() for case in cases]


@pytest.fixture(scope="module")
def results():
    return {
        kind: named(contract, file_format, cases)
        for kind, (contract, file_format, cases) in TEXT_CASES.items()
    }


@pytest.mark.parametrize(("kind", "case"), EVERY_CASE, ids=map("-".join, EVERY_CASE))
class TestTextRows:
    @pytest.fixture
    def expected(self, kind, case):
        return TEXT_CASES[kind][2][case]

    @pytest.fixture
    def found(self, results, kind, case):
        return results[kind][case]

    def test_the_reason_is_the_first_fault(self, expected, found):
        assert found["reason"] == expected[1]

    def test_only_a_good_row_has_features(self, expected, found):
        assert found["features"] == (None if expected[1] else [1.5, 2.0])

    def test_only_a_bad_row_is_kept_and_with_what_it_held(self, expected, found, kind):
        line, reason, *original = expected
        if reason is None:
            assert found["row"] is None
            return
        text = line.decode(errors="backslashreplace") if isinstance(line, bytes) else line
        if is_corrupt(kind, original, found):
            assert json.loads(found["row"]) == {CORRUPT_COLUMN: text}
        elif kind == "csv":
            row = json.loads(found["row"])
            assert tuple(row) == KEYED.columns
            assert {name: row[name] for name in original[0]} == original[0]
        else:
            assert found["row"] == text

    def test_only_a_known_label_has_an_index(self, expected, found, case):
        if expected[1] is None:
            assert found["label_index"] == (None if "label" in case else 0)

    def test_a_row_says_the_same_alone_and_among_others(self, expected, found, kind):
        contract, file_format, _ = TEXT_CASES[kind]
        (alone,) = validated(contract, file_format, [expected[0]])
        named_by_number = {"event_id"} if contract.id is None else set()
        for name in found.keys() - {"sequence"} - named_by_number:
            assert alone[name] == found[name], name


def is_corrupt(kind: str, original: list, found: dict) -> bool:
    """Return whether a dead letter is of a line that is no row at all."""
    if kind == "csv":
        return original == [None]
    return found["row"].startswith('{"' + CORRUPT_COLUMN)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "json",
            "open, no JSON, no UTF-8, half a surrogate pair, number, null, string, array, "
            "array of objects, deep",
        ),
        ("arrays", ""),
    ],
)
def test_json_that_is_no_object_is_kept_as_text(results, kind, names):
    corrupt = [
        case
        for case, found in results[kind].items()
        if found["row"] and is_corrupt(kind, [], found)
    ]
    assert sorted(corrupt) == sorted(filter(None, names.split(", ")))


def test_every_reason_has_a_case_or_comes_later():
    told = {case[1] for _, _, cases in TEXT_CASES.values() for case in cases.values()}
    assert told - {None} == REASONS - {DUPLICATE_ID, DIVERGED}


class TestRowsAsJson:
    """A good row may be kept too: it may be a duplicate, or diverge."""

    @pytest.mark.parametrize(
        ("contract", "file_format", "texts", "kept"),
        [
            (
                KEYED,
                "csv",
                ["a,1, 1.50 ,2,", "a,1,nan,2,0", "a,1"],
                ['{"id": "a", "t": "1", "x0": " 1.50 ", "x1": "2", "y": ""}', None, None],
            ),
            (KEYED, "json", [f" {as_json(y=None)} ", as_json(x0="nan"), "[]"], [as_json(y=None)]),
            (
                ARRAYS,
                "json",
                ['{"f":[1.5,2],"y":null}', '{"f":[1],"y":0}', "5"],
                ['{"f":[1.5,2],"y":null}'],
            ),
        ],
        ids=["csv", "json", "without an id"],
    )
    def test_every_row_has_it_when_it_is_asked_for(self, contract, file_format, texts, kept):
        without = validated(contract, file_format, texts)
        rows = validated(contract, file_format, texts, with_rows=True)
        assert rows[0]["row"] == kept[0]
        assert [row["row"] for row in rows[1:]] == [row["row"] for row in without[1:]]
        assert without[0]["row"] is None
        for name in rows[0].keys() - {"row"}:
            assert [row[name] for row in rows] == [row[name] for row in without]

    def test_columns_that_are_not_needed_are_kept(self):
        line = '{"id":"a","t":1,"x0":1.5,"x1":null,"more":[1]}'
        (of_json,) = validated(KEYED, "json", [line])
        assert of_json["row"] == line
        batch = text_batch("csv", ["9,a,1,1.5,,0"], ["more", *KEYED.columns])
        (of_csv,) = parsed(KEYED, batch)
        assert json.loads(of_csv["row"] or "") == {
            "more": "9", "id": "a", "t": "1", "x0": "1.5", "x1": "", "y": "0",
        }  # fmt: skip


class TestBatches:
    def test_no_rows_give_no_rows(self):
        for file_format in ("csv", "json"):
            assert validated(KEYED, file_format, []) == []

    def test_rows_keep_their_numbers(self):
        batch = text_batch("json", ["5", as_json(), "", as_json()], first=70)
        assert [row["sequence"] for row in parsed(KEYED, batch)] == [70, 71, 72, 73]

    @pytest.mark.parametrize("header", [["id", "t", "x0", "y"], [*KEYED.columns, "x0"]])
    def test_no_row_of_a_file_that_lacks_a_column_or_has_it_twice_is_one(self, header):
        line = ",".join("1" * len(header))
        (row,) = parsed(KEYED, text_batch("csv", [line], header))
        assert (row["reason"], json.loads(row["row"])) == (WRONG_LENGTH, {CORRUPT_COLUMN: line})

    def test_columns_may_come_in_any_order(self):
        batch = text_batch("csv", ["0,2,z,1.5,1,a"], ["y", "x1", "z", "x0", "t", "id"])
        (row,) = parsed(KEYED, batch)
        assert (row["event_id"], row["features"], row["label_index"]) == ("a", [1.5, 2.0], 0)

    def test_what_cannot_be_read_of_a_file_is_one_row(self):
        (row,) = parsed(KEYED, numbered(damaged_row("it is damaged"), 5))
        assert (row["sequence"], row["reason"]) == (5, UNPARSABLE)
        assert json.loads(row["row"]) == {CORRUPT_COLUMN: "it is damaged"}

    @pytest.mark.parametrize("line", ["a,1,1.5,2,0", "a,1,-999.0,2,0", 'a,1,"-999",NA,0'])
    def test_a_number_may_stand_for_a_missing_value(self, line):
        rules = ParsingRules(missing=("", "-999"), times=TimeRules("s"))
        for others in ([], ["b,1,NA,1,0"], ["b,1,x,1,0"]):
            found = validated(KEYED, "csv", [line, *others], rules=rules)[0]
            assert found["reason"] == (NULL_FEATURE if "999" in line else None)
        typed = {"f": pa.list_(pa.float64()), "y": pa.int64()}
        (row,) = validated(ARRAYS, "parquet", [([-999.0, 1.0], 1)], typed, rules)
        assert row["reason"] == NULL_FEATURE

    def test_a_column_that_is_a_feature_and_an_id_is_read_as_both(self):
        contract = Contract(("n",), ("n",), 1, ("0", "1"), id="n")
        for others in ([], ["x"]):
            row = validated(contract, "csv", ["0012345678901234567890", *others])[0]
            assert row["event_id"] == "0012345678901234567890"
            assert row["features"] == [12345678901234567890.0]


def test_a_diverged_row_is_known_by_its_reason_to_the_batch_log():
    counted = BatchRecord("q", 0, 9, 0, {DIVERGED: 4, NULL_ID: 1}, 0, 0, 0, [1.0], "2024-01-01")
    assert counted.rows_in == 10
