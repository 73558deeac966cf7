"""Settings: their ranges, and that no default is said twice in two ways."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from app.config.connectors import SinkSpec, SourceSpec
from app.config.model import MAX_RECURSIVE_FEATURES, ModelConfig
from app.config.options import option_name
from app.config.run import ReplaySettings, StreamSettings, settings_from
from app.config.variants import VARIANTS
from app.errors import InvalidParameterError, UserError

OUT_OF_RANGE = {
    "n_features": [0, -1, 2.0, True, "3", None],
    "n_classes": [1, 0, -2, 2.0, True, "2"],
    "n_hidden_layers": [0, -1, 1.5, False],
    "n_hidden_units": [0, -1, 1.5, "100"],
    "variant": ["", "slow", None],
    "learning_rate": [0, -0.1, math.nan, math.inf, True, "0.1"],
    "beta": [0, 1, -0.5, 1.5, math.nan, True, "0.99"],
    "smoothing": [-0.01, 1.01, math.nan, False, "0"],
    "hedge_loss": ["", "MINMAX", "cross-entropy", 1],
    "head_rate": [0, -0.1, math.nan, math.inf, True, "0.1"],
    "head_boost": [-0.1, math.nan, math.inf, True, "0.1"],
    "scale_heads_by_alpha": [0, 1, "no"],
    "heads": ["", "first", True, 1],
    "input_head": [0, True, "", "yes"],
    "recursive_drift": [-1e-6, math.nan, True, "0"],
    "stacking": [0, 1, "no"],
    "n_random_features": [-1, 1.5, True, "95"],
    "shallow_layers": [-1, 1.5, True, "3"],
    "n_trees": [-1, 1, 1.5, True, "20"],
    "horizon": [-1, 1.5, True, "500", None],
    "standardize": [0, 1, "no", None],
    "scaler_window": [-1, 0, 1.5, True, "5000"],
    "gradient_clip_norm": [-1.0, math.nan, math.inf, True, "10"],
    "update_batch_size": [0, -1, 1.5, True],
    "class_weight": ["", "heavy", "a=0", "a=1,b"],
    "category_slots": [(3,), (0, -1, 0), (0, 1.5, 0), (True, 0, 0)],
    "indicators": [(0,), (3,), (-1,), (1, 0)],
    "imputes": ["yes", None, 2],
    "class_weights": [(1.0,), (1.0, 0.0), (1.0, math.nan), (1.0, "2")],
    "engine": ["", "torch", 1],
    "dtype": ["float16", "float", "", None],
    "seed": [-1, 0.5, True, "0", None],
}


def model_config(**changes: object) -> ModelConfig:
    return ModelConfig(**{"n_features": 3, "n_classes": 2} | changes)


def replay_settings(**changes: object) -> ReplaySettings:
    named = {"input": Path("in"), "format": "csv", "label": "y", "workdir": Path("work")}
    return ReplaySettings(**named | changes)


def assert_names_field_and_value(error: InvalidParameterError, name: str, value: object) -> None:
    assert error.name == name
    assert str(error).startswith(f"{name} must be ")
    assert str(error).endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}={value!r:.20}")
        for name, values in OUT_OF_RANGE.items()
        for value in values
    ],
)
def test_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidParameterError) as caught:
        model_config(**{name: value})

    assert_names_field_and_value(caught.value, name, value)


@pytest.mark.parametrize("name", ["learning_rate", "beta", "smoothing", "gradient_clip_norm"])
def test_integer_too_large_for_a_float_is_refused_by_name(name):
    with pytest.raises(InvalidParameterError) as caught:
        model_config(**{name: 10**400})

    assert_names_field_and_value(caught.value, name, 10**400)


def test_every_field_has_a_range():
    assert OUT_OF_RANGE.keys() == {field.name for field in dataclasses.fields(ModelConfig)}


@pytest.mark.parametrize(
    "changes",
    [
        {"n_features": 1, "n_hidden_layers": 1, "n_hidden_units": 1, "update_batch_size": 1},
        {"n_classes": 2},
        {"learning_rate": 1},
        {"beta": 1e-9},
        {"smoothing": 0},
        {"smoothing": 1},
        {"gradient_clip_norm": 0},
        {"gradient_clip_norm": 1e-9},
        {"hedge_loss": "raw", "dtype": "float64", "seed": 0},
        {"input_head": "none", "standardize": False},
    ],
    ids=str,
)
def test_value_at_the_edge_of_its_range_is_taken(changes):
    config = model_config(**changes)

    assert {name: getattr(config, name) for name in changes} == changes


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_sets_what_is_not_given(variant):
    config = model_config(variant=variant)
    assert {name: getattr(config, name) for name in VARIANTS[variant]} == VARIANTS[variant]


def test_what_is_given_overrules_the_variant():
    assert model_config(variant="paper", beta=0.5).beta == 0.5


def test_a_row_too_wide_for_a_covariance_has_an_input_head_that_learns_by_gradient():
    kinds = [
        model_config(n_features=n).input_head
        for n in (MAX_RECURSIVE_FEATURES, MAX_RECURSIVE_FEATURES + 1)
    ]
    assert kinds == ["recursive", "sgd"]
    wide = model_config(n_features=MAX_RECURSIVE_FEATURES + 1, input_head="recursive")
    assert wide.input_head == "recursive"


def test_larger_updates_are_made_by_the_engine_that_can():
    assert [model_config(update_batch_size=B).engine for B in (1, 2)] == ["numba", "xla"]
    with pytest.raises(InvalidParameterError, match="engine"):
        model_config(update_batch_size=2, engine="numba")


def test_range_error_is_both_a_user_error_and_a_value_error():
    assert issubclass(InvalidParameterError, UserError)
    assert issubclass(InvalidParameterError, ValueError)


def test_settings_cannot_be_changed_after_they_were_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        model_config().beta = 2


def test_settings_survive_a_dict():
    config = model_config(variant="paper", beta=0.9)

    assert ModelConfig(**config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "xml"),
        ("format", "CSV"),
        ("format", ""),
        ("rows_per_batch", 0),
        ("rows_per_batch", -1),
        ("rows_per_batch", 1.5),
        ("rows_per_batch", True),
        ("model", ""),
        ("model", "a b"),
        ("model", "a/b"),
        ("model", "{a}"),
        ("model", "a:b"),
        ("keep_snapshots", 0),
        ("keep_snapshots", -1),
        ("keep_snapshots", 2.0),
        ("keep_snapshots", True),
        ("keep_snapshots", None),
        ("keep_every", -1),
        ("keep_every", 0.5),
        ("keep_every", False),
        ("on_registry_outage", "wait"),
        ("on_registry_outage", "STALE"),
        ("on_registry_outage", ""),
        ("on_registry_outage", None),
        ("registry_patience", -0.1),
        ("registry_patience", math.nan),
        ("registry_patience", math.inf),
        ("registry_patience", True),
        ("registry_patience", "60"),
        ("features", ("a", "b", "a")),
        ("features", ("a", "")),
        ("classes", ("yes",)),
        ("classes", ()),
        ("classes", ("yes", "yes")),
        ("classes", ("yes", "")),
    ],
)
def test_replay_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidParameterError) as caught:
        replay_settings(**{name: value})

    assert_names_field_and_value(caught.value, name, value)


def test_replay_refuses_a_model_option_out_of_range():
    with pytest.raises(InvalidParameterError) as caught:
        replay_settings(model_options={"beta": 2})

    assert_names_field_and_value(caught.value, "beta", 2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        *({"format": name} for name in ("csv", "json", "arff", "libsvm", "parquet", "delta")),
        {"rows_per_batch": 1},
        {"model": "churn-2.1_eu"},
        {"keep_snapshots": 1, "keep_every": 0},
        {"keep_snapshots": 1000, "keep_every": 1},
        {"on_registry_outage": "stale"},
        {"on_registry_outage": "fail"},
        {"registry_patience": 0},
        {"registry_patience": 0.5},
        {"snapshots": Path("shared"), "allow_relearn": True},
        {"redis_url": "redis://a", "executor_redis_url": "redis://b"},
        {"features": ("only",)},
        {"classes": ("no", "yes")},
        {"model_options": {"n_hidden_layers": 2, "gradient_clip_norm": 0}},
    ],
    ids=str,
)
def test_replay_setting_in_range_is_taken(changes):
    settings = replay_settings(**changes)

    assert {name: getattr(settings, name) for name in changes} == changes


def test_settings_are_shown_without_the_urls_that_may_hold_a_password():
    url = "redis://learner:hunter2@cache"
    shown = repr(replay_settings(redis_url=url, executor_redis_url=url))

    assert "churn" in repr(replay_settings(model="churn"))
    assert "hunter2" not in shown and "cache" not in shown


def test_a_model_option_that_does_not_exist_is_refused_by_name():
    with pytest.raises(InvalidParameterError) as caught:
        replay_settings(model_options={"depth": 2})

    assert_names_field_and_value(caught.value, "model_options", "depth")


class TestSettingsFrom:
    NAMED = {"input": "in", "format": "csv", "label": "y", "workdir": "work"}

    def test_texts_are_read_as_the_fields_say(self):
        settings = settings_from(
            ReplaySettings, self.NAMED | {"features": "a, b", "classes": "0,1"}
        )

        assert settings == replay_settings(features=("a", "b"), classes=("0", "1"))

    def test_values_are_taken_as_they_are(self):
        values = {"input": Path("in"), "workdir": Path("work"), "features": ["a", "b"], "id": None}

        settings = settings_from(ReplaySettings, self.NAMED | values)

        assert settings == replay_settings(features=("a", "b"))

    def test_sources_and_sinks_are_read_from_their_texts(self):
        texts = {"events": "json:in", "sinks": ["console", SinkSpec("delta", "t")]}

        settings = settings_from(StreamSettings, {"workdir": "w"} | texts)

        assert settings.events == SourceSpec("directory", "json", "in")
        assert settings.feedback == SourceSpec("redis", "json", "feedback")
        assert settings.sinks == (SinkSpec("console"), SinkSpec("delta", "t"))
        assert settings_from(StreamSettings, {"workdir": "w", "sinks": "console"}).sinks == (
            SinkSpec("console"),
        )

    def test_options_of_the_model_are_those_that_were_given(self):
        given = {"n_hidden_layers": 3, "model_options": {"beta": 0.9}}

        settings = settings_from(ReplaySettings, self.NAMED | given)

        assert settings.model_options == {"beta": 0.9, "n_hidden_layers": 3}
        assert settings_from(ReplaySettings, self.NAMED).model_options == {}

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({"rows_per_batches": 5}, "rows_per_batches"),
            ({"beta": 2}, "beta"),
            ({"features": "a,a"}, "features"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, given, name):
        with pytest.raises(InvalidParameterError) as caught:
            settings_from(ReplaySettings, self.NAMED | given)

        assert caught.value.name == name


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("n_hidden_layers", "--layers"),
        ("n_hidden_units", "--units"),
        ("rows_per_batch", "--rows-per-batch"),
        ("beta", "--beta"),
        ("executor_redis_url", "--executor-redis-url"),
        ("on_registry_outage", "--on-registry-outage"),
        ("sinks", "--sink"),
    ],
)
def test_option_is_the_settings_name_on_the_command_line(setting, option):
    assert option_name(setting) == option
