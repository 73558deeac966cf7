"""The hedged network, its learner and its state. Knows no Spark and no Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.model.classifier import HBPClassifier

__all__ = ["HBPClassifier"]


def __getattr__(name: str) -> Any:
    # On first use: TensorFlow takes seconds to import, and a command that only reads a
    # state's bytes does not need it.
    if name == "HBPClassifier":
        from app.model.classifier import HBPClassifier

        return HBPClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
