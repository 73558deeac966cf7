"""Rows that cannot be used: each becomes a dead letter with a reason, and stops nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import contract
from app.monitor.listener import Listener
from app.streaming.replay import replay
from tests.integration.streams import (
    FEATURES,
    SMALL,
    read_dead_letters,
    read_predictions,
    small_csv,
    small_replay,
    small_rows,
    small_settings,
    write_csv,
)
from tests.unit.rows import REASONS

HEADER = ("id", "at", *FEATURES, "label")
GOOD = 240


def good_rows() -> list[list]:
    X, y = small_rows(GOOD)
    return [
        [f"e{i}", f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z", *map(float, x), int(label)]
        for i, (x, label) in enumerate(zip(X, y, strict=True))
    ]


def bad_rows() -> dict[str, list[list]]:
    """Return rows by the reason that each must get."""
    at = "2026-01-01T00:00:30Z"
    return {
        contract.NULL_ID: [["", at, 1, 2, 3, 4, 0]],
        contract.DUPLICATE_ID: [["e0", at, 1, 2, 3, 4, 0], ["e7", at, 5, 5, 5, 5, 1]],
        contract.NULL_TIME: [["b1", "", 1, 2, 3, 4, 0]],
        contract.NULL_FEATURE: [["b2", at, 1, "", 3, 4, 0]],
        contract.NAN_FEATURE: [["b3", at, 1, "nan", 3, 4, 0]],
        contract.INFINITE_FEATURE: [["b4", at, "inf", 2, 3, 4, 0], ["b5", at, 1, 2, "-1e39", 4, 1]],
        contract.WRONG_LENGTH: [["b6", at, 1, 2, 3], ["b7", at, 1, 2, 3, 4, 0, 9]],
        contract.UNPARSABLE: [["b8", at, "one", 2, 3, 4, 0], ["b9", "yesterday", 1, 2, 3, 4, 0]],
        contract.UNKNOWN_LABEL: [["b10", at, 1, 2, 3, 4, 7], ["b11", at, 1, 2, 3, 4, "up"]],
    }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory):
    """Replay good rows alone, and the same rows with every kind of bad one in between."""
    root = tmp_path_factory.mktemp("mixed")
    rows = good_rows()
    options = {
        "id": "id",
        "time": "at",
        "features": FEATURES,
        "classes": ("0", "1"),
        "missing": "reject",
    }
    clean = small_replay(
        write_csv(root / "clean.csv", rows, HEADER), root / "clean", rows_per_batch=60, **options
    )
    bad = [row for rows in bad_rows().values() for row in rows]
    dirty_rows = list(rows)
    for i, row in enumerate(bad):
        dirty_rows.insert(40 + 13 * i, row)
    dirty = small_replay(
        write_csv(root / "dirty.csv", dirty_rows, HEADER),
        root / "dirty",
        rows_per_batch=60,
        **options,
    )
    return root, clean, dirty


def test_rows_in_are_those_scored_and_the_dead_letters(mixed):
    _, clean, dirty = mixed
    n_bad = sum(map(len, bad_rows().values()))
    assert clean.run.dead_letters == 0
    assert (dirty.run.rows_scored, dirty.run.dead_letters) == (GOOD, n_bad)
    assert dirty.run.rows_in == GOOD + n_bad


def test_every_reason_is_given_to_the_rows_that_earn_it(mixed):
    _, _, dirty = mixed
    expected = {reason: len(rows) for reason, rows in bad_rows().items()}
    assert dirty.run.dead_letters_by_reason == expected
    assert set(expected) == REASONS - {contract.DIVERGED}


def test_good_rows_fare_as_without_the_bad_ones(mixed):
    root, clean, dirty = mixed
    assert dirty.state_sha256 == clean.state_sha256
    assert dirty.run.prequential_error == clean.run.prequential_error
    ids = [set(read_predictions(root / name)["event_id"]) for name in ("clean", "dirty")]
    assert ids[0] == ids[1] == {f"e{i}" for i in range(GOOD)}


def test_a_dead_letter_keeps_the_original_row_as_json(mixed):
    root, _, _ = mixed
    letters = read_dead_letters(root / "dirty").set_index("event_id")
    assert json.loads(letters.loc["b8", "row"]) == {
        "id": "b8", "at": "2026-01-01T00:00:30Z",
        "x0": "one", "x1": "2", "x2": "3", "x3": "4", "label": "0",
    }  # fmt: skip
    assert json.loads(letters.loc["b2", "row"])["x1"] == ""
    assert json.loads(letters.loc["e7", "row"])["x0"] == "5"
    too_long = letters[letters["reason"] == contract.WRONG_LENGTH]["row"]
    lines = {json.loads(row)["_corrupt_line"] for row in too_long}
    at = "2026-01-01T00:00:30Z"
    assert lines == {f"b6,{at},1,2,3", f"b7,{at},1,2,3,4,0,9"}


def test_a_file_of_bad_rows_alone_leaves_the_model_at_version_0(tmp_path: Path):
    bad = [["", "", "", "", 1], ["inf", 1, 1, 1, 0]] * 5
    path = write_csv(tmp_path / "bad.csv", [*bad, ["1", "1", "1", "1", ""]], (*FEATURES, "label"))
    summary = small_replay(path, tmp_path / "w", classes=("0", "1"))
    assert (summary.version, summary.run.dead_letters, summary.run.rows_scored) == (0, 10, 1)
    assert summary.run.prequential_error is None


def test_too_many_dead_letters_are_a_problem_with_an_example_and_a_remedy(tmp_path: Path):
    X, y = small_rows(100)
    rows = [[*map(float, x), int(label)] for x, label in zip(X, y, strict=True)]
    for row in rows[60:]:
        row[1] = "12,5" if row is rows[60] else "n/k"
    path = write_csv(tmp_path / "rows.csv", rows, (*FEATURES, "label"))
    notes: list[str] = []
    listener = Listener()
    listener.warned = notes.append
    settings = small_settings(path, tmp_path / "w", max_dead_letters=0.3)
    summary = replay(settings, listener)
    said = (
        "40 of 100 rows are dead letters, first: column x1 = '12,5' is not a number; --decimal , "
        "reads it as one"
    )
    assert notes == [
        "column 'x1' holds '12,5', which is not a number: 40 of 100 rows will be dead letters for "
        "that",
        said,
    ]
    assert str(summary.problem) == said and summary.problem.exit_code == 5
    assert (summary.run.rows_learned, summary.version) == (60, 1)
    assert small_replay(path, tmp_path / "w", max_dead_letters=0.3).problem is None


def test_garbage_that_is_no_text_stops_nothing(tmp_path: Path):
    X, y = small_rows(50)
    path = write_csv(
        tmp_path / "g.csv",
        [[*map(float, x), int(label)] for x, label in zip(X, y, strict=True)],
        (*FEATURES, "label"),
    )
    with open(path, "ab") as file:
        file.write(b'\xff\xfe\x00"\x01,,\n' + b'"unclosed,1,2,3\n' + b"1,2,3,4,1\n")
    summary = small_replay(path, tmp_path / "w")
    assert (summary.run.rows_scored, summary.run.dead_letters) == (51, 2)


def test_a_batch_that_makes_the_model_diverge_is_not_learned_and_stops_nothing(tmp_path: Path):
    X, y = small_rows(300)
    rows = [[f"e{i}", *map(float, x), int(t)] for i, (x, t) in enumerate(zip(X, y, strict=True))]
    header = ("id", *FEATURES, "label")
    without = write_csv(tmp_path / "without.csv", rows[:100] + rows[200:], header)
    rows[150][1] = 3e38
    # A duplicate and a row without a label, in the batch that diverges.
    rows[160][0], rows[170][-1] = "e0", ""
    path = write_csv(tmp_path / "rows.csv", rows, header)
    # Standardised and clipped, no single row could do it.
    plain = SMALL | {"variant": "paper", "standardize": False}
    options = {"id": "id", "features": FEATURES, "classes": ("0", "1"), "model_options": plain}
    notes: list[str] = []
    listener = Listener()
    listener.warned = notes.append
    summary = replay(small_settings(path, tmp_path / "w", **options), listener)
    assert summary.run.dead_letters_by_reason == {"diverged": 98, "duplicate_id": 1}
    assert (summary.run.rows_in, summary.run.rows_scored) == (300, 299)
    assert (summary.run.rows_learned, summary.version) == (200, 2)
    diverged, share = notes
    assert diverged.startswith("batch 1: learning its 98 labelled rows gives")
    assert share == (
        "99 of 300 rows are dead letters, first of each kind: diverged (98); "
        "column id = 'e0' is that of an earlier row"
    )

    letters = read_dead_letters(tmp_path / "w").set_index("event_id")
    diverged = letters[letters["reason"] == contract.DIVERGED]
    assert set(diverged.index) == {f"e{i}" for i in range(100, 200)} - {"e160", "e170"}
    assert float(json.loads(diverged.loc["e150", "row"])["x0"]) == 3e38

    spared = small_replay(without, tmp_path / "spared", **options)
    assert summary.state_sha256 == spared.state_sha256


def test_a_network_that_died_is_told_once(tmp_path):
    options = SMALL | {"variant": "paper", "learning_rate": 1e3, "gradient_clip_norm": 1.0}
    notes: list[str] = []
    listener = Listener()
    listener.warned = notes.append
    path = small_csv(tmp_path / "rows.csv", 900)
    settings = small_settings(path, tmp_path / "w", rows_per_batch=300, model_options=options)
    assert replay(settings, listener).run.rows_learned == 900
    assert len(notes) == 1
    assert notes[0].startswith("no unit of hidden layer 2, 3 fires in the last 256 rows")
