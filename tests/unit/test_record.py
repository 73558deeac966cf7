"""A head record comes back as it was written, or is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

from app.errors import DamagedRecordError
from app.registry.record import HeadRecord

RECORD = HeadRecord(
    version=12,
    state_sha256="ab" * 32,
    snapshot="v0000000012-abababababababab.safetensors",
    published_at="2024-01-01T00:00:00.000+00:00",
    commit="c0ffee",
    parent="decade",
    applied={"q": 10, "other": 3},
    origin={"kind": "batch", "query": "q", "batch": 10, "record": {"alpha": [0.1, 0.9]}},
)
NAMES = [field.name for field in dataclasses.fields(HeadRecord)]
ALTERED = {
    "version": 13,
    "state_sha256": "ba" * 32,
    "snapshot": "v0000000011-abababababababab.safetensors",
    "published_at": "2024-01-01T00:00:00.001+00:00",
    "commit": "c0ffef",
    "parent": "",
    "applied": {"q": 10, "other": 4},
    "origin": {"kind": "rollback", "to": 3},
}


def test_record_comes_back_from_the_fields_of_a_hash():
    fields = RECORD.to_fields()

    assert {type(value) for value in fields.values()} == {str}
    assert HeadRecord.from_fields(fields) == RECORD


def test_record_comes_back_from_json():
    assert HeadRecord.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD


def test_first_record_comes_back_with_what_it_leaves_out():
    first = HeadRecord(0, "ab", "v0.safetensors", "2024-01-01", "c0ffee")

    assert (first.parent, first.applied, first.origin) == ("", {}, {})
    assert HeadRecord.from_fields(first.to_fields()) == first
    assert HeadRecord.from_json(first.to_json()) == first


def test_what_a_store_keeps_beside_the_record_is_passed_over():
    assert HeadRecord.from_fields(RECORD.to_fields() | {"store": "/snapshots"}) == RECORD
    assert HeadRecord.from_json(RECORD.to_json() | {"model": "m"}) == RECORD


@pytest.mark.parametrize("name", [*NAMES, "seal"])
def test_record_without_one_of_its_fields_is_refused(name):
    fields, content = RECORD.to_fields(), RECORD.to_json()
    del fields[name], content[name]

    with pytest.raises(DamagedRecordError, match=name):
        HeadRecord.from_fields(fields)
    with pytest.raises(DamagedRecordError, match=name):
        HeadRecord.from_json(content)


@pytest.mark.parametrize("name", NAMES)
def test_record_with_an_altered_field_is_refused(name):
    altered = dataclasses.replace(RECORD, **{name: ALTERED[name]})
    fields, content = altered.to_fields(), altered.to_json()
    fields["seal"] = content["seal"] = RECORD.seal

    with pytest.raises(DamagedRecordError, match="SHA-256"):
        HeadRecord.from_fields(fields)
    with pytest.raises(DamagedRecordError, match="SHA-256"):
        HeadRecord.from_json(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [("version", "twelve"), ("version", ""), ("applied", "{"), ("origin", ""), ("seal", "")],
)
def test_record_with_a_malformed_field_is_refused(name, value):
    with pytest.raises(DamagedRecordError):
        HeadRecord.from_fields(RECORD.to_fields() | {name: value})


@pytest.mark.parametrize("content", [None, [], 12, "record", {}])
def test_json_that_is_no_record_is_refused(content):
    with pytest.raises(DamagedRecordError):
        HeadRecord.from_json(content)


def test_seal_is_of_the_content_and_not_of_its_order():
    reordered = dataclasses.replace(
        RECORD,
        applied=dict(reversed(RECORD.applied.items())),
        origin=dict(reversed(RECORD.origin.items())),
    )

    assert reordered.seal == RECORD.seal
    assert len({dataclasses.replace(RECORD, **{n: ALTERED[n]}).seal for n in NAMES}) == len(NAMES)


def test_query_has_learned_its_batches_up_to_the_applied_one():
    learned = [batch for batch in range(20) if RECORD.has_learned("q", batch)]

    assert learned == list(range(11))
    assert not RECORD.has_learned("other", 9)
    assert not RECORD.has_learned("unknown", 0)
