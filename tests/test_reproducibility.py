"""The command that measures reproducibility: it sees what differs, and what must not does not."""

import numpy as np
import pytest
from reproducibility import compare, measure


def write(folder, **arrays):
    folder.mkdir()
    np.savez(folder / "one.npz", **arrays)
    return folder


def test_differences_are_measured(tmp_path):
    labels = np.zeros((4, 5), np.uint8)
    plain = write(tmp_path / "a", labels=labels, layer=np.array([1.0, -4.0], np.float32))
    assert compare(plain, write(tmp_path / "b", **np.load(plain / "one.npz"))).identical
    labels[0, :2] = 1
    moved = write(tmp_path / "c", labels=labels, layer=np.array([1.5, -4.0], np.float32))
    gap = compare(plain, moved)
    assert (gap.absolute, gap.relative, gap.pixels, gap.pictures) == (0.5, 0.125, 0.1, 1)
    assert not gap.identical


@pytest.mark.slow
def test_what_must_be_identical_is():
    found = measure(3, "fslab")
    assert found["again"].identical
    assert found["Dask, 2 workers"] is True
