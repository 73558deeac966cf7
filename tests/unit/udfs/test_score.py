"""Rows come packed and go packed: parsed, and scored where there are features to score."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from app.contract import NULL_FEATURE, NULL_LABEL, Contract
from app.parsing.packed_rows import ARROW, JSON, PACKED, RowSource, packed, unpacked
from app.parsing.row_parser import RowParser
from tests.unit.rows import KEYED, SECONDS, as_json, text_batch
from udfs import model_cache
from udfs.score import SERVED, KindOfRows, RowScorer, WarmUp, score

SOURCE = object()
ROWS = [[0.0, 1.0], [2.0, 0.0], [3.0, 3.5]]


class FakeModel:
    """Gives a row its own softmax, and version 7 once it has been asked to refresh."""

    version = 6
    n_classes = 2

    def __init__(self, stale: bool = False) -> None:
        self.scored: list[np.ndarray] = []
        self.asked: list[object] = []
        self.stale = stale

    def refresh(self, source: object) -> bool:
        self.asked.append(source)
        self.version = 7
        return self.stale

    def age_ms(self) -> int:
        assert self.version == 7, "the age of a version that is not served"
        return 1234

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        assert self.version == 7, "scored before the version was asked for"
        self.scored.append(X)
        powers = np.exp(X)
        return powers / powers.sum(axis=1, keepdims=True)


def features(pattern: str) -> pa.Array:
    """Return rows of features: one for each ``r``, a null for each ``-``."""
    rows = iter(ROWS * len(pattern))
    values = [next(rows) if c == "r" else None for c in pattern]
    return pa.array(values, pa.list_(pa.float64(), 2))


def served(model: FakeModel, given: pa.Array) -> dict[str, list]:
    columns = score(model, SOURCE, given)
    return pa.RecordBatch.from_arrays(columns, schema=SERVED).to_pydict()


@pytest.mark.parametrize("pattern", ["rrr", "r-r-", "-r-rr", "--r", "r--", "r", "-", "---", ""])
class TestEveryPatternOfNulls:
    def test_a_row_with_features_has_a_prediction(self, pattern):
        classes = iter([1, 0, 1] * len(pattern))
        expected = [next(classes) if c == "r" else None for c in pattern]
        assert served(FakeModel(), features(pattern))["prediction"] == expected

    def test_probabilities_belong_to_their_row(self, pattern):
        given = features(pattern)
        found = served(FakeModel(), given)["probabilities"]
        for row, probabilities in zip(given.to_pylist(), found, strict=True):
            if row is None:
                assert probabilities is None
            else:
                expected = np.exp(row) / np.exp(row).sum()
                np.testing.assert_allclose(probabilities, expected, rtol=1e-6)

    def test_a_version_and_its_age_are_told_where_there_is_a_prediction(self, pattern):
        found = served(FakeModel(), features(pattern))
        assert found["model_version"] == [7 if c == "r" else None for c in pattern]
        assert found["model_age_ms"] == [1234 if c == "r" else None for c in pattern]

    @pytest.mark.parametrize("stale", [False, True])
    def test_a_prediction_says_whether_it_is_stale(self, pattern, stale):
        told = served(FakeModel(stale), features(pattern))["stale"]
        assert told == [stale if c == "r" else None for c in pattern]

    def test_the_model_sees_the_rows_with_features_at_once(self, pattern):
        model = FakeModel()
        score(model, SOURCE, features(pattern))
        # A batch of labels alone needs no model, and so none is asked for.
        assert model.asked == ([SOURCE] if "r" in pattern else [])
        expected = [row for row in features(pattern).to_pylist() if row is not None]
        assert [X.tolist() for X in model.scored] == ([expected] if expected else [])
        assert all(X.dtype == np.float64 for X in model.scored)

    def test_rows_may_be_a_slice_of_a_larger_batch(self, pattern):
        larger = features("r-" + pattern + "-r")
        found = served(FakeModel(), larger.slice(2, len(pattern)))
        alone = served(FakeModel(), pa.array(larger.to_pylist()[2:-2], larger.type))
        assert found == alone


EVENTS = RowParser(KEYED, SECONDS)
LABELS = RowParser(
    Contract.of_feedback(("id", "t", "y"), ("0", "1", "up"), id="id", time="t", label="y"), SECONDS
)
SCORED = ("sequence", "event_id", "reason", "row")
RAW = {"kind": pa.string(), "sequence": pa.int64(), "rows": pa.binary()}


def raw(*rows: tuple) -> pa.RecordBatch:
    """Return rows as they come to a scorer: kind, sequence and value, and further columns."""
    fields = RAW | ({"features": pa.binary()} if rows and len(rows[0]) > len(RAW) else {})
    columns = zip(*rows, strict=True) if rows else [[]] * len(fields)
    arrays = [pa.array(each, kind) for each, kind in zip(columns, fields.values(), strict=True)]
    return pa.record_batch(arrays, pa.schema(list(fields.items())))


def event(n: int, **changes: object) -> tuple:
    return "event", n, as_json(id=f"e{n}", **changes).encode()


def label(n: int, y: object = 0) -> tuple:
    return "label", n, json.dumps({"id": f"e{n}", "t": 1, "y": y}).encode()


def kinds(encoding: str = JSON, **options: bool) -> dict[str, KindOfRows]:
    return {
        "event": KindOfRows(RowSource(encoding, EVENTS), SCORED, is_scored=True, **options),
        "label": KindOfRows(RowSource(encoding, LABELS), ("event_id", "label_index", "reason")),
    }


def done(scorer: RowScorer, *batches: pa.RecordBatch) -> dict[str, list[dict]]:
    """Return the rows of each kind that a scorer gives."""
    found: dict[str, list[dict]] = {}
    for batch in scorer(iter(batches)):
        assert batch.schema.names == ["kind", "rows"]
        for kind, rows in zip(batch["kind"].to_pylist(), batch["rows"], strict=True):
            for each in unpacked([rows]):
                found.setdefault(kind, []).extend(each.to_pylist())
    return found


@pytest.fixture
def model(monkeypatch) -> FakeModel:
    model = FakeModel()
    monkeypatch.setattr(model_cache, "live_model", lambda wanted: model)
    return model


WANTED = SimpleNamespace(source=SOURCE)


class TestRowScorer:
    def test_each_kind_comes_back_with_its_own_columns(self, model):
        batch = raw(event(3), label(8, "up"), event(4, x0=None), label(9, None))
        found = done(RowScorer(kinds(), WANTED), batch)

        good, bad = found["event"]
        assert list(good) == [*SCORED, *SERVED.names]
        assert (good["sequence"], good["event_id"], good["reason"]) == (3, "e3", None)
        assert (good["prediction"], good["model_version"], good["row"]) == (1, 7, None)
        assert (bad["reason"], bad["prediction"]) == (NULL_FEATURE, None)
        assert bad["row"] == batch["rows"][2].as_py().decode()
        assert found["label"] == [
            {"event_id": "e8", "label_index": 2, "reason": None},
            {"event_id": "e9", "label_index": None, "reason": NULL_LABEL},
        ]

    def test_only_the_features_of_good_rows_reach_the_model(self, model):
        batches = [raw(event(1), event(2, x0="x")), raw(label(1)), raw(event(3, x0=9))]
        done(RowScorer(kinds(), WANTED), *batches)
        assert [X.tolist() for X in model.scored] == [[[1.5, 2.0]], [[9.0, 2.0]]]
        assert model.asked == [SOURCE] * 2

    def test_nothing_is_scored_where_no_model_is_wanted(self, model):
        found = done(RowScorer(kinds(), None), raw(event(1), label(1)))
        assert list(found["event"][0]) == list(SCORED)
        assert (model.asked, model.scored) == ([], [])

    @pytest.mark.parametrize("has_model", [False, True])
    def test_rows_have_the_schema_that_their_kind_tells(self, model, has_model):
        scorer = RowScorer(kinds(), WANTED if has_model else None)
        for batch in scorer(iter([raw(event(1), event(2, x1="x"), label(1))])):
            (kind,) = batch["kind"].to_pylist()
            (rows,) = unpacked(batch["rows"])
            assert rows.schema.equals(kinds()[kind].schema(has_model))

    def test_good_rows_are_kept_as_json_where_it_is_asked_for(self, model):
        found = done(RowScorer(kinds(with_rows=True), WANTED), raw(event(1)))
        assert found["event"][0]["row"] == event(1)[2].decode()

    def test_what_is_not_parsed_comes_back_as_it_is(self, model):
        rows = [("match", 5, None, b"\x01"), (*event(6), None), ("match", None, None, b"")]
        found = done(RowScorer(kinds(), WANTED, ("match",)), raw(*rows))
        assert found["match"] == [
            {"sequence": 5, "features": b"\x01"},
            {"sequence": None, "features": b""},
        ]
        assert [row["event_id"] for row in found["event"]] == ["e6"]

    @pytest.mark.parametrize("encoding", [PACKED, ARROW])
    def test_a_value_may_hold_many_rows(self, model, encoding):
        lines = [as_json(id=name) for name in "abc"]
        if encoding == PACKED:
            values = [packed(text_batch("json", lines[:2], first=5)),
                      packed(text_batch("json", lines[2:], first=90))]  # fmt: skip
        else:
            tables = (pa.Table.from_pylist(list(map(json.loads, part)))
                      for part in (lines[:2], lines[2:]))  # fmt: skip
            values = [packed(table) for table in tables]
        # The number of a packed value lies within.
        numbers = [None, None] if encoding == PACKED else [5, 90]
        batch = raw(*(("event", n, v) for n, v in zip(numbers, values, strict=True)))
        found = done(RowScorer(kinds(encoding), WANTED), batch)["event"]
        assert [(row["sequence"], row["event_id"]) for row in found] == [
            (5, "a"),
            (6, "b"),
            (90, "c"),
        ]
        assert [row["prediction"] for row in found] == [1, 1, 1]

    def test_no_rows_give_no_rows(self, model):
        assert done(RowScorer(kinds(), WANTED, ("match",)), raw()) == {}
        assert done(RowScorer(kinds(), WANTED)) == {}
        assert model.asked == []

    def test_it_can_be_sent_to_a_worker(self, model):
        sent = pickle.loads(pickle.dumps(RowScorer(kinds(), None)))
        batch = raw(event(1), label(1))
        assert done(sent, batch) == done(RowScorer(kinds(), None), batch)


def test_a_worker_is_readied_with_as_many_rows_as_it_will_be_given(monkeypatch):
    shapes = []
    warmed = SimpleNamespace(predict_proba=lambda X: shapes.append(X.shape))
    monkeypatch.setattr(model_cache, "live_model", lambda wanted: warmed)
    batch = pa.record_batch([pa.array([0])], ["id"])
    assert list(WarmUp(WANTED, 400, 30)(iter([batch]))) == [batch]
    assert shapes == [(400, 30)]
