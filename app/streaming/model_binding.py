"""Binding a model to an input: which classes, which settings, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.features import IMPUTE, REJECT
from app.config.model import ModelConfig, class_weights_of
from app.config.options import option_name
from app.config.run import RunSettings
from app.contract import Contract, Encoding, FixedContract
from app.errors import UserError
from app.inspection.classes import named_classes
from app.model.state import config_from_metadata, config_to_metadata
from app.registry.open import OpenModel
from app.registry.version import ModelVersion
from app.streaming.rows.layout import FeatureColumns, RowLayout

if TYPE_CHECKING:
    from app.model import HBPClassifier


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

    def contract(self, classes: tuple[str, ...], encoding: Encoding) -> Contract:
        return Contract(
            columns=self.layout.columns,
            features=self.features.names,
            n_features=self.features.n_features,
            classes=classes,
            label=self.roles.label,
            id=self.roles.id,
            time=self.roles.time,
            is_array=self.features.is_array,
            encoding=encoding,
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
    design: Callable[[], FixedContract],
    given: FixedContract | None = None,
) -> BoundModel:
    """Return the registry's model if it fits the input, or create one for the input.

    Parameters
    ----------
    settings
    opened
    rows
    design
        Gives what a new model is made for.
    given
        What a model that is there must have been made for.

    Raises
    ------
    UserError
        When an option contradicts the model that is there.
    """
    from app.model import HBPClassifier

    classifier = None
    if opened.current is None:
        classifier = _create(settings, opened, rows, design)
    stored = opened.stored
    config = config_from_metadata(stored.metadata)
    fixed = FixedContract.from_metadata(stored.metadata)
    # Also of a model that was just created: another learner may have been first.
    _check_fit(settings, rows.features, config, fixed)
    if given is not None and given.encoding != fixed.encoding:
        raise UserError(
            f"--contract: model {settings.model!r} of {settings.workdir} was created with other "
            "categories or missing values; leave the option out, or begin anew in another work "
            "directory"
        )
    features = FeatureColumns(fixed.features, config.n_features, rows.features.is_array)
    contract = ModelInput(rows.layout, features, rows.roles).contract(fixed.classes, fixed.encoding)
    if classifier is None or classifier.config != config:
        classifier = HBPClassifier.from_config(config)
    classifier.set_state(stored.state)
    return BoundModel(classifier, opened.version, contract, stored.metadata)


def _create(
    settings: RunSettings,
    opened: OpenModel,
    rows: ModelInput,
    design: Callable[[], FixedContract],
) -> HBPClassifier:
    """Create the model, unless another learner has by now, and return what was to be it."""
    from app.model import HBPClassifier

    made_for = design()
    contract = rows.contract(made_for.classes, made_for.encoding)
    encoding, features = contract.encoding, contract.features
    config = ModelConfig(
        n_features=contract.n_features,
        n_classes=len(contract.classes),
        category_slots=encoding.category_slots(features),
        indicators=tuple(features.index(name) for name in encoding.indicators),
        imputes=encoding.imputes,
        class_weights=class_weights_of(
            settings.model_options.get("class_weight"), contract.classes
        ),
        **settings.model_options,
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
    classes = None if settings.classes is None else named_classes(settings.classes)
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
    categorical = {*fixed.encoding.categories}
    if not categorical >= {*(settings.categorical or ())}:
        raise UserError(
            f"--categorical is {','.join(settings.categorical or ())}, but {where} was created "
            f"with {', '.join(categorical) or 'none'} as categories"
        )
    policy = IMPUTE if fixed.encoding.imputes else REJECT
    if settings.missing not in (None, policy):
        raise UserError(f"--missing is {settings.missing}, but {where} was created with {policy}")
