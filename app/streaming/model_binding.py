"""Binding a model to an input: which classes, which settings, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.model import ModelConfig
from app.config.options import option_name
from app.config.run import RunSettings
from app.contract import Contract, FixedContract
from app.errors import UserError
from app.model.state import config_from_metadata, config_to_metadata
from app.parsing.cells import canonical_text
from app.registry.open import OpenModel
from app.registry.version import ModelVersion
from app.streaming.rows.layout import FeatureColumns, RowLayout

if TYPE_CHECKING:
    from app.model import HBPClassifier

_MOST_SHOWN = 5
_LEAST_MEASURED = 20

RARE_LABEL_SHARE = 0.001
"""A label on a smaller share of the labelled rows, or on one row, is not taken for a class."""


@dataclass(frozen=True)
class Roles:
    """Which columns of the input are neither features nor of no use."""

    label: str | None = None
    id: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class ModelInput:
    """What a model is to learn from, as far as the input shows it."""

    layout: RowLayout
    features: FeatureColumns
    roles: Roles

    def contract(self, classes: tuple[str, ...]) -> Contract:
        return Contract(
            columns=self.layout.columns,
            features=self.features.names,
            n_features=self.features.n_features,
            classes=classes,
            label=self.roles.label,
            id=self.roles.id,
            time=self.roles.time,
            is_array=self.features.is_array,
        )


@dataclass(frozen=True)
class BoundModel:
    """A model and the rows it takes.

    Attributes
    ----------
    classifier
        In the state of ``version``.
    version
        The version that was current when the model was opened or created.
    contract
    metadata
        Goes with every state of the model.
    """

    classifier: HBPClassifier
    version: ModelVersion
    contract: Contract
    metadata: Mapping[str, str]


def bind_model(
    settings: RunSettings,
    opened: OpenModel,
    rows: ModelInput,
    classes_of_input: Callable[[], tuple[str, ...]],
) -> BoundModel:
    """Return the registry's model if it fits the input, or create one for the input.

    Parameters
    ----------
    settings
    opened
    rows
    classes_of_input
        Gives the classes of a new model when the settings do not.

    Raises
    ------
    UserError
        When an option contradicts the model that is there.
    """
    from app.model import HBPClassifier

    classifier = None
    if opened.current is None:
        classifier = _create(settings, opened, rows, classes_of_input)
    stored = opened.stored
    config = config_from_metadata(stored.metadata)
    fixed = FixedContract.from_metadata(stored.metadata)
    # Also of a model that was just created: another learner may have been first.
    _check_fit(settings, rows.features, config, fixed)
    features = FeatureColumns(fixed.features, config.n_features, rows.features.is_array)
    contract = ModelInput(rows.layout, features, rows.roles).contract(fixed.classes)
    if classifier is None or classifier.config != config:
        classifier = HBPClassifier.from_config(config)
    classifier.set_state(stored.state)
    return BoundModel(classifier, opened.version, contract, stored.metadata)


def _create(
    settings: RunSettings,
    opened: OpenModel,
    rows: ModelInput,
    classes_of_input: Callable[[], tuple[str, ...]],
) -> HBPClassifier:
    """Create the model, unless another learner has by now, and return what was to be it."""
    from app.model import HBPClassifier

    contract = rows.contract(_named_classes(settings) or classes_of_input())
    config = ModelConfig(
        n_features=contract.n_features, n_classes=len(contract.classes), **settings.model_options
    )
    classifier = HBPClassifier.from_config(config)
    opened.create(classifier.get_state(), config_to_metadata(config) | contract.to_metadata())
    return classifier


def _check_fit(
    settings: RunSettings, features: FeatureColumns, config: ModelConfig, fixed: FixedContract
) -> None:
    where = f"model {settings.model!r} of {settings.workdir}"
    for name, value in settings.model_options.items():
        had = getattr(config, name)
        if value != had:
            raise UserError(f"{option_name(name)} is {value}, but {where} was created with {had}")
    classes = _named_classes(settings)
    if classes not in (None, fixed.classes):
        raise UserError(
            f"--classes is {','.join(classes)}, but {where} was created with "
            f"{','.join(fixed.classes)}"
        )
    if features.names != fixed.features:
        raise UserError(
            f"--features: the input has {', '.join(features.names)}, but {where} was created "
            f"with {', '.join(fixed.features)}"
        )


def _named_classes(settings: RunSettings) -> tuple[str, ...] | None:
    """Return the classes that the settings name, as labels are read."""
    if settings.classes is None:
        return None
    classes = tuple(map(canonical_text, settings.classes))
    if len(set(classes)) < len(classes):
        raise UserError(f"--classes: {','.join(settings.classes)} names one label twice")
    return classes


def choose_classes(
    counts: Mapping[str, int], column: str, warn: Callable[[str], None]
) -> tuple[str, ...]:
    """Return the labels of an input that are common enough to be classes, in class order.

    Parameters
    ----------
    counts
        Labelled rows by label.
    column
        The label's column, for the message.
    warn
        Given a message about labels that were left out.

    Raises
    ------
    UserError
        When there are fewer than two, or the labels look like numbers that are measured.
    """
    total = sum(counts.values())
    _refuse_measured(counts, column, total)
    classes = [name for name, n in counts.items() if n > 1 and n >= RARE_LABEL_SHARE * total]
    if len(classes) < 2:
        held = sorted(counts.items(), key=lambda item: -item[1])[:_MOST_SHOWN]
        shown = ", ".join(f"{name} on {n:,} rows" for name, n in held) or "no label"
        name_them = f"; name the classes with --classes {','.join(sorted(counts))}"
        raise UserError(
            f"--label: column '{column}' holds {shown}; at least 2 labels on more than a row in a "
            f"thousand are needed{name_them if 2 <= len(counts) <= _MOST_SHOWN else ''}"
        )
    classes.sort(key=_label_order)
    left_out = sorted(counts.keys() - set(classes), key=_label_order)
    if left_out:
        warn(
            f"classes are {', '.join(classes)}; rare labels are left out and become dead "
            f"letters: {', '.join(left_out[:5])}{' …' if len(left_out) > 5 else ''} "
            "(name the classes with --classes)"
        )
    return tuple(classes)


def _refuse_measured(counts: Mapping[str, int], column: str, total: int) -> None:
    """Refuse labels that are many different numbers, most of them once and not all whole."""
    once = sum(n == 1 for n in counts.values())
    if len(counts) < _LEAST_MEASURED or once < len(counts) / 2:
        return
    if all(_label_order(name)[0] == 0 for name in counts) and any("." in name for name in counts):
        examples = ", ".join(list(counts)[:3])
        raise UserError(
            f"--label: column '{column}' looks measured: {len(counts):,} different numbers on "
            f"{total:,} rows, such as {examples}. A classifier learns classes: cut the numbers "
            "into ranges, or name the classes with --classes"
        )


def _label_order(label: str) -> tuple[int, float, str]:
    """Order numbers by value and before text."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
