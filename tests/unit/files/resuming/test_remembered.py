from __future__ import annotations

import pytest

from app.errors import DamagedFileError, UserError
from app.files.aside import set_aside
from app.files.resuming.remembered import RememberedSettings


class TestRememberedSettings:
    def test_the_same_settings_go_on(self, tmp_path):
        given = {"label": "y", "id": None, "escapes": True}
        settings = RememberedSettings(tmp_path / "s.json", given)
        settings.refuse_others()
        settings.write()
        settings.refuse_others()

    @pytest.mark.parametrize(
        ("now", "said"),
        [
            ({"label": "z"}, "--label is 'z', but .* was begun with 'y'"),
            ({"id": "k"}, "--id is 'k', but .* was begun with not given"),
            ({"escapes": True}, "--escapes is given, but .* was begun with not given"),
        ],
    )
    def test_another_one_is_refused_by_name(self, tmp_path, now, said):
        path = tmp_path / "s.json"
        begun = {"label": "y", "id": None, "escapes": False}
        RememberedSettings(path, begun).write()

        with pytest.raises(UserError, match=said):
            RememberedSettings(path, begun | now).refuse_others()

    def test_what_an_older_release_did_not_write_down_may_be_anything(self, tmp_path):
        path, older = tmp_path / "s.json", {"state_store": "driver"}
        RememberedSettings(path, {"label": "z", "state_store": "driver"}, older).refuse_others()

        with pytest.raises(UserError, match="--state-store is 'rocksdb'"):
            RememberedSettings(path, {"state_store": "rocksdb"}, older).refuse_others()

    def test_a_damaged_one_is_refused(self, tmp_path):
        (tmp_path / "s.json").write_text("{")

        with pytest.raises(DamagedFileError):
            RememberedSettings(tmp_path / "s.json", {"label": "y"}).refuse_others()


class TestSetAside:
    def test_each_time_under_another_name(self, tmp_path):
        for number in (1, 2):
            (tmp_path / "live").mkdir()
            (tmp_path / "live" / "x").write_text(str(number))
            assert set_aside(tmp_path / "live") == tmp_path / f"live.aside-{number}"
        assert not (tmp_path / "live").exists()
        assert (tmp_path / "live.aside-1" / "x").read_text() == "1"

    def test_what_is_missing_stays_missing(self, tmp_path):
        assert set_aside(tmp_path / "live") is None
