"""What a new model is made for is told by its input, or asked."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config.features import InputSettings
from app.contract import Category, Encoding
from app.errors import UserError
from app.inspection import look as look_module
from app.inspection.classes import choose_classes
from app.inspection.description import as_table, in_short
from app.inspection.design import Design
from app.inspection.look import HASHED_SLOTS
from app.streaming.sources.replay_input import design_of_input, read_input


@pytest.fixture
def design(tmp_path):
    """Return a function that writes a file and designs a model for it."""

    def design_for(content, file_format="csv", **options) -> Design:
        path = tmp_path / f"rows.{file_format}"
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_text(content)
        settings = InputSettings(input=path, format=file_format, label="y", **options)
        return design_of_input(settings, read_input(settings))

    return design_for


def csv(**columns: list[object]) -> str:
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


def table(**columns: list[object]) -> str:
    """Return CSV with a label."""
    n = len(next(iter(columns.values())))
    return csv(**columns, y=["no", "yes"] * (n // 2) + ["no"] * (n % 2))


def category(*names: str) -> Category:
    return Category(names, HASHED_SLOTS)


class TestKinds:
    def test_text_is_a_category_and_numbers_are_numbers(self, design):
        found = design(table(x=[1, 2.5, 3, 4], job=["b", "a", "b", "c"]))
        assert found.fixed.features == ("x", "job")
        assert found.fixed.encoding == Encoding({"job": category("a", "b", "c")}, imputes=True)

    def test_numbers_that_are_named_are_categories(self, design):
        content = table(month=[12, 1, 12, 2])
        found = design(content, categorical=("month",))
        assert found.fixed.encoding.categories == {"month": category("1", "12", "2")}
        assert not design(content).fixed.encoding.categories

    def test_the_same_in_every_format(self, design, tmp_path):
        columns = {"x": [1.5, None, 3.0, 4.0], "job": ["b", "a", None, "c"]}
        y = ["no", "yes", "no", "yes"]
        rows = [
            {"x": x, "job": job, "y": label}
            for x, job, label in zip(*columns.values(), y, strict=True)
        ]
        written = {
            "csv": table(x=[1.5, "", 3.0, 4.0], job=["b", "a", "NA", "c"]),
            "json": "".join(json.dumps(row) + "\n" for row in rows),
            "parquet": pa.table(columns | {"y": y}),
        }
        designs = [design(content, name).fixed for name, content in written.items()]
        assert designs[0] == designs[1] == designs[2]
        assert designs[0].encoding.indicators == ("x",)

    def test_the_commonest_of_many_categories_have_a_slot(self, design):
        jobs = ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2
        found = design(table(job=jobs), max_categories=2)
        assert found.fixed.encoding.categories == {"job": category("a", "b")}
        assert "2 of 4" in "\n".join(as_table(found))

    def test_a_column_of_few_slips_is_of_numbers_and_they_are_told(self, design):
        found = design(table(x=[*range(19), "abc"]))
        assert found.fixed.encoding == Encoding(imputes=True)
        assert found.notes == (
            "column 'x' holds 'abc', which is not a number: 1 of 20 rows will be dead letters for "
            "that",
        )

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([f"name {i}" for i in range(300)], "and 300 different texts on 300 rows"),
            (["2024-01-01", "2024-01-02"] * 10, "a time and no number; name it as --time"),
            (['"1,5"', '"2,25"', '"-3,75"', "4"] * 5, "if it is one, give --decimal ,"),
        ],
        ids=["text", "time", "commas"],
    )
    def test_what_is_no_feature_is_refused_with_what_to_do(self, design, values, message):
        content = table(x=[1.0] * len(values), odd=values)
        with pytest.raises(UserError, match=f"column 'odd' holds .*{message}"):
            design(content)
        assert "odd" in design(content, categorical=("odd",)).fixed.encoding.categories

    @pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us", "UTC"), pa.timestamp("ms")])
    def test_typed_dates_are_no_features(self, design, kind):
        columns = {
            "day": pa.array([0, 1, 2, 3]).cast(pa.int64()).cast(pa.int32()),
            "y": list("abab"),
        }
        columns["day"] = columns["day"].cast(kind if kind == pa.date32() else pa.int64()).cast(kind)
        with pytest.raises(UserError, match="column 'day' holds .*, a time and no number"):
            design(pa.table(columns), "parquet")

    def test_arrays_are_numbers(self, design):
        content = "".join(
            json.dumps({"v": [1.0, i], "y": "no" if i % 2 else "yes"}) + "\n" for i in range(9)
        )
        assert design(content, "json").fixed.encoding == Encoding(imputes=True)


class TestMissing:
    def test_a_column_with_missing_values_has_an_indicator(self, design):
        content = table(x=[1, "NA", 3, 4], z=[1, 2, 3, 4])
        assert design(content).fixed.encoding == Encoding({}, ("x",), imputes=True)
        assert design(content, missing="reject").fixed.encoding == Encoding()
        assert "25.0 %" in "\n".join(as_table(design(content)))

    def test_a_category_has_a_slot_for_them_in_any_case(self, design):
        encoding = design(table(x=[1, 2, 3, 4], job=["a", "?", "b", "a"])).fixed.encoding
        assert encoding == Encoding({"job": category("a", "b")}, imputes=True)

    def test_a_column_that_holds_nothing_is_told(self, design):
        found = design(table(x=[1, 2, 3, 4], empty=["", "", "NA", ""]))
        assert found.notes == ("column 'empty' holds nothing on the first 4 rows",)


class TestTold:
    def test_a_name_that_is_seen_late_is_told_with_its_row(self, design):
        rows = [{"x": i, "y": "no" if i % 2 else "yes"} for i in range(1100)]
        rows[1000]["z"] = 5
        found = design("".join(json.dumps(row) + "\n" for row in rows), "json")
        assert "column 'z' is first seen in row 1,001 and is no feature" in found.notes[0]

    def test_a_label_that_looks_like_none_is_told(self, design):
        found = design(csv(x=[1, 2, 3, 4, 5, 6], y=["a", "NA", "b", "a", "NA", "b"]))
        assert found.fixed.classes == ("a", "b")
        assert found.notes == (
            "2 rows have the label 'NA' in column 'y', which counts as none; if it is a class, "
            "name it among the --classes",
        )

    def test_a_constant_is_told(self, design):
        found = design(table(x=[5] * 4, z=[1, 2, 3, 4]))
        assert found.notes == ("column 'x' is 5 on all of 4 rows",)

    def test_the_start_is_short_and_the_table_has_every_column(self, design):
        found = design(table(x=[1, "NA", 3, 4], job=["a", "b", "a", "b"]))
        assert in_short(found) == [
            "1 numbers: x (25.0 % missing)",
            "1 categories: job (2)",
            "classes: no (2), yes (2)",
        ]
        assert [line.split() for line in as_table(found)] == [
            ["feature", "kind", "values", "missing", "example"],
            ["x", "number", "1", "to", "4", "25.0", "%", "1"],
            ["job", "category", "2", "a"],
            [],
            ["rows", "4"],
            ["classes", "no", "(2),", "yes", "(2)"],
        ]

    def test_only_the_beginning_of_a_long_input_is_looked_at(self, design, monkeypatch):
        monkeypatch.setattr(look_module, "MOST_ROWS", 10)
        monkeypatch.setattr(look_module, "_ROWS_PER_READ", 5)
        found = design(table(job=["a", "b"] * 5 + ["c", "d"] * 5))
        assert found.fixed.encoding.categories == {"job": category("a", "b")}
        assert found.labels.labels == {"no": 10, "yes": 10}
        assert as_table(found)[-2] == "rows     10, the first"


class TestClasses:
    def test_those_that_differ_in_capitals_alone_are_noted(self, design):
        labels = ["Yes", "no", "yes", "No", "YES", "no", "maybe"]
        found = design(csv(x=range(35), y=labels * 5))
        assert found.fixed.classes == ("No", "YES", "Yes", "maybe", "no", "yes")
        assert found.notes == (
            "labels No, no differ in nothing but capitals, and are classes of their own; write "
            "them alike if they are one",
            "labels YES, Yes, yes differ in nothing but capitals, and are classes of their own; "
            "write them alike if they are one",
        )

    def test_quotes_after_a_space_are_noted(self, design):
        found = design('x, y\n1, "a"\n2, "b"\n3, "a"\n4, "b"\n')
        assert found.fixed.classes == ('"a"', '"b"')
        (note,) = found.notes
        assert note.startswith('labels such as "a" have quotes of their own')

    def test_they_are_in_order_numbers_first_and_by_value(self):
        counts = {"b": 5, "10": 5, "a": 5, "9": 5}
        assert choose_classes(counts, "y") == ("9", "10", "a", "b")

    @pytest.mark.parametrize(
        ("counts", "question"),
        [
            (
                {"ok": 4996, "fraud": 4},
                "holds ok on 4,996 rows, fraud on 4 rows. .* may be slips: "
                "--classes fraud,ok takes all of them$",
            ),
            (
                {"up": 500, "down": 499, "u p": 1},
                "u p on 1 row. .*: --classes down,u p,up takes all of them, and --classes down,up "
                "has rows of the others as dead letters$",
            ),
        ],
    )
    def test_rare_ones_are_asked_about(self, counts, question):
        with pytest.raises(UserError, match=question):
            choose_classes(counts, "y")

    @pytest.mark.parametrize("counts", [{}, {"ok": 300}])
    def test_there_must_be_two(self, counts):
        with pytest.raises(UserError, match="at least 2 labels are needed"):
            choose_classes(counts, "y")

    def test_measured_numbers_are_none(self):
        counts = {f"{i}.5": 1 for i in range(300)} | {"7.25": 3}
        with pytest.raises(UserError, match="column 'y' looks measured: 301 different numbers"):
            choose_classes(counts, "y")

    def test_those_that_are_named_always_win(self, design):
        content = csv(x=[1, 2, 3], y=["a", "b", "c"])
        assert design(content, classes=("c", "1.0")).fixed.classes == ("c", "1")


def test_looking_is_no_learning(design, tmp_path):
    design(table(x=[1, 2, 3, 4]))
    assert [path.name for path in Path(tmp_path).iterdir()] == ["rows.csv"]


def test_rows_that_are_none_are_told_with_the_first_even_where_the_classes_are_not_clear(design):
    content = "x,y\n1,a\n1,2,3\n2,a\n"
    with pytest.raises(UserError, match="holds a on 2 rows") as refused:
        design(content)
    assert refused.value.__notes__ == [
        "1 of 3 rows are none and will be dead letters, first: 1,2,3 has not as many fields as the "
        "header, or not its columns"
    ]
    assert design(content, classes=("a", "b")).notes == tuple(refused.value.__notes__)


def test_nested_values_are_no_feature(design):
    content = pa.table({"x": [1.0, 2.0], "at": [{"lat": 1.0}, {"lat": 2.0}], "y": ["a", "b"]})
    with pytest.raises(
        UserError, match=r"column 'at' holds \{'lat': 1.0\}, which is nested and no"
    ):
        design(content, "parquet")
