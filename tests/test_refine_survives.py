"""No picture and no setting ends the process in the dense CRF's C++."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_picture

from fslab.records import FslabError, LabelMap, OutOfMemory, Picture, Refinement
from fslab.refine import dense, refine

NAMES = ("background", "dog", "cat", "grass")
JOINT = Refinement(method="crf-joint", iterations=2)


def thirds(size):
    """Return a map of three labels."""
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2] = 1
    labels[:, size[1] // 2 :] = 2
    return LabelMap(labels, NAMES)


ENDS = [
    {"bilateral_srgb": 1e-6},
    {"gaussian_sxy": 1e-7},
    {"bilateral_sxy": 1e-30},
    {"bilateral_sxy": 5e-324},
    {"bilateral_sxy": 0.004, "bilateral_srgb": 0.1},
    {"gaussian_compat": 1e300},
    {"bilateral_compat": -1e39},
]


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_a_setting_at_the_end_of_its_range_is_refused(end):
    for method in ("crf", "crf-joint"):
        recipe = Refinement(method=method, iterations=2, **end)
        with pytest.raises(FslabError, match=f"refinement.*{next(iter(end))}"):
            refine(noise_picture(64, 64), thirds((64, 64)), recipe)


@pytest.mark.parametrize(
    "end",
    [
        {"bilateral_sxy": 1e300, "bilateral_srgb": 1e300, "gaussian_sxy": 1e300},
        {"bilateral_sxy": 0.05, "bilateral_srgb": 0.1},
        {"gaussian_sxy": 0.01},
        {"gaussian_compat": 0.0, "bilateral_compat": -1e6},
        {"certainty": 1 - 1e-12},
    ],
    ids=str,
)
def test_a_setting_within_its_range_is_answered(end):
    for method in ("crf", "crf-joint"):
        picture = noise_picture(64, 64)
        found = refine(picture, thirds((64, 64)), Refinement(method=method, iterations=2, **end))
        assert set(np.unique(found.labels)) <= {0, 1, 2}


def test_the_lattice_holds_at_the_bound_and_not_far_beyond():
    """Just inside the bound pydensecrf is right: widths and picture in other units are the same."""
    pixels = np.zeros((4, 4001, 3), np.uint8)
    pixels[:, ::2] = 1
    picture, labels = Picture(pixels), thirds((4, 4001))
    reach = dense._reach([4001, 4, 1, 1, 1])
    inside = Refinement(
        method="crf-joint", bilateral_sxy=reach / dense._LARGEST_KEY * 1.001, bilateral_srgb=1.0
    )
    found = refine(picture, labels, inside)
    assert np.array_equal(found.labels, labels.labels)  # a pixel is its own neighbourhood
    with pytest.raises(FslabError, match=r"bilateral_sxy is .* too small for a picture"):
        refine(picture, labels, Refinement(method="crf-joint", bilateral_sxy=0.1))


@pytest.mark.parametrize("method", ["crf", "crf-joint"])
def test_a_process_of_its_own_gives_the_same_bits(method, monkeypatch):
    picture, labels = noise_picture(60, 90), thirds((60, 90))
    seen, plain = [], dense.worker.infer
    monkeypatch.setattr(
        dense.worker, "infer", lambda *a, **k: seen.append(plain(*a, **k)) or seen[-1]
    )
    recipe = Refinement(method=method, iterations=3)
    here = refine(picture, labels, recipe)
    apart = []
    monkeypatch.setattr(dense, "HERE", 0)
    own = dense._apart
    monkeypatch.setattr(dense, "_apart", lambda *given: apart.append(own(*given)) or apart[-1])
    there = refine(picture, labels, recipe)
    assert len(seen) == len(apart) == (2 if method == "crf" else 1)
    assert all(np.array_equal(one, other) for one, other in zip(seen, apart, strict=True))
    assert np.array_equal(here.labels, there.labels)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("limit", [320 * 10**6, 360 * 10**6, 400 * 10**6])
def test_memory_that_runs_out_in_a_crf_is_a_refusal(limit, monkeypatch):
    """The limits end the lattice's C++ at several places, and nothing is known of them before."""
    plain, codes = subprocess.run, []

    def limited(*words, **named):
        def limits():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        done = plain(*words, **named, preexec_fn=limits)
        codes.append(done.returncode)
        return done

    monkeypatch.setattr(dense.subprocess, "run", limited)
    rng = np.random.default_rng(0)
    size = (1000, 1000)
    picture = Picture(rng.integers(0, 256, (*size, 3), dtype=np.uint8), "huge")
    labels = LabelMap(rng.integers(0, 2, size, dtype=np.uint8), NAMES)
    with pytest.raises(OutOfMemory, match="huge: memory ran out in the CRF of 1000 x 1000 pixels"):
        refine(picture, labels, JOINT)
    assert codes[0] not in (0, 1)


def test_what_cannot_fit_is_refused_before_it_is_tried(monkeypatch):
    monkeypatch.setattr(dense, "available", lambda: 10**6)
    monkeypatch.setattr(dense.worker, "infer", None)
    with pytest.raises(OutOfMemory, match=r"takes up to 0\.\d GB, and 0\.0 GB are free"):
        refine(noise_picture(300, 300), thirds((300, 300)), JOINT)


def test_more_than_can_be_counted_is_refused_by_name():
    with pytest.raises(FslabError, match="255 labels are more than the CRF can count"):
        dense._check_count(noise_picture(2400, 2400), 255)


@pytest.mark.parametrize("executable", ["", "/no/such/python"])
def test_a_process_that_cannot_be_begun_is_a_sentence(executable, monkeypatch):
    monkeypatch.setattr(dense, "HERE", 0)
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(FslabError, match="which could not be begun"):
        refine(noise_picture(20, 20), thirds((20, 20)), JOINT)


def test_a_process_without_its_library_says_so(monkeypatch, tmp_path):
    (tmp_path / "pydensecrf").mkdir()
    (tmp_path / "pydensecrf" / "__init__.py").touch()
    (tmp_path / "pydensecrf" / "densecrf.py").write_text("raise ImportError('it is not there')")
    monkeypatch.setattr(dense, "HERE", 0)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FslabError, match="process of the CRF failed: ImportError: it is not"):
        refine(noise_picture(20, 20), thirds((20, 20)), JOINT)


def test_what_is_free_is_the_least_of_all_limits(monkeypatch, tmp_path):
    from fslab import room

    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    for folder, limit, used in ((group, "max", 10), (group.parent, "5000", 1000)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    (group.parent / "memory.stat").write_text("anon 900\ninactive_file 100\n")
    assert list(room._left(tmp_path, "a/b", "memory.max", "memory.current")) == [4100]
    before = room.available()
    if sys.platform == "linux":
        assert before > 10**6
        usual = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 10**8
        resource.setrlimit(resource.RLIMIT_AS, (limit, usual[1]))
        try:
            assert room.available() <= 10**8
        finally:
            resource.setrlimit(resource.RLIMIT_AS, usual)
    monkeypatch.setattr(room, "_of_machine", lambda: iter(()))
    monkeypatch.setattr(room, "_of_process", lambda: iter(()))
    monkeypatch.setattr(room, "_of_groups", lambda: iter(()))
    assert room.available() is None
