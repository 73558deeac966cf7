"""Rows from a Redis stream: once each, in order, the same again, and never lost in silence."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import redis

from app.errors import (
    DataLossError,
    InvalidParameterError,
    RegistryError,
    RegistryUnavailableError,
    UserError,
)
from app.parsing.json_rows import json_value
from app.redis_io.stream import PIECE, START, RedisStream
from app.redis_io.stream_loss import loss_after
from tests.redis_server import RedisServer

KEY = "events"


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(own) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def stream(own, client) -> Iterator[RedisStream]:
    stream = RedisStream(own.url, KEY)
    yield stream
    stream.close()


@pytest.fixture
def lenient(own, client) -> Iterator[RedisStream]:
    """Return the stream as read by one who goes on without what is lost."""
    stream = RedisStream(own.url, KEY, fail_on_data_loss=False)
    yield stream
    stream.close()


def add(client: redis.Redis, *numbers: int) -> None:
    """Add rows, each with its number as milliseconds of its id."""
    pipeline = client.pipeline(transaction=False)
    for number in numbers:
        pipeline.xadd(KEY, {"json": row(number)}, id=f"{number}-0")
    pipeline.execute()


def trim(client: redis.Redis, oldest: int) -> None:
    client.xtrim(KEY, minid=f"{oldest}-0", approximate=False)


def row(number: int) -> bytes:
    return b'{"event_id": "%d"}' % number


def rows(*numbers: int) -> list[bytes]:
    return [row(number) for number in numbers]


def at(number: int, n: int) -> dict:
    return {"id": f"{number}-0", "row": n}


@pytest.mark.redis
class TestRead:
    def test_stream_that_is_not_there_yet_is_empty(self, stream, client):
        assert stream.read(START, 10) == ([], START)
        assert stream.last_id() == "0-0"

        add(client, 5)
        assert stream.read(START, 10) == (rows(5), at(5, 1))
        assert stream.last_id() == "5-0"

    def test_every_entry_is_read_once_and_in_order(self, stream, client):
        add(client, *range(1, 8))

        position, read = START, []
        for expected in (3, 3, 1, 0):
            texts, position = stream.read(position, 3)
            assert len(texts) == expected
            read += texts
        assert read == rows(*range(1, 8))
        assert position == at(7, 7)

    @pytest.mark.parametrize("n", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5, 10 * PIECE])
    def test_large_read_comes_in_pieces_without_a_seam(self, stream, client, n):
        n_entries = 2 * PIECE + 10
        add(client, *range(1, n_entries + 1))

        texts, end = stream.read(START, n)
        assert texts == rows(*range(1, min(n, n_entries) + 1))
        assert end == at(len(texts), len(texts))
        assert stream.between(START, end) == texts

    def test_one_call_never_asks_for_more_than_a_piece(self, stream, client):
        add(client, *range(1, 2 * PIECE + 11))
        client.config_resetstat()

        stream.read(START, 100 * PIECE)
        assert client.info("commandstats")["cmdstat_xrange"]["calls"] == 3

    def test_poll_of_nothing_new_is_one_call(self, stream, client):
        add(client, 1, 2, 3)
        _, end = stream.read(START, 10)
        client.config_resetstat()

        for _ in range(5):
            assert stream.read(end, 10) == ([], end)
        calls = client.info("commandstats")
        assert calls.pop("cmdstat_xrange")["calls"] == 5
        assert calls.keys() <= {"cmdstat_config|resetstat", "cmdstat_config", "cmdstat_info"}

    def test_ids_of_one_millisecond_are_told_apart(self, stream, client):
        for i in range(12):
            client.xadd(KEY, {"json": row(i)}, id=f"7-{i}")

        _, end = stream.read(START, 10)
        assert end == {"id": "7-9", "row": 10}
        assert stream.read(end, 10) == (rows(10, 11), {"id": "7-11", "row": 12})

    def test_entries_after_the_last_one_wanted_stay(self, stream, client):
        add(client, *range(1, 10))

        assert stream.read(START, 10, last="4-0") == (rows(1, 2, 3, 4), at(4, 4))
        assert stream.read(at(4, 4), 10, last="4-0") == ([], at(4, 4))
        assert stream.read(START, 10, last="0-0") == ([], START)


@pytest.mark.redis
class TestText:
    @pytest.mark.parametrize("text", [b'{"a": 1}', b"[1", b"", "é\n".encode(), b"\x00", b"\xff{"])
    def test_field_json_is_the_row_whatever_is_in_it(self, stream, client, text):
        client.xadd(KEY, {"json": text})

        assert stream.read(START, 1)[0] == [text]

    def test_fields_are_the_columns(self, stream, client):
        client.xadd(KEY, {"event_id": "1", "x0": 1.5, "name": 'é"'})
        client.xadd(KEY, {"json": "1", "x0": 2})

        texts, _ = stream.read(START, 2)
        assert [json.loads(text) for text in texts] == [
            {"event_id": "1", "x0": "1.5", "name": 'é"'},
            {"json": "1", "x0": "2"},
        ]

    def test_bytes_that_are_no_text_make_none_of_it(self, stream, client):
        client.xadd(KEY, {"event_id": b"a\xff"})
        client.xadd(KEY, {b"\xfe": "1"})

        texts, _ = stream.read(START, 2)
        assert texts == [b'{"event_id": "a\xff"}', b'{"\xfe": "1"}']
        assert list(map(json_value, texts)) == [None, None]


@pytest.mark.redis
class TestBetween:
    def test_same_entries_are_read_again(self, stream, client):
        add(client, *range(1, 10))
        first, position = stream.read(START, 4)
        second, end = stream.read(position, 3)

        assert stream.between(START, position) == first == rows(1, 2, 3, 4)
        assert stream.between(position, end) == second == rows(5, 6, 7)
        assert stream.between(START, end) == first + second

    def test_ids_are_compared_as_numbers(self, stream, client):
        add(client, 9, 10, 11)

        assert stream.between(at(9, 1), at(10, 2)) == rows(10)

    def test_entries_that_are_gone_since_are_reported(self, stream, client):
        add(client, *range(1, 10))
        trim(client, 4)

        with pytest.raises(DataLossError) as caught:
            stream.between(at(1, 1), at(6, 6))
        assert str(caught.value) == (
            "Redis stream 'events': of the 5 entries after 1-0 up to 6-0, 2 are gone: it now holds "
            "3 there; --no-fail-on-data-loss goes on without them"
        )

    def test_whole_stream_that_is_gone_since_is_reported(self, stream, client):
        with pytest.raises(DataLossError, match="of the 5 entries after 1-0 up to 6-0, 5 are gone"):
            stream.between(at(1, 1), at(6, 6))

    def test_what_is_left_is_returned_to_who_goes_on(self, lenient, client, caplog):
        add(client, *range(1, 10))
        trim(client, 4)

        assert lenient.between(at(1, 1), at(6, 6)) == rows(4, 5, 6)
        assert "2 are gone" in caplog.text

    def test_no_more_are_returned_than_there_were_numbers_for(self, lenient, client):
        # A stream of the same ids, denser than the one before it.
        add(client, *range(1, 10))

        assert lenient.between(at(1, 1), at(6, 4)) == rows(4, 5, 6)
        assert lenient.between(at(1, 1), at(6, 1)) == []


@pytest.mark.redis
class TestLoss:
    def test_entries_trimmed_behind_the_reader_do_no_harm(self, stream, client):
        add(client, *range(1, 10))
        _, position = stream.read(START, 4)
        trim(client, 4)

        assert stream.read(position, 10) == (rows(5, 6, 7, 8, 9), at(9, 9))

    def test_reader_that_begins_takes_what_is_there(self, stream, client):
        add(client, *range(1, 10))
        trim(client, 4)

        assert stream.read(START, 2) == (rows(4, 5), at(5, 2))

    def test_entries_trimmed_ahead_of_the_reader_are_reported(self, stream, client):
        add(client, *range(1, 10))
        trim(client, 7)

        with pytest.raises(DataLossError) as caught:
            stream.read(at(4, 4), 10)
        assert str(caught.value) == (
            "Redis stream 'events': entries after 4-0 and before 7-0 may be gone: 4-0, the last "
            "one read, is no longer there; --no-fail-on-data-loss goes on without them"
        )

    def test_entries_that_are_all_trimmed_are_reported(self, stream, client):
        add(client, *range(1, 10))
        client.xtrim(KEY, maxlen=0, approximate=False)

        with pytest.raises(DataLossError, match="entries after 4-0 up to 9-0 are gone"):
            stream.read(at(4, 4), 10)

    def test_stream_emptied_once_all_was_read_has_lost_nothing(self, stream, client):
        add(client, *range(1, 10))
        client.xtrim(KEY, maxlen=0, approximate=False)

        assert stream.read(at(9, 9), 10) == ([], at(9, 9))

    @pytest.mark.parametrize("last", ["+", "0-0"])
    def test_stream_that_is_gone_is_reported(self, stream, client, last):
        with pytest.raises(DataLossError, match="entries after 9-0 are gone: there is no such"):
            stream.read(at(9, 9), 10, last)

    def test_stream_that_began_anew_is_reported(self, stream, client):
        add(client, 1, 2, 3)

        with pytest.raises(DataLossError, match="entries after 9-0 are gone: its newest id is 3-0"):
            stream.read(at(9, 9), 10)

    def test_ids_9_and_10_are_in_order(self, stream, client):
        add(client, 10)
        client.xtrim(KEY, maxlen=0, approximate=False)

        with pytest.raises(DataLossError, match="entries after 9-0 up to 10-0"):
            stream.read(at(9, 9), 10)

    def test_what_was_read_before_a_gap_is_handed_out_first(self, own, client, monkeypatch):
        """Entries go away between two pieces of one read."""
        add(client, *range(1, 10))
        stream = RedisStream(own.url, KEY)
        monkeypatch.setattr("app.redis_io.stream.PIECE", 3)
        after, calls = stream._after, []

        def trim_after_the_first(*args):
            if calls:
                trim(client, 7)
            calls.append(args)
            return after(*args)

        monkeypatch.setattr(stream, "_after", trim_after_the_first)
        texts, position = stream.read(START, 9)
        assert (texts, position) == (rows(1, 2, 3), at(3, 3))
        with pytest.raises(DataLossError, match="after 3-0 and before 7-0"):
            stream.read(position, 9)


@pytest.mark.redis
class TestGoingOn:
    def test_entries_that_are_left_are_read(self, lenient, client, caplog):
        add(client, *range(1, 10))
        trim(client, 7)

        texts, end = lenient.read(at(4, 4), 2)
        assert (texts, end) == (rows(7, 8), at(8, 6))
        assert lenient.between(at(4, 4), end) == texts
        assert caplog.text.count("entries after 4-0 and before 7-0 may be gone") == 1

    def test_a_loss_is_logged_once_however_often_it_is_met(self, lenient, client, caplog):
        for _ in range(5):
            assert lenient.read(at(4, 4), 2) == ([], at(4, 4))

        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    def test_stream_that_begins_anew_is_read_from_its_beginning(self, lenient, client, caplog):
        assert lenient.read(at(400, 4), 10) == ([], at(400, 4))
        add(client, *range(1, 6))

        texts, end = lenient.read(at(400, 4), 3)
        assert (texts, end) == (rows(1, 2, 3), at(3, 7))
        assert lenient.between(at(400, 4), end) == texts
        assert lenient.read(end, 10) == (rows(4, 5), at(5, 9))

    def test_stream_that_comes_back_with_later_ids_is_read_on(self, lenient, client):
        assert lenient.read(at(4, 4), 10) == ([], at(4, 4))
        add(client, 6, 7)

        assert lenient.read(at(4, 4), 10) == (rows(6, 7), at(7, 6))


class TestJudgement:
    """What XINFO STREAM of Redis 7.0 tells, as its client gives it."""

    @staticmethod
    def info(newest: int, oldest: int, deleted: int | None = None) -> dict:
        found = {
            "last-generated-id": b"%d-0" % newest,
            "first-entry": (b"%d-0" % oldest, {b"json": b"1"}),
        }
        return found if deleted is None else found | {"max-deleted-entry-id": b"%d-0" % deleted}

    def test_witness_deleted_by_itself_is_no_loss(self):
        assert loss_after("4-0", "5-0", self.info(9, oldest=2, deleted=4)) is None
        assert loss_after("10-0", "11-0", self.info(12, oldest=2, deleted=9)) is None

    def test_later_entry_deleted_is_a_loss(self):
        loss = loss_after("4-0", "7-0", self.info(9, oldest=2, deleted=6))
        assert (loss.which, loss.why) == ("entries after 4-0 are gone", "6-0 was deleted")

    def test_older_server_does_not_tell_and_is_not_trusted(self):
        loss = loss_after("4-0", "7-0", self.info(9, oldest=2))
        assert loss.which == "entries after 4-0 and before 7-0 may be gone"

    @pytest.mark.parametrize("deleted", [0, 3, 4])
    def test_trimming_does_not_count_as_deleting(self, deleted):
        # Redis 7.0 leaves max-deleted-entry-id as it is when it trims.
        loss = loss_after("4-0", "7-0", self.info(9, oldest=7, deleted=deleted))
        assert loss.which == "entries after 4-0 and before 7-0 may be gone"

    def test_bound_of_the_read_is_not_taken_for_the_end_of_the_stream(self):
        loss = loss_after("4-0", None, self.info(9, oldest=7))
        assert loss.which == "entries after 4-0 and up to 9-0 may be gone"


@pytest.mark.redis
class TestErrors:
    def test_key_of_another_type_is_the_users_mistake(self, stream, client):
        client.set(KEY, "text")

        for act in (
            lambda: stream.read(START, 1),
            lambda: stream.between(START, at(1, 1)),
            lambda: stream.last_id(),
        ):
            with pytest.raises(UserError, match="'events' holds something else than a stream"):
                act()

    def test_url_is_checked(self):
        with pytest.raises(InvalidParameterError):
            RedisStream("http://here", KEY)

    def test_server_that_is_away_is_reported_without_its_password(self, tmp_path):
        server = RedisServer(tmp_path)
        stream = RedisStream(server.url.replace("//", "//:secret@"), KEY)

        with pytest.raises(RegistryUnavailableError, match="cannot be reached") as caught:
            stream.read(START, 1)
        assert "secret" not in str(caught.value)

    def test_refusal_that_stays_is_reported_as_one(self, own, client):
        stream = RedisStream(own.url.replace("//", "//nobody:secret@"), KEY)

        with pytest.raises(RegistryError, match="refused") as caught:
            stream.read(START, 1)
        assert not isinstance(caught.value, RegistryUnavailableError)

    def test_server_that_restarts_is_read_on(self, tmp_path):
        with RedisServer(tmp_path) as server:
            stream = RedisStream(server.url, KEY)
            assert stream.read(START, 1) == ([], START)
            server.restart()
            with redis.Redis.from_url(server.url) as client:
                add(client, 1)
            assert stream.read(START, 1) == (rows(1), at(1, 1))
