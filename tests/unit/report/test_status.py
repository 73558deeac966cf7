"""What ``status`` shows of a model, and what it says when there is none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from app.registry.version import ModelVersion, snapshot_name
from app.registry.version_log import VersionLog

pytestmark = pytest.mark.usefixtures("here")

PUBLISHED_AT = "2024-01-01T00:00:00.000+00:00"
HEAD = ModelVersion(
    version=3,
    state_sha256="ab" * 32,
    snapshot="v0000000003-abababababababab.safetensors",
    published_at=PUBLISHED_AT,
    commit="c0ffee",
    parent="decade",
    applied={"q": 7},
    origin={"kind": "batch", "query": "q", "batch": 7},
)
SHOWN = ("version", "state_sha256", "snapshot", "published_at", "applied")


def put_head(workdir: Path, head: ModelVersion = HEAD) -> None:
    chain = VersionLog(workdir / "snapshots", "default")
    chain.append(head)
    chain.write_current(head)


class TestStatus:
    @pytest.fixture
    def workdir(self, here):
        put_head(here / "w")
        return "w"

    def test_every_field_of_the_head_is_shown(self, call, workdir):
        code, output, errors = call("status", "--workdir", workdir)
        assert (code, errors) == (0, "")
        assert [line.split(maxsplit=1) for line in output.splitlines()] == [
            ["model", "default"],
            ["version", "3"],
            ["state", "sha256   " + HEAD.state_sha256],
            ["snapshot", HEAD.snapshot],
            ["published", "at   " + PUBLISHED_AT],
            ["applied", "query q up to batch 7"],
        ]

    def test_json_holds_the_head(self, call, workdir):
        code, output, _ = call("status", "--workdir", workdir, "--json")
        assert code == 0
        shown = {name: dataclasses.asdict(HEAD)[name] for name in SHOWN}
        assert json.loads(output) == {"model": "default"} | shown

    def test_a_model_that_applied_nothing_says_none(self, call, here):
        put_head(here / "w", dataclasses.replace(HEAD, applied={}))
        _, output, _ = call("status", "--workdir", "w")
        assert ["applied", "none"] in [line.split() for line in output.splitlines()]

    def test_a_head_file_that_lags_is_not_what_is_shown(self, call, here, workdir):
        snapshot = snapshot_name(4, HEAD.state_sha256)
        newer = dataclasses.replace(HEAD, version=4, snapshot=snapshot, applied={"q": 8})
        VersionLog(here / "w/snapshots", "default").append(newer)
        _, output, _ = call("status", "--workdir", workdir, "--json")
        assert json.loads(output)["version"] == 4

    def test_a_url_in_the_environment_gives_way_to_a_work_directory(
        self, call, workdir, monkeypatch
    ):
        monkeypatch.setenv("REDIS_URL", "redis://u:secret@127.0.0.1:1")
        code, output, _ = call("status", "--workdir", workdir, "--json")
        assert (code, json.loads(output)["version"]) == (0, 3)

    @pytest.mark.parametrize("name", [".", "gone", "in.csv"])
    def test_a_directory_without_a_model(self, complaint, here, name):
        message = complaint("status", "--workdir", name)
        assert message == f"--workdir: {name} holds no model"
        assert not (here / name / "snapshots").exists()

    def test_a_model_of_another_name(self, complaint, workdir):
        message = complaint("status", "--workdir", workdir, "--model", "other")
        assert message == "--workdir: w holds no model 'other'"

    @pytest.mark.parametrize("both", [[], ["--workdir", "w", "--redis-url", "redis://localhost"]])
    def test_neither_or_both_places(self, complaint, both):
        message = complaint("status", *both)
        assert "--workdir" in message and "--redis-url" in message

    @pytest.mark.parametrize("text", ["{}", "[]", "", '{"model": "default"}'])
    def test_damaged_records_are_named(self, complaint, here, workdir, text):
        put_head(here / "w", dataclasses.replace(HEAD, version=4))
        (newest,) = Path("w/snapshots").glob("versions/*/0000000004.json")
        newest.write_text(text)
        Path("w/snapshots/HEAD.json").write_text(text)
        message = complaint("status", "--workdir", workdir, code=1)
        assert f"{newest.name} is not a whole version record" in message

    @pytest.mark.parametrize("url", ["localhost", "http://localhost", "redis://localhost:x"])
    def test_a_url_that_is_none(self, complaint, url):
        assert complaint("status", "--redis-url", url).startswith("--redis-url must look like")
