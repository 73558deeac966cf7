"""Settings that a query was begun with and must go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from app.config.options import option_name
from app.errors import UserError
from app.files.atomic import write_durably
from app.files.documents import read_json


class RememberedSettings:
    """Settings kept in a file beside the checkpoint that they belong to.

    Parameters
    ----------
    path
    settings
        Those of this run, by field.
    older
        What an older release has remembered elsewhere.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, str | bool | None],
        older: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self._settings = dict(settings)
        self._older = older or {}

    def refuse_others(self) -> None:
        """Raise UserError when the query was begun with another setting.

        What an older release did not write down may be anything.

        Raises
        ------
        DamagedFileError
            When what was written down cannot be read.
        """
        try:
            known = read_json(self._path)
        except FileNotFoundError:
            known = self._older
        for name, value in self._settings.items():
            begun = known.get(name, value)
            if begun != value:
                raise UserError(
                    f"{option_name(name)} is {_shown(value)}, but the checkpoint of this work "
                    f"directory was begun with {_shown(begun)}; go on with that, or begin anew in "
                    "another --workdir"
                )

    def write(self) -> None:
        """Write the settings down for the next start."""
        write_durably(self._path, json.dumps(self._settings, indent=1).encode())


def _shown(value: str | bool | None) -> str:
    if value is True:
        return "given"
    return repr(value) if value else "not given"
