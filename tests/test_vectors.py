"""Unit length: along any axis, in the numbers' own precision, and zero where there is none."""

import numpy as np
import pytest

from fslab.vectors import unit


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_along_an_axis_have_length_one_and_their_direction(axis, dtype):
    given = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(dtype)
    found = unit(given, axis)
    assert found.dtype == dtype
    assert np.allclose(np.sqrt((found**2).sum(axis)), 1, atol=1e-6)
    lengths = np.sqrt((given**2).sum(axis, keepdims=True))
    assert np.allclose(found * lengths, given, atol=1e-6)


def test_a_short_vector_is_divided_by_the_least_length():
    given = np.array([[0.0, 0.0], [3e-9, 4e-9], [3.0, 4.0]])
    assert np.allclose(unit(given, least=1e-8), [[0, 0], [0.3, 0.4], [0.6, 0.8]])
    assert np.allclose(unit(given), [[0, 0], [0.6, 0.8], [0.6, 0.8]])
