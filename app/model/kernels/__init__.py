"""Passes over a chunk of rows, compiled by Numba: what :mod:`app.model.learner` calls.

Each pass takes the rows in order, so that a state does not depend on how they were cut into
chunks. Slices are taken of flat arrays where a loop is hot, since Numba then knows that a row is
contiguous. Numba compiles a function for the dtypes it is called with: the model's, float32 or
float64, is meant where no other is given.
"""
