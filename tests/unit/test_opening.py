"""Opening a model: who gets a redis-server of its own, and where the snapshots are."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import redis

from app.errors import DamagedRecordError, RegistryError, StorageError, UserError, WorkdirInUseError
from app.registry.head import HeadStore
from app.registry.opening import SNAPSHOTS, chain_of, join_model, open_model
from app.registry.record import HeadRecord
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
METADATA = {"config": "{}"}
URL_FILE = ".redis-url"


def state_of(value: float) -> dict[str, np.ndarray]:
    return {"alpha": np.array([value])}


def publish(registry: ModelRegistry, versions: int = 1) -> HeadRecord:
    """Publish versions of a model, the first of all if there is none; return the newest."""
    head = registry.create(state_of(0), METADATA)
    for _ in range(versions):
        state = state_of(head.version + 1)
        head = registry.publish(head, {"kind": "batch", "query": "q"}, state, METADATA)
    return head


def is_reachable(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, retry=None) as client:
            return client.ping()
    except redis.ConnectionError:
        return False


@pytest.fixture
def workdir(tmp_path) -> Path:
    workdir = tmp_path / "work"
    workdir.mkdir()
    return workdir


@pytest.fixture
def model() -> str:
    """Return a name that no other test uses on the shared server."""
    return f"m-{uuid.uuid4().hex[:8]}"


class TestOwnServer:
    def test_model_outlives_the_server(self, workdir):
        with open_model(workdir, None, "m") as opened:
            published = publish(opened.registry, 2)
            first_url = opened.redis_url
        with open_model(workdir, None, "m") as opened:
            assert opened.redis_url != first_url
            assert opened.registry.heads.read() == published
            assert opened.registry.load(published)[0]["alpha"] == [2]

    def test_server_ends_with_the_block(self, workdir):
        with open_model(workdir, None, "m") as opened:
            assert is_reachable(opened.redis_url)

        wait_until(lambda: not is_reachable(opened.redis_url), "end of the server")

    def test_second_run_is_kept_out_until_the_first_ends(self, workdir):
        with open_model(workdir, None, "m"):
            with pytest.raises(WorkdirInUseError, match=f"another run is using {workdir}"):
                open_model(workdir, None, "m").__enter__()
        with open_model(workdir, None, "m"):
            pass

    def test_runs_in_two_work_directories_are_apart(self, workdir, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        with open_model(workdir, None, "m") as one, open_model(other, None, "m") as two:
            publish(one.registry, 2)

            assert publish(two.registry, 0).version == 0
            assert one.registry.heads.read().version == 2

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
            from app.registry.opening import open_model
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
    def test_work_directory_that_is_none_is_told(self, tmp_path, make):
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
            assert [path.name for path in workdir.iterdir()] == [SNAPSHOTS]

    def test_snapshots_that_are_not_kept_are_removed(self, server, model, workdir):
        with open_model(workdir, server.url, model) as opened:
            publish(opened.registry, 6)
        with open_model(workdir, server.url, model, retention=Retention(2, 4)):
            left = sorted((workdir / SNAPSHOTS).glob("*.safetensors"))

        assert [int(path.name[1:11]) for path in left] == [0, 4, 5, 6]


class TestJoin:
    def test_running_run_is_joined_on_its_own_server(self, workdir):
        with open_model(workdir, None, "m") as run:
            published = publish(run.registry)
            with join_model(workdir, None) as joined:
                assert joined.redis_url == run.redis_url
                assert joined.registry.current() == published
                later = publish(joined.registry)
            assert run.registry.current() == later
            assert is_reachable(run.redis_url)

    def test_model_of_no_run_is_opened_on_a_new_server(self, workdir):
        with open_model(workdir, None, "m") as run:
            published = publish(run.registry)
        with join_model(workdir, None, "m") as joined:
            assert joined.redis_url != run.redis_url
            assert joined.registry.heads.read() == published

        assert not (workdir / URL_FILE).exists()

    def test_run_on_a_given_server_is_joined_there(self, server, model, workdir):
        with open_model(workdir, server.url, model) as run:
            published = publish(run.registry)
            with join_model(workdir, server.url) as joined:
                assert (joined.registry.heads.model, joined.redis_url) == (model, server.url)
                assert joined.registry.current() == published

    @pytest.mark.parametrize("named", [None, "m"])
    def test_work_directory_without_a_model_is_told_and_stays_empty(self, workdir, named):
        with pytest.raises(UserError, match=f"--workdir: {workdir} holds no model"):
            join_model(workdir, None, named).__enter__()

        assert list(workdir.iterdir()) == []

    def test_run_that_has_not_shown_its_url_yet_is_told(self, workdir):
        with open_model(workdir, None, "m") as run:
            publish(run.registry)
            (workdir / URL_FILE).unlink()

            with pytest.raises(WorkdirInUseError, match="another run is using"):
                join_model(workdir, None).__enter__()


class TestChain:
    def test_versions_are_read_without_a_server(self, workdir):
        with open_model(workdir, None, "m") as opened:
            published = publish(opened.registry, 10)

        for named in (None, "m"):
            assert chain_of(workdir, named).newest() == published
            assert chain_of(workdir, named).model == "m"

    def test_model_of_another_name_is_told(self, workdir):
        with open_model(workdir, None, "m") as opened:
            publish(opened.registry, 0)

        with pytest.raises(UserError, match="holds no model 'other'"):
            chain_of(workdir, "other")

    def test_directory_that_is_not_there_is_told(self, tmp_path):
        with pytest.raises(UserError, match="holds no model"):
            chain_of(tmp_path / "absent")


class TestSnapshots:
    """Where the snapshots are, when several work directories share a model."""

    @pytest.fixture
    def shared(self, tmp_path) -> Path:
        return tmp_path / "mounted" / "shared"

    @pytest.fixture
    def opening(self, server, model, tmp_path) -> Callable[..., contextlib.AbstractContextManager]:
        def opening(name: str, snapshots: Path | None = None):
            workdir = tmp_path / name
            workdir.mkdir(exist_ok=True)
            return open_model(workdir, server.url, model, snapshots=snapshots)

        return opening

    @pytest.fixture
    def published(self, opening, shared) -> HeadRecord:
        """Publish in one work directory, whose snapshots are shared."""
        with opening("one", shared) as opened:
            return publish(opened.registry)

    def assert_stays_out(self, tmp_path: Path, name: str) -> None:
        """Nothing was made that the next try would believe."""
        assert list((tmp_path / name).iterdir()) == []

    def test_named_directory_is_made_and_linked_to(self, published, tmp_path, shared):
        own = tmp_path / "one" / SNAPSHOTS

        assert own.is_symlink()
        assert own.samefile(shared)
        assert (shared / published.snapshot).exists()

    def test_relative_name_is_not_relative_to_the_link(self, opening, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with opening("one", Path("shared")) as opened:
            publish(opened.registry)

        assert (tmp_path / "one" / SNAPSHOTS).samefile(tmp_path / "shared")

    def test_another_work_directory_is_told_by_redis(self, published, opening, tmp_path, shared):
        with opening("two") as opened:
            assert opened.registry.current() == published
            later = publish(opened.registry)

        assert (tmp_path / "two" / SNAPSHOTS).samefile(shared)
        with opening("one") as opened:
            assert opened.registry.current() == later

    def test_directory_inside_a_work_directory_may_be_shared(self, opening, tmp_path):
        with opening("one") as opened:
            published = publish(opened.registry)
        with opening("two") as opened:
            assert opened.registry.current() == published

        assert (tmp_path / "two" / SNAPSHOTS).samefile(tmp_path / "one" / SNAPSHOTS)

    def test_name_may_be_given_again(self, published, opening, shared):
        for name in ("one", "two", "two"):
            with opening(name, shared) as opened:
                assert opened.registry.current() == published

    def test_work_directory_keeps_to_the_directory_it_has(self, published, opening, tmp_path):
        with pytest.raises(UserError, match="has its snapshots in .*shared"):
            opening("one", tmp_path / "elsewhere").__enter__()

        assert not (tmp_path / "elsewhere").exists()

    def test_name_that_contradicts_redis_is_told(self, published, opening, tmp_path, shared):
        with pytest.raises(UserError, match=f"keeps its snapshots in {shared}"):
            opening("two", tmp_path / "elsewhere").__enter__()

        self.assert_stays_out(tmp_path, "two")
        assert not (tmp_path / "elsewhere").exists()

    def test_work_directory_with_a_model_of_its_own_is_told(
        self, published, tmp_path, shared, server, model
    ):
        workdir = tmp_path / "two"
        workdir.mkdir()
        with open_model(workdir, None, model) as opened:
            publish(opened.registry)

        with pytest.raises(UserError, match=f"keeps its snapshots in {shared}.* its own in"):
            open_model(workdir, server.url, model).__enter__()

    def test_directory_of_another_model_is_told(self, published, server, model, tmp_path, shared):
        workdir = tmp_path / "two"
        workdir.mkdir()

        with pytest.raises(RegistryError, match=f"holds model '{model}', not 'other-{model}'"):
            open_model(workdir, server.url, f"other-{model}", snapshots=shared).__enter__()
        self.assert_stays_out(tmp_path, "two")

    @pytest.mark.parametrize("named", [None, "empty"])
    def test_directory_that_is_not_on_this_machine_is_told(
        self, published, opening, tmp_path, shared, named
    ):
        shared.rename(shared.with_name("unmounted"))

        with pytest.raises(UserError, match=f"{shared}, which is not on this machine; mount it"):
            opening("two", named and tmp_path / named).__enter__()
        self.assert_stays_out(tmp_path, "two")

    def test_link_to_what_is_not_on_this_machine_is_told(self, published, opening, shared):
        shared.rename(shared.with_name("unmounted"))

        with pytest.raises(UserError, match=f"{shared}, which is not on this machine; mount it"):
            opening("one").__enter__()
        shared.with_name("unmounted").rename(shared)
        with opening("one") as opened:
            assert opened.registry.current() == published

    def test_same_directory_may_be_mounted_elsewhere(self, published, opening, tmp_path, shared):
        elsewhere = tmp_path / "elsewhere"
        shared.rename(elsewhere)
        with opening("two", elsewhere) as opened:
            assert opened.registry.current() == published
            later = publish(opened.registry)

        with opening("three") as opened:
            assert opened.registry.current() == later
        assert (tmp_path / "three" / SNAPSHOTS).samefile(elsewhere)

    def test_work_directory_may_be_moved(self, opening, tmp_path):
        with opening("one") as opened:
            published = publish(opened.registry)
        (tmp_path / "one").rename(tmp_path / "moved")
        with opening("moved") as opened:
            assert opened.registry.current() == published
            assert publish(opened.registry).version == published.version + 1

    def test_lost_directory_is_made_anew_from_redis(self, opening, tmp_path):
        with opening("one") as opened:
            published = publish(opened.registry)
        shutil.rmtree(tmp_path / "one")
        with opening("one") as opened:
            assert opened.registry.current() == published
            assert opened.registry.chain.newest() == published

    def test_directory_that_cannot_be_made_is_told(self, opening, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(StorageError, match="file"):
            opening("one", tmp_path / "file" / "shared").__enter__()
        self.assert_stays_out(tmp_path, "one")

    def test_file_in_the_place_of_the_directory_is_told(self, opening, tmp_path):
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / SNAPSHOTS).touch()

        with pytest.raises(StorageError, match=SNAPSHOTS):
            opening("one").__enter__()

    def test_damaged_model_is_told(self, server, published, opening, shared, model):
        for path in (shared / "HEAD.json", *shared.glob("versions/*/*.json")):
            path.write_bytes(b"")

        with contextlib.closing(HeadStore(server.url, model)) as heads:
            assert heads.read() == published
        with pytest.raises(DamagedRecordError, match="0000000001.json"):
            opening("one").__enter__()
