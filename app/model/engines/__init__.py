"""A state as compiled code takes it, and the two that update its networks: Numba and XLA."""
