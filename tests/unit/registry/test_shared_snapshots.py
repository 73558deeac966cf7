"""Where the snapshots are, when several work directories share a model."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from app.errors import (
    DamagedRecordError,
    RegistryError,
    StorageError,
    UserError,
)
from app.registry.open import open_model
from app.registry.redis_store import RedisVersionStore
from app.registry.version import ModelVersion
from tests.unit.registry.models import publish

REPOSITORY = Path(__file__).parents[3]
URL_FILE = ".redis-url"


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
    def published(self, opening, shared) -> ModelVersion:
        """Publish in one work directory, whose snapshots are shared."""
        with opening("one", shared) as opened:
            return publish(opened.registry)

    def assert_stays_out(self, tmp_path: Path, name: str) -> None:
        """Nothing was made that the next try would believe."""
        assert list((tmp_path / name).iterdir()) == []

    def test_named_directory_is_made_and_linked_to(self, published, tmp_path, shared):
        own = tmp_path / "one" / "snapshots"

        assert own.is_symlink()
        assert own.samefile(shared)
        assert (shared / published.snapshot).exists()

    def test_relative_name_is_not_relative_to_the_link(self, opening, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with opening("one", Path("shared")) as opened:
            publish(opened.registry)

        assert (tmp_path / "one" / "snapshots").samefile(tmp_path / "shared")

    def test_another_work_directory_is_named_by_redis(self, published, opening, tmp_path, shared):
        with opening("two") as opened:
            assert opened.registry.current() == published
            later = publish(opened.registry)

        assert (tmp_path / "two" / "snapshots").samefile(shared)
        with opening("one") as opened:
            assert opened.registry.current() == later

    def test_directory_inside_a_work_directory_may_be_shared(self, opening, tmp_path):
        with opening("one") as opened:
            published = publish(opened.registry)
        with opening("two") as opened:
            assert opened.registry.current() == published

        assert (tmp_path / "two" / "snapshots").samefile(tmp_path / "one" / "snapshots")

    def test_name_may_be_given_again(self, published, opening, shared):
        for name in ("one", "two", "two"):
            with opening(name, shared) as opened:
                assert opened.registry.current() == published

    def test_work_directory_keeps_to_the_directory_it_has(self, published, opening, tmp_path):
        with pytest.raises(UserError, match="has its snapshots in .*shared"):
            opening("one", tmp_path / "elsewhere").__enter__()

        assert not (tmp_path / "elsewhere").exists()

    def test_name_that_contradicts_redis_is_reported(self, published, opening, tmp_path, shared):
        with pytest.raises(UserError, match=f"keeps its snapshots in {shared}"):
            opening("two", tmp_path / "elsewhere").__enter__()

        self.assert_stays_out(tmp_path, "two")
        assert not (tmp_path / "elsewhere").exists()

    def test_work_directory_with_a_model_of_its_own_is_reported(
        self, published, tmp_path, shared, server, model
    ):
        workdir = tmp_path / "two"
        workdir.mkdir()
        with open_model(workdir, None, model) as opened:
            publish(opened.registry)

        with pytest.raises(UserError, match=f"keeps its snapshots in {shared}.* its own in"):
            open_model(workdir, server.url, model).__enter__()

    def test_directory_of_another_model_is_refused(
        self, published, server, model, tmp_path, shared
    ):
        workdir = tmp_path / "two"
        workdir.mkdir()

        with pytest.raises(RegistryError, match=f"holds model '{model}', not 'other-{model}'"):
            open_model(workdir, server.url, f"other-{model}", snapshots=shared).__enter__()
        self.assert_stays_out(tmp_path, "two")

    @pytest.mark.parametrize("named", [None, "empty"])
    def test_directory_that_is_not_on_this_machine_is_reported(
        self, published, opening, tmp_path, shared, named
    ):
        shared.rename(shared.with_name("unmounted"))

        with pytest.raises(UserError, match=f"{shared}, which is not on this machine; mount it"):
            opening("two", named and tmp_path / named).__enter__()
        self.assert_stays_out(tmp_path, "two")

    def test_directory_that_only_redis_says_is_the_models_is_left_alone(
        self, published, opening, tmp_path, server, model
    ):
        others = tmp_path / "others"
        others.mkdir()
        with redis.Redis.from_url(server.url) as client:
            client.hset(f"hbp:{{{model}}}:head", "store", str(others))

        with pytest.raises(UserError, match=f"snapshots in {others}, and no model is there"):
            opening("two").__enter__()
        self.assert_stays_out(tmp_path, "two")
        assert list(others.iterdir()) == []

    def test_link_to_what_is_not_on_this_machine_is_reported(self, published, opening, shared):
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
        assert (tmp_path / "three" / "snapshots").samefile(elsewhere)

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
            assert opened.registry.versions.newest() == published

    def test_directory_that_cannot_be_made_is_reported(self, opening, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(StorageError, match="file"):
            opening("one", tmp_path / "file" / "shared").__enter__()
        self.assert_stays_out(tmp_path, "one")

    def test_file_in_the_place_of_the_directory_is_reported(self, opening, tmp_path):
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "snapshots").touch()

        with pytest.raises(StorageError, match="snapshots"):
            opening("one").__enter__()

    def test_damaged_model_is_reported(self, server, published, opening, shared, model):
        for path in (shared / "HEAD.json", *shared.glob("versions/*/*.json")):
            path.write_bytes(b"")

        with contextlib.closing(RedisVersionStore(server.url, model)) as store:
            assert store.read() == published
        with pytest.raises(DamagedRecordError, match="0000000001.json"):
            opening("one").__enter__()
