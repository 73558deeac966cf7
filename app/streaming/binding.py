"""Binding a model to an input: which classes, which settings, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config import RunSettings, option_name
from app.errors import UserError
from app.model.state import config_from_metadata, config_to_metadata
from app.model_config import ModelConfig
from app.registry.registry import ModelRegistry
from app.streaming.inputs import InputTable
from app.streaming.labels import count_labels
from app.streaming.schema import Contract, contract_from_metadata

if TYPE_CHECKING:
    from app.model import HBPClassifier

RARE_LABEL_SHARE = 0.001
"""A label on a smaller share of the labelled rows, or on one row, is not taken for a class."""


@dataclass(frozen=True)
class Roles:
    """Which columns of the input are neither features nor of no use."""

    label: str | None = None
    id: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class BoundModel:
    """A model and the rows it takes.

    Attributes
    ----------
    classifier : HBPClassifier
    contract : Contract
    metadata : dict of str to str
        Goes with every state of the model.
    """

    classifier: HBPClassifier
    contract: Contract
    metadata: dict[str, str]


def bind_model(
    settings: RunSettings,
    layout: InputTable,
    roles: Roles,
    registry: ModelRegistry,
    classes_of_input: Callable[[], tuple[str, ...]],
) -> BoundModel:
    """Return the registry's model if it fits the input, or create one for the input.

    Parameters
    ----------
    settings : RunSettings
    layout : InputTable
    roles : Roles
    registry : ModelRegistry
    classes_of_input : callable
        Gives the classes of a new model when the settings do not.

    Raises
    ------
    UserError
        When an option contradicts the model that is there.
    """
    from app.model import HBPClassifier

    head = registry.recover()
    if head is not None:
        state, metadata = registry.load(head)
        config, fixed = config_from_metadata(metadata), contract_from_metadata(metadata)
        _check_fit(settings, layout, config, fixed)
        contract = _contract(roles, layout, config.n_features, fixed["classes"])
        classifier = HBPClassifier.from_config(config)
        classifier.set_state(state)
        return BoundModel(classifier, contract, metadata)

    classes = settings.classes or classes_of_input()
    contract = _contract(roles, layout, layout.n_features, classes)
    config = ModelConfig(
        n_features=layout.n_features, n_classes=len(classes), **settings.model_options
    )
    classifier = HBPClassifier.from_config(config)
    metadata = config_to_metadata(config) | contract.to_metadata()
    registry.create(classifier.get_state(), metadata)
    return BoundModel(classifier, contract, metadata)


def _contract(
    roles: Roles, layout: InputTable, n_features: int, classes: tuple[str, ...]
) -> Contract:
    return Contract(
        columns=layout.columns,
        features=layout.features,
        n_features=n_features,
        classes=classes,
        label=roles.label,
        id=roles.id,
        time=roles.time,
        is_array=layout.is_array,
    )


def _check_fit(settings: RunSettings, layout: InputTable, config: ModelConfig, fixed: dict) -> None:
    where = f"model {settings.model!r} of {settings.workdir}"
    for name, value in settings.model_options.items():
        had = getattr(config, name)
        if value != had:
            raise UserError(f"{option_name(name)} is {value}, but {where} was created with {had}")
    if settings.classes not in (None, fixed["classes"]):
        raise UserError(
            f"--classes is {','.join(settings.classes)}, but {where} was created with "
            f"{','.join(fixed['classes'])}"
        )
    if layout.features != fixed["features"]:
        raise UserError(
            f"--features: the input has {', '.join(layout.features)}, but {where} was created "
            f"with {', '.join(fixed['features'])}"
        )


def find_classes(layout: InputTable, label: str, warn: Callable[[str], None]) -> tuple[str, ...]:
    """Count the labels of the whole input and return those that are common enough.

    Raises
    ------
    UserError
        When there are fewer than two.
    """
    counts = count_labels(layout, label)
    total = sum(counts.values())
    classes = [name for name, n in counts.items() if n > 1 and n >= RARE_LABEL_SHARE * total]
    if len(classes) < 2:
        raise UserError(
            f"--label: column '{label}' holds {len(classes)} label on more than a row "
            f"in a thousand ({', '.join(sorted(classes)) or 'none'}); at least 2 are needed"
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


def _label_order(label: str) -> tuple[int, float, str]:
    """Order numbers by value and before text."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
