"""The package gives a notebook its names, each when it is first used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import app
from app.config.run import ReplaySettings
from app.errors import InvalidParameterError

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", app.__all__)
def test_each_name_is_what_its_module_defines(name):
    value = getattr(app, name)
    assert value.__name__ == name
    assert value.__module__.startswith("app.")
    assert name in dir(app)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'app' has no attribute 'repaly'"):
        app.repaly  # noqa: B018


def test_neither_spark_nor_tensorflow_is_imported_before_it_is_used():
    loaded = python(
        "import sys; from app import replay, stream, ReplaySettings, StreamSettings, UserError;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    ).split()
    assert not {"pyspark", "py4j", "tensorflow", "numpy", "pandas", "redis", "click"} & {*loaded}


@pytest.mark.parametrize("name", ["replay", "stream"])
@pytest.mark.parametrize(
    "imports",
    [
        "from app import {name}",
        "import app.{name}; from app import {name}",
        "from app import {name}; import app.{name}; from app import {name}",
        "from app.{name} import main; from app import {name}",
        "import importlib; importlib.import_module('app.{name}'); from app import {name}",
        "import app.{name}; {name} = app.{name}",
    ],
)
def test_the_function_is_not_the_script_of_the_same_name(name, imports):
    code = imports.format(name=name) + f"; print({name}.__module__, {name}.__qualname__)"
    assert python(code) == f"app.api {name}\n"


@pytest.mark.parametrize(
    ("function", "options", "name"),
    [
        (app.replay, {"input": "in.csv", "format": "xml", "label": "y"}, "format"),
        (app.replay, {"input": "in.csv", "format": "csv", "label": "y", "beta": 2}, "beta"),
        (app.stream, {"events": "nowhere"}, "events"),
        (app.stream, {"evnets": "redis:events"}, "evnets"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(tmp_path, function, options, name):
    with pytest.raises(InvalidParameterError) as caught:
        function(workdir=tmp_path / "w", **options)

    assert caught.value.name == name
    assert not (tmp_path / "w").exists()


def test_settings_and_options_are_not_taken_together(tmp_path):
    settings = ReplaySettings(input=tmp_path, format="csv", label="y", workdir=tmp_path)
    with pytest.raises(TypeError, match="ReplaySettings or its fields.*beta"):
        app.replay(settings, beta=0.9)
