"""Small files as people have them: each is read as it is meant, or refused in words.

The files lie in ``../shared/inputs`` beside the checkout. None may end in a wrong model, in a
traceback, or with rows that are gone in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.config.run import ReplaySettings, StreamSettings, settings_from
from app.errors import TooManyDeadLettersError, UserError
from app.monitor.listener import Listener
from app.streaming.replay import replay
from app.streaming.stream import stream
from tests.integration.streams import read_predictions

INPUTS = Path(__file__).resolve().parents[3] / "shared" / "inputs"
SMALL = {"n_hidden_layers": 2, "n_hidden_units": 8}
XY = {"features": "x,y"}
PARQUET, JSON = {"format": "parquet"}, {"format": "json"}
LABEL = {"label": "label"}

READ = {
    # name: options, rows in, rows learned, labels, part of a note
    "backslash": (XY | {"escapes": True}, 200, 200, 2, None),
    "bool_csv": ({}, 300, 300, 2, None),
    "bool_json": (JSON | LABEL, 300, 300, 2, None),
    "cat_mixed": ({}, 300, 300, 2, None),
    "classes_float": ({"classes": "0.0,1.0"}, 300, 300, 2, None),
    "cr_only": ({}, 300, 300, 2, None),
    "epoch_feature": ({}, 3000, 3000, 2, None),
    "epoch_feature_rel": ({}, 3000, 3000, 2, None),
    "gz": ({}, 300, 300, 2, None),
    "gz_json": (JSON | LABEL, 300, 300, 2, None),
    "headerless": ({"header": False, "label": "c2"}, 300, 300, 2, None),
    "hive": ({}, 200, 200, 2, "directories name the columns date"),
    "huge_label": ({}, 300, 300, 2, None),
    "imbalanced": ({"classes": "ok,fraud"}, 5000, 5000, 2, None),
    "java_suffix2": ({}, 300, 300, 2, None),
    "json_array": (JSON | LABEL, 300, 300, 2, None),
    "json_missing": (JSON | LABEL, 300, 300, 2, None),
    "json_nan": (JSON | LABEL, 200, 200, 2, None),
    "json_nested": (JSON | LABEL, 300, 300, 2, None),
    "latin1_labels": ({"encoding": "latin-1"}, 400, 400, 3, None),
    "lead_zero": ({}, 300, 300, 2, None),
    "na_label": ({}, 300, 225, 2, "75 rows have the label 'NA'"),
    "na_tokens": ({}, 300, 300, 2, None),
    "nan_label": ({}, 300, 225, 2, "75 rows have the label 'NaN'"),
    "nbsp": ({}, 200, 200, 2, None),
    "newline": (XY, 100, 100, 2, None),
    "newline_ok": (XY, 100, 100, 2, None),
    "pandas_index": ({}, 300, 300, 2, None),
    "pq_big_float_label": (PARQUET, 300, 300, 2, None),
    "pq_index": (PARQUET, 300, 300, 2, "__index_level_0__"),
    "pq_nullable": (PARQUET, 300, 257, 2, None),
    "pq_unused_odd": (PARQUET | XY, 300, 300, 2, None),
    "pq_vector": (PARQUET | LABEL, 300, 300, 2, None),
    "semicolon": ({"decimal": ","}, 300, 300, 2, None),
    "tsv": ({}, 300, 300, 2, None),
}
REFUSED = {
    "backslash": (XY, "give --escapes"),
    "date_feature": ({}, "column 'when' holds '2024-01-01', a time.*name it as --time"),
    "decimal_comma": ({}, "column 'x' holds '0,066'.*--decimal ,"),
    "dup_header": ({}, "more than one column 'x'"),
    "headerless": ({}, "give --no-header"),
    "imbalanced": ({}, "fraud on 4 rows.*--classes fraud,ok"),
    "imbalanced3": ({}, "--classes down,fraud,up takes all of them"),
    "latin1_labels": ({}, "at least 2 labels"),
    "pq_time_feature": (PARQUET, "column 'ts' holds .*a time and no number"),
    "regression": ({"label": "target"}, "column 'target' looks measured"),
    "semicolon": ({}, "column 'x' holds '1,288'.*--decimal ,"),
    "single_class": ({}, "holds ok on 300 rows; at least 2 labels are needed"),
}
STREAMED = {
    # name: options, events scored, labels learned
    "s_array": ({}, 200, 200),
    "s_bool": ({"features": "x,flag"}, 200, 200),
    "s_csv": ({}, 200, 200),
    "s_csv_second": ({}, 200, 200),
    "s_gz": ({}, 200, 200),
    "s_hive": ({}, 200, 200),
    "s_idfloat_json": ({}, 200, 200),
    "s_ms": ({"time_unit": "ms"}, 200, 200),
    "s_nested": ({"features": "payload.x,payload.y"}, 200, 200),
    "s_old": ({"label_timeout": 172_800.0}, 200, 200),
    "s_pq_idfloat": ({}, 200, 200),
    "s_pq_time": ({}, 200, 200),
}
DEAD = {
    "s_iso_basic": ({}, "200 of 200 labels are dead letters, first: .* is no time"),
    "s_ms": ({}, "--time-unit ms makes it"),
    "s_nested": ({}, "200 of 200 rows are dead letters"),
    "s_old": ({}, "late_feedback"),
}

pytestmark = pytest.mark.skipif(not INPUTS.exists(), reason=f"{INPUTS} is not there")


class Heard(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.classes: list[str] = []

    def described(self, lines: Sequence[str]) -> None:
        self.classes = lines[-1].removeprefix("classes: ").split(", ")

    def warned(self, message: str) -> None:
        self.notes.append(message)


def replay_of(name: str, workdir: Path, options: dict[str, object]) -> ReplaySettings:
    directory = INPUTS / name / "d"
    files = [path for path in sorted((INPUTS / name).iterdir()) if path.name != "README"]
    path = directory if directory.exists() else files[0]
    named = {"input": path, "format": "csv", "label": "class", "workdir": workdir}
    return settings_from(ReplaySettings, named | SMALL | options)


def stream_of(name: str, workdir: Path, options: dict[str, object]) -> StreamSettings:
    named = {"workdir": workdir, "classes": "down,up", "available_now": True} | XY
    for source in ("events", "feedback"):
        found = {path.suffix for path in (INPUTS / name / source).rglob("*.*")}
        kind = next(k for k in ("parquet", "csv", "json") if f".{k}" in found or k == "json")
        named[source] = f"{kind}:{INPUTS / name / source}"
    return settings_from(StreamSettings, named | SMALL | options)


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_it_is_meant(name, tmp_path):
    options, rows, learned, classes, note = READ[name]
    heard = Heard()
    done = replay(replay_of(name, tmp_path, options), heard)
    total = done.total
    assert (total.rows_in, total.rows_scored, total.rows_learned) == (rows, rows, learned)
    assert not total.dead_letters_by_reason
    assert done.problem is None
    assert len(heard.classes) == classes
    assert note is None or any(note in each for each in heard.notes), heard.notes


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_clear_is_refused_with_what_to_do(name, tmp_path):
    options, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        replay(replay_of(name, tmp_path, options))


@pytest.mark.parametrize("name", STREAMED)
def test_live_files_are_read_as_they_are_meant(name, tmp_path):
    options, scored, learned = STREAMED[name]
    done = stream(stream_of(name, tmp_path, options))
    assert (done.total.rows_scored, done.total.rows_learned) == (scored, learned)
    assert done.problem is None


@pytest.mark.parametrize("name", DEAD)
def test_live_files_of_which_nothing_can_be_used_are_told(name, tmp_path):
    options, message = DEAD[name]
    done = stream(stream_of(name, tmp_path, options), heard := Heard())
    with pytest.raises(TooManyDeadLettersError, match=message):
        raise done.problem
    assert heard.notes


def test_times_that_are_none_are_dead_letters(tmp_path):
    options = XY | {"id": "id", "time": "ts"}
    done = replay(replay_of("time_formats", tmp_path, options))
    assert (done.total.rows_in, done.total.rows_learned) == (100, 20)
    assert done.total.dead_letters_by_reason == {"unparsable": 80}


def test_numbers_that_are_none_are_told(tmp_path):
    """Hexadecimal digits, and what no float32 holds; ten other spellings are numbers."""
    done = replay(replay_of("big_sci", tmp_path, {}), heard := Heard())
    assert (done.total.rows_in, done.total.rows_learned) == (120, 70)
    assert done.total.dead_letters_by_reason == {"infinite_feature": 20, "unparsable": 30}
    assert any("'0x1F', which is not a number" in note for note in heard.notes)


def test_the_size_of_a_number_does_not_matter(tmp_path):
    errors = [
        replay(replay_of(name, tmp_path / name, {})).run.prequential_error
        for name in ("epoch_feature", "epoch_feature_rel")
    ]
    assert errors[0] == errors[1]
    assert errors[0] < 0.025


def test_part_2_is_read_before_part_10(tmp_path):
    replay(replay_of("numbered", tmp_path, XY | {"id": "id", "rows_per_batch": 20}))
    ids = read_predictions(tmp_path).sort_values("batch_id", kind="stable")["event_id"]
    parts = [name.partition("-")[0] for name in ids]
    assert list(dict.fromkeys(parts)) == ["1", "2", "10"]


def test_another_file_is_not_read_with_the_columns_of_the_first(tmp_path):
    workdir, copy = tmp_path / "w", tmp_path / "a.csv"
    copy.write_bytes((INPUTS / "switched" / "a.csv").read_bytes())
    named = {"format": "csv", "label": "class", "workdir": workdir} | XY | SMALL
    replay(settings_from(ReplaySettings, named | {"input": copy}))
    with open(copy, "ab") as file:
        file.write((INPUTS / "switched" / "a_more.txt").read_bytes())
    other = settings_from(ReplaySettings, named | {"input": INPUTS / "switched" / "b.csv"})
    done = replay(other).run
    # What was appended to the first, and all of the second: each by the header of its own file.
    assert (done.rows_learned, done.dead_letters) == (200 + 200, 0)
    assert done.prequential_error < 0.05
