"""What a notebook imports. Each name is loaded when it is first used.

Importing the package, or a settings class of it, starts neither Spark nor TensorFlow.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.api import replay, stream
    from app.config.model import ModelOptions
    from app.config.run import ReplaySettings, StreamSettings
    from app.errors import HedgestreamError, UserError
    from app.model import HBPClassifier
    from app.monitor.batch_log import BatchLog
    from app.monitor.metrics import RunSummary
    from app.report.figure import draw_report
    from app.report.summary import summary_lines
    from app.synthetic import drift_points, write_cd1

__all__ = [
    "BatchLog",
    "HBPClassifier",
    "HedgestreamError",
    "ModelOptions",
    "ReplaySettings",
    "RunSummary",
    "StreamSettings",
    "UserError",
    "draw_report",
    "drift_points",
    "replay",
    "stream",
    "summary_lines",
    "write_cd1",
]

_MODULES = {
    "BatchLog": "app.monitor.batch_log",
    "HBPClassifier": "app.model",
    "HedgestreamError": "app.errors",
    "ModelOptions": "app.config.model",
    "ReplaySettings": "app.config.run",
    "RunSummary": "app.monitor.metrics",
    "StreamSettings": "app.config.run",
    "UserError": "app.errors",
    "draw_report": "app.report.figure",
    "drift_points": "app.synthetic",
    "replay": "app.api",
    "stream": "app.api",
    "summary_lines": "app.report.summary",
    "write_cd1": "app.synthetic",
}


class _Facade(ModuleType):
    """A package whose functions give way to no module of their name.

    ``app/replay.py`` and ``app/stream.py`` are the scripts of spark-submit. Once either was
    imported as a module, the import system would put it in the place of the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Facade
