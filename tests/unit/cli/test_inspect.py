"""The command inspect: what it shows, what it writes, and what it refuses."""

from __future__ import annotations

import json

import pytest

ROWS = "age,job,y\n" + "".join(
    f"{'' if i == 3 else 20 + i},{'clerk' if i % 3 else 'cook'},{'yes' if i % 2 else 'no'}\n"
    for i in range(40)
)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def arguments(path, *more: str) -> tuple[str, ...]:
    return ("inspect", "--input", str(path), "--format", "csv", "--label", "y", *more)


def test_columns_and_classes_are_shown(call, rows):
    code, out, err = call(*arguments(rows))
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines() if line] == [
        ["feature", "kind", "values", "missing", "example"],
        ["age", "number", "20", "to", "59", "2.5", "%", "20"],
        ["job", "category", "2", "cook"],
        ["rows", "40"],
        ["classes", "no", "(20),", "yes", "(20)"],
    ]


def test_the_contract_is_printed_and_written_and_taken(call, rows, tmp_path):
    path = tmp_path / "contract.json"
    code, out, err = call(*arguments(rows, "--json", "--output", str(path)))
    assert (code, err) == (0, "")
    contract = json.loads(out)
    assert contract == json.loads(path.read_text())
    assert contract["classes"] == ["no", "yes"]
    contract["features"] = [each for each in contract["features"] if each["name"] == "age"]
    path.write_text(json.dumps(contract))
    code, out, err = call(*arguments(rows, "--contract", str(path)))
    assert (code, err) == (0, "")
    assert "job" not in out


def test_what_may_not_be_meant_is_told_on_standard_error(call, rows):
    rows.write_text(ROWS.replace("age,", "age,", 1) + "Total,,\n")
    code, out, err = call(*arguments(rows))
    assert code == 0
    assert err.startswith("note: column 'age' holds 'Total', which is not a number: 1 of 41 rows")
    assert out.startswith("feature")


def test_a_contract_cannot_be_written_over_a_directory(call, rows, tmp_path):
    code, _, err = call(*arguments(rows, "--output", str(tmp_path)))
    assert code == 2
    assert err.startswith("error: ")
    assert str(tmp_path) in err
