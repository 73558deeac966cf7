"""What the model must compute, in plain NumPy, one row at a time.

Written from the paper and the project's design, not from its code, to be compared with it. Slow on
purpose: every head is propagated back on its own.
"""

from tests.oracle.model import NumpyHBP

__all__ = ["NumpyHBP"]
