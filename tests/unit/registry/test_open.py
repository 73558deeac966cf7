"""Opening a model: who gets a redis-server of its own, and where the snapshots are."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from app.config.run import EXIT
from app.errors import (
    StorageError,
    UserError,
    WorkdirInUseError,
)
from app.files.runs import claimed
from app.registry.open import join_model, open_model, version_log_of
from app.registry.snapshots import Retention
from tests.unit.registry.models import publish
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[3]
URL_FILE = ".redis-url"


def is_reachable(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, retry=None) as client:
            return client.ping()
    except redis.ConnectionError:
        return False


@pytest.mark.redis
class TestOwnServer:
    def test_model_outlives_the_server(self, workdir):
        with open_model(workdir, None, "m") as opened:
            published = publish(opened.registry, 2)
            first_url = opened.redis_url
        with open_model(workdir, None, "m") as opened:
            assert opened.redis_url != first_url
            assert opened.registry.store.read() == published
            assert opened.registry.read(published).state["alpha"] == [2]

    def test_server_ends_with_the_block(self, workdir):
        with open_model(workdir, None, "m") as opened:
            assert is_reachable(opened.redis_url)

        wait_until(lambda: not is_reachable(opened.redis_url), "end of the server")

    def test_runs_in_two_work_directories_are_apart(self, workdir, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        with open_model(workdir, None, "m") as one, open_model(other, None, "m") as two:
            publish(one.registry, 2)

            assert publish(two.registry, 0).version == 0
            assert one.registry.store.read().version == 2

    def test_url_is_shown_to_the_user_only_and_while_the_run_lasts_only(self, workdir):
        shown = workdir / URL_FILE
        with open_model(workdir, None, "m") as opened:
            assert shown.read_text() == opened.redis_url
            assert shown.stat().st_mode & 0o777 == 0o600

        assert not shown.exists()

    def test_run_that_fails_leaves_no_url_and_no_lock(self, workdir):
        with contextlib.suppress(ZeroDivisionError), open_model(workdir, None, "m"):
            raise ZeroDivisionError

        assert not (workdir / URL_FILE).exists()
        with open_model(workdir, None, "m"):
            pass

    def test_killed_run_leaves_nothing_in_the_way(self, workdir):
        script = """
            import sys
            from pathlib import Path
            from app.registry.open import open_model
            with open_model(Path(sys.argv[1]), None, "m"):
                print("open", flush=True)
                sys.stdin.read()
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), workdir],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as run:
            assert run.stdout.readline() == b"open\n"
            run.kill()
        left = (workdir / URL_FILE).read_text()

        with open_model(workdir, None, "m") as opened:
            assert (workdir / URL_FILE).read_text() == opened.redis_url != left

    def test_password_is_not_in_the_representation(self, workdir):
        with open_model(workdir, None, "m") as opened:
            assert urlsplit(opened.redis_url).password not in repr(opened)
            assert "'m'" in repr(opened)

    @pytest.mark.parametrize("make", [lambda path: None, Path.touch], ids=["missing", "a file"])
    def test_work_directory_that_is_none_is_reported(self, tmp_path, make):
        make(tmp_path / "work")

        with pytest.raises(StorageError, match=str(tmp_path / "work")):
            open_model(tmp_path / "work", None, "m").__enter__()


class TestGivenServer:
    def test_several_may_open_one_work_directory(self, server, model, workdir):
        with (
            open_model(workdir, server.url, model) as one,
            open_model(workdir, server.url, model) as two,
        ):
            published = publish(one.registry)

            assert two.registry.current() == published
            assert one.redis_url == server.url

    def test_no_url_is_written(self, server, model, workdir):
        with open_model(workdir, server.url, model):
            assert [path.name for path in workdir.iterdir()] == ["snapshots"]

    def test_snapshots_that_are_not_kept_are_removed(self, server, model, workdir):
        with open_model(workdir, server.url, model) as opened:
            publish(opened.registry, 6)
        with open_model(workdir, server.url, model, retention=Retention(2, 4)):
            left = sorted((workdir / "snapshots").glob("*.safetensors"))

        assert [int(path.name[1:11]) for path in left] == [0, 4, 5, 6]


@pytest.mark.redis
class TestJoin:
    def test_running_run_is_joined_on_its_own_server(self, workdir):
        with claimed(workdir, EXIT), open_model(workdir, None, "m") as run:
            published = publish(run.registry)
            with join_model(workdir, None) as joined:
                assert joined.redis_url == run.redis_url
                assert joined.registry.current() == published
                later = publish(joined.registry)
            assert run.registry.current() == later
            assert is_reachable(run.redis_url)

    def test_a_url_that_a_killed_run_has_left_is_not_believed(self, workdir):
        with open_model(workdir, None, "m") as run:
            published = publish(run.registry)
        (workdir / URL_FILE).write_text(run.redis_url)

        with join_model(workdir, None) as joined:
            assert joined.redis_url != run.redis_url
            assert joined.registry.current() == published

    def test_model_of_no_run_is_opened_on_a_new_server(self, workdir):
        with open_model(workdir, None, "m") as run:
            published = publish(run.registry)
        with join_model(workdir, None, "m") as joined:
            assert joined.redis_url != run.redis_url
            assert joined.registry.store.read() == published

        assert not (workdir / URL_FILE).exists()

    def test_run_on_a_given_server_is_joined_there(self, server, model, workdir):
        with open_model(workdir, server.url, model) as run:
            published = publish(run.registry)
            with join_model(workdir, server.url) as joined:
                assert (joined.registry.store.model, joined.redis_url) == (model, server.url)
                assert joined.registry.current() == published

    @pytest.mark.parametrize("named", [None, "m"])
    def test_work_directory_without_a_model_is_reported_and_stays_empty(self, workdir, named):
        with pytest.raises(UserError, match=f"--workdir: {workdir} holds no model"):
            join_model(workdir, None, named).__enter__()

        assert list(workdir.iterdir()) == []

    def test_run_that_has_not_shown_its_url_yet_is_reported(self, workdir):
        with claimed(workdir, EXIT), open_model(workdir, None, "m") as run:
            publish(run.registry)
            (workdir / URL_FILE).unlink()

            with pytest.raises(WorkdirInUseError, match="another run .* is using"):
                join_model(workdir, None).__enter__()


@pytest.mark.redis
class TestVersionLog:
    def test_versions_are_read_without_a_server(self, workdir):
        with open_model(workdir, None, "m") as opened:
            published = publish(opened.registry, 10)

        for named in (None, "m"):
            assert version_log_of(workdir, named).newest() == published
            assert version_log_of(workdir, named).model == "m"

    def test_model_of_another_name_is_reported(self, workdir):
        with open_model(workdir, None, "m") as opened:
            publish(opened.registry, 0)

        with pytest.raises(UserError, match="holds no model 'other'"):
            version_log_of(workdir, "other")

    def test_directory_that_is_not_there_is_reported(self, tmp_path):
        with pytest.raises(UserError, match="holds no model"):
            version_log_of(tmp_path / "absent")
