"""A version record comes back as it was written, or is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from app.errors import DamagedRecordError, NewerFormatError
from app.registry.version import FORMAT, ModelVersion
from tests.unit.damages import OTHER_TYPES
from tests.unit.version_records import (
    as_fields,
    in_format_1,
    in_format_2,
    in_newer_format,
    sha256_of,
)

RECORD = ModelVersion(
    version=12,
    state_sha256="ab" * 32,
    snapshot="v0000000012-abababababababab.safetensors",
    published_at="2024-01-01T00:00:00.000+00:00",
    commit="c0ffee",
    parent="decade",
    applied={"q": 10, "other": 3},
    origin={"kind": "batch", "query": "q", "batch": 10, "record": {"alpha": [0.1, 0.9]}},
    metadata_sha256="cd" * 32,
)
NAMES = [field.name for field in dataclasses.fields(ModelVersion)]
NAMES_OF_FORMAT_2 = NAMES[:-1]
HASHES = ["checksum", "record_sha256"]
ALTERED = {
    "version": 13,
    "state_sha256": "ba" * 32,
    "snapshot": "v0000000011-abababababababab.safetensors",
    "published_at": "2024-01-01T00:00:00.001+00:00",
    "commit": "c0ffef",
    "parent": "",
    "applied": {"q": 10, "other": 4},
    "origin": {"kind": "rollback", "to": 3},
    "metadata_sha256": "dc" * 32,
}


def test_record_comes_back_from_the_fields_of_a_hash():
    fields = RECORD.to_fields()

    assert {type(value) for value in fields.values()} == {str}
    assert ModelVersion.from_fields(fields) == RECORD


def test_record_comes_back_from_json():
    assert ModelVersion.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD


def test_first_record_comes_back_with_what_it_leaves_out():
    first = ModelVersion(
        version=0,
        state_sha256="ab" * 32,
        snapshot="v0000000000-abababababababab.safetensors",
        published_at="2024-01-01T00:00:00.000+00:00",
        commit="c0ffee",
        origin={"kind": "created"},
    )

    assert (first.parent, first.applied, first.metadata_sha256) == ("", {}, "")
    assert ModelVersion.from_fields(first.to_fields()) == first
    assert ModelVersion.from_json(first.to_json()) == first


def test_what_a_store_keeps_beside_the_record_is_passed_over():
    assert ModelVersion.from_fields(RECORD.to_fields() | {"store": "/snapshots"}) == RECORD
    assert ModelVersion.from_json(RECORD.to_json() | {"model": "m"}) == RECORD


@pytest.mark.parametrize("name", [*NAMES, *HASHES])
def test_record_without_one_of_its_fields_is_refused(name):
    fields, content = RECORD.to_fields(), RECORD.to_json()
    del fields[name], content[name]

    with pytest.raises(DamagedRecordError, match=name):
        ModelVersion.from_fields(fields)
    with pytest.raises(DamagedRecordError, match=name):
        ModelVersion.from_json(content)


@pytest.mark.parametrize("name", NAMES)
def test_record_with_an_altered_field_is_refused(name):
    altered = dataclasses.replace(RECORD, **{name: ALTERED[name]})
    fields, content = altered.to_fields(), altered.to_json()
    for name in HASHES:
        fields[name] = content[name] = RECORD.to_json()[name]

    with pytest.raises(DamagedRecordError, match="SHA-256"):
        ModelVersion.from_fields(fields)
    with pytest.raises(DamagedRecordError, match="SHA-256"):
        ModelVersion.from_json(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "twelve"),
        ("version", ""),
        ("applied", "{"),
        ("origin", ""),
        ("checksum", ""),
        ("format", ""),
        ("format", "two"),
        ("format", "1"),
        ("format", "2"),
        ("format", "03"),
        ("format", "4"),
    ],
)
def test_record_with_a_malformed_field_is_refused(name, value):
    with pytest.raises(DamagedRecordError):
        ModelVersion.from_fields(RECORD.to_fields() | {name: value})


@pytest.mark.parametrize("content", [None, [], 12, "record", {}])
def test_json_that_is_no_record_is_refused(content):
    with pytest.raises(DamagedRecordError, match="^here is not a whole version record: "):
        ModelVersion.from_json(content, "here")


@pytest.mark.parametrize("value", OTHER_TYPES)
@pytest.mark.parametrize("name", [*NAMES, "format", *HASHES])
def test_record_with_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(DamagedRecordError):
        ModelVersion.from_json(RECORD.to_json() | {name: value})


@pytest.mark.parametrize(
    "written", [RECORD.to_json(), in_format_2(RECORD), in_format_1(RECORD)], ids=["3", "2", "1"]
)
def test_any_flipped_bit_is_damage_and_no_newer_format(written):
    text, n_records = json.dumps(written).encode(), 0
    for at, bit in itertools.product(range(len(text)), range(8)):
        flipped = bytes([*text[:at], text[at] ^ 1 << bit, *text[at + 1 :]])
        try:
            content = json.loads(flipped)
        except ValueError:
            continue
        n_records += 1
        with pytest.raises(DamagedRecordError):
            ModelVersion.from_json(content)
    assert n_records > len(text)


class TestFormats:
    # What the first release wrote of RECORD, with the checksum that it computed.
    SEAL = "d930630ff089ef0768765bcb974836eb2929c9f31509118a17dcffb955acaa11"

    def test_record_says_its_format(self):
        assert RECORD.to_json()["format"] == FORMAT == 3
        assert RECORD.to_fields()["format"] == "3"

    @pytest.mark.parametrize("in_format", [in_format_1, in_format_2])
    def test_record_of_an_earlier_format_is_read_and_vouches_for_no_metadata(self, in_format):
        content = in_format(RECORD) | {"metadata_sha256": "cd" * 32}
        expected = dataclasses.replace(RECORD, metadata_sha256="")

        assert in_format_1(RECORD)["seal"] == self.SEAL
        assert ModelVersion.from_json(content) == expected
        assert ModelVersion.from_fields(as_fields(content)) == expected

    def test_release_before_knows_a_record_of_this_format_for_a_newer_one(self):
        written = RECORD.to_json()
        covered = {name: written[name] for name in ("format", *NAMES_OF_FORMAT_2)}

        assert written["checksum"] == sha256_of(covered)

    @pytest.mark.parametrize("name", [*NAMES_OF_FORMAT_2, "seal"])
    def test_altered_record_of_format_1_is_refused(self, name):
        content = in_format_1(RECORD)
        without = {each: value for each, value in content.items() if each != name}

        with pytest.raises(DamagedRecordError, match="SHA-256"):
            ModelVersion.from_json(content | {name: ALTERED.get(name, self.SEAL[::-1])})
        with pytest.raises(DamagedRecordError, match=name):
            ModelVersion.from_json(without)

    def test_record_without_its_format_is_not_taken_for_one_of_format_1(self):
        content = RECORD.to_json()
        del content["format"]

        for seal in ({}, {"seal": content["checksum"]}):
            with pytest.raises(DamagedRecordError):
                ModelVersion.from_json(content | seal)

    @pytest.mark.parametrize("number", [4, 5, 10])
    def test_whole_record_of_a_newer_format_is_refused_as_such(self, number):
        content = in_newer_format(RECORD, number)

        message = f"here is of format {number}, written by a newer release"
        with pytest.raises(NewerFormatError, match=message):
            ModelVersion.from_json(content, "here")
        with pytest.raises(NewerFormatError, match=message):
            ModelVersion.from_fields(as_fields(content), "here")

    @pytest.mark.parametrize("name", [*NAMES_OF_FORMAT_2, "checksum"])
    def test_altered_record_of_a_newer_format_is_damaged(self, name):
        content = in_newer_format(RECORD)

        with pytest.raises(DamagedRecordError, match="SHA-256"):
            ModelVersion.from_json(content | {name: ALTERED.get(name, self.SEAL)})

    @pytest.mark.parametrize("number", [None, True, 0, -1, 2.0, 3.5, "2", "3", "", [], [3], {}])
    def test_format_that_is_no_positive_integer_is_damage(self, number):
        with pytest.raises(DamagedRecordError, match="of format"):
            ModelVersion.from_json(in_newer_format(RECORD, number))


def test_hash_is_of_the_content_and_not_of_its_order():
    reordered = dataclasses.replace(
        RECORD,
        applied=dict(reversed(RECORD.applied.items())),
        origin=dict(reversed(RECORD.origin.items())),
    )

    hashes = [RECORD.to_json()["record_sha256"]]
    assert reordered.to_json()["record_sha256"] == hashes[0]
    for name in NAMES:
        altered = dataclasses.replace(RECORD, **{name: ALTERED[name]})
        hashes.append(altered.to_json()["record_sha256"])
    assert len(set(hashes)) == 1 + len(NAMES)


def test_query_has_learned_its_batches_up_to_the_applied_one():
    learned = [batch for batch in range(20) if RECORD.has_learned("q", batch)]

    assert learned == list(range(11))
    assert not RECORD.has_learned("other", 9)
    assert not RECORD.has_learned("unknown", 0)


FORGED = {
    "version": [
        "03",
        "+3",
        " 3",
        "3 ",
        "0_3",
        "1e1",
        "-1",
        "\u0663",
        "9" * 19,
        -1,
        True,
        3.0,
        10**18,
    ],
    "state_sha256": ["", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"],
    "snapshot": [
        "",
        "/etc/passwd",
        "../HEAD.json",
        "v0000000011-abababababababab.safetensors",
        "v0000000012-bababababababab.safetensors",
        "v0000000012-abababababababab.safetensors\n",
        "v12-abababababababab.safetensors",
    ],
    "published_at": [
        "",
        "2024-01-01",
        "2024-13-01T00:00:00.000+00:00",
        "0000-01-01T00:00:00.000+00:00",
    ],
    "commit": ["", "../c", "a/b", "a b", "a\x00", ".hidden", "c" * 65],
    "parent": ["../c", "a/b", "a b", ".hidden", "c" * 65],
    "applied": [
        *({query: 1} for query in ("../q", "a/b", "")),
        *({"q": batch} for batch in (-1, True, "1", 10**18)),
    ],
    "origin": [
        {},
        {"kind": "else"},
        {"kind": "batch"},
        {"kind": "batch", "query": "q"},
        {"kind": "batch", "query": "../q", "batch": 0},
        {"kind": "batch", "query": "q", "batch": -1},
        {"kind": "rollback"},
        {"kind": "rollback", "to": True},
        {"kind": "rollback", "to": 12},
    ],
    "metadata_sha256": ["cd", "CD" * 32],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in FORGED.items() for value in values]
)
def test_record_with_a_field_that_no_release_writes_is_refused_although_its_hashes_fit(name, value):
    forged = dataclasses.replace(RECORD, **{name: value})

    with pytest.raises(DamagedRecordError, match=name):
        ModelVersion.from_json(forged.to_json())
    with pytest.raises(DamagedRecordError, match=name):
        ModelVersion.from_fields(forged.to_fields())


@pytest.mark.parametrize("levels", [20, 500, 100_000])
def test_record_that_is_nested_deeply_is_refused(levels):
    fields = RECORD.to_fields() | {"origin": '{"kind": ' + "[" * levels + "]" * levels + "}"}

    with pytest.raises(DamagedRecordError, match="nested too deeply"):
        ModelVersion.from_fields(fields)
