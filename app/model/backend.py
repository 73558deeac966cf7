"""TensorFlow, imported without what it prints at its start."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

__all__ = ["tf", "use_one_thread"]

logger = logging.getLogger(__name__)

_STDERR = 2


@contextlib.contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Drop what native code writes to standard error.

    While TensorFlow is imported, it reports there that it has found no GPU, before
    any setting of its log level takes effect.
    """
    try:
        kept = os.dup(_STDERR)
    except OSError:
        yield
        return
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, _STDERR)
        os.close(sink)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


if TYPE_CHECKING:
    import tensorflow as tf
elif "tensorflow" in sys.modules:
    tf = sys.modules["tensorflow"]
else:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _native_stderr_closed():
        tf = importlib.import_module("tensorflow")


def use_one_thread() -> None:
    """Keep TensorFlow to one core, if it has not started computing yet.

    Rows are learned one after the other, and a Spark task is given one core.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        logger.debug("TensorFlow had started before its threads could be set")
