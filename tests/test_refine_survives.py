"""No picture and no setting ends the process in a dense CRF, by either engine."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_picture

from fslab.records import FslabError, LabelMap, OutOfMemory, Picture, Refinement
from fslab.refine import dense, dense_crf, reach, reference, refine

NAMES = ("background", "dog", "cat", "grass")
ENGINES = ("fslab", "pydensecrf")
JOINT = Refinement.of(method="crf-joint", iterations=2)
THEIRS = Refinement.of(method="crf-joint", iterations=2, engine="pydensecrf")


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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("end", ENDS, ids=str)
def test_a_setting_at_the_end_of_its_range_is_refused(end, engine):
    for method in ("crf", "crf-joint"):
        recipe = Refinement.of(method=method, iterations=2, engine=engine, **end)
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
@pytest.mark.reference
def test_a_setting_within_its_range_is_answered_alike_by_both_engines(end):
    for method in ("crf", "crf-joint"):
        picture = noise_picture(64, 64)
        recipes = [
            Refinement.of(method=method, iterations=2, engine=each, **end) for each in ENGINES
        ]
        ours, theirs = (refine(picture, thirds((64, 64)), recipe).labels for recipe in recipes)
        assert set(np.unique(ours)) <= {0, 1, 2}
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    "engine", ["fslab", pytest.param("pydensecrf", marks=pytest.mark.reference)]
)
def test_the_lattice_holds_at_the_bound_and_not_far_beyond(engine):
    """Just inside the bound a pixel is its own neighbourhood."""
    pixels = np.zeros((4, 4001, 3), np.uint8)
    pixels[:, ::2] = 1
    picture, labels = Picture(pixels), thirds((4, 4001))
    far = reach.reach(reach.Term((1.0,) * 5, 1.0), pixels)
    inside = Refinement.of("crf-joint", bilateral_sxy=far / reach.MOST_STEPS * 1.001,
                        bilateral_srgb=1.0, engine=engine)  # fmt: skip
    found = refine(picture, labels, inside)
    assert np.array_equal(found.labels, labels.labels)
    with pytest.raises(FslabError, match=r"bilateral_sxy is .* too small for a picture"):
        refine(picture, labels, Refinement.of("crf-joint", bilateral_sxy=0.1, engine=engine))


def test_all_points_that_a_lattice_may_hold_have_keys_of_their_own():
    """At the bound on every axis: sums of coordinates times the products of radices differ."""
    pixels = np.full((1000, 1300, 3), 255, np.uint8)
    rng = np.random.default_rng(0)
    for sizes in ((0.3, 0.3, 0.2, 0.2, 0.2), (20.0, 20.0, 20.0, 20.0, 20.0), (0.3, 0.3)):
        term = reach.Term(sizes, 1.0)
        assert reach.holds(term, pixels)
        radices = reach.radices(term, pixels)
        d = len(radices)
        units = np.cumprod([1, *radices[:-1]])
        steps = np.stack([rng.integers(0, most, 20_000) for most in radices], 1)
        steps[::2] = np.minimum(steps[::2], 2)  # near each other, where keys would collide
        coordinates = (d + 1) * steps + rng.integers(0, d + 1, (20_000, 1))
        keys = coordinates @ units
        assert len(np.unique(keys)) == len(np.unique(coordinates, axis=0))


@pytest.mark.parametrize("method", ["crf", "crf-joint"])
@pytest.mark.reference
def test_a_process_of_its_own_gives_the_same_bits(method, monkeypatch):
    picture, labels = noise_picture(60, 90), thirds((60, 90))
    seen, plain = [], reference.worker.infer
    monkeypatch.setattr(
        reference.worker, "infer", lambda *a, **k: seen.append(plain(*a, **k)) or seen[-1]
    )
    recipe = Refinement.of(method=method, iterations=3, engine="pydensecrf")
    here = refine(picture, labels, recipe)
    apart = []
    monkeypatch.setattr(reference, "HERE", 0)
    own = reference._apart
    monkeypatch.setattr(reference, "_apart", lambda *given: apart.append(own(*given)) or apart[-1])
    there = refine(picture, labels, recipe)
    assert len(seen) == len(apart) == (2 if method == "crf" else 1)
    assert all(np.array_equal(one, other) for one, other in zip(seen, apart, strict=True))
    assert np.array_equal(here.labels, there.labels)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("limit", [320 * 10**6, 360 * 10**6, 400 * 10**6])
@pytest.mark.reference
def test_memory_that_runs_out_in_pydensecrf_is_a_refusal(limit, monkeypatch):
    """The limits end the lattice's C++ at several places, and nothing is known of them before."""
    plain, codes = subprocess.run, []

    def limited(*words, **named):
        def limits():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        done = plain(*words, **named, preexec_fn=limits)
        codes.append(done.returncode)
        return done

    monkeypatch.setattr(reference.subprocess, "run", limited)
    rng = np.random.default_rng(0)
    size = (1000, 1000)
    picture = Picture(rng.integers(0, 256, (*size, 3), dtype=np.uint8), "huge")
    labels = LabelMap(rng.integers(0, 2, size, dtype=np.uint8), NAMES)
    with pytest.raises(OutOfMemory, match="huge: memory ran out in the CRF of 1000 x 1000 pixels"):
        refine(picture, labels, THEIRS)
    assert codes[0] not in (0, 1)


@pytest.mark.reference
def test_what_cannot_fit_is_refused_before_it_is_tried(monkeypatch):
    picture, labels = noise_picture(300, 300), thirds((300, 300))
    monkeypatch.setattr(reference, "available", lambda: 10**6)
    monkeypatch.setattr(reference.worker, "infer", None)
    with pytest.raises(OutOfMemory, match=r"takes up to 0\.\d GB, and 0\.0 GB are free"):
        refine(picture, labels, THEIRS)
    asked = []
    for calls in range(1, 8):
        frees = iter([10**12] * (calls - 1) + [10**3] * 9)
        monkeypatch.setattr(dense, "available", lambda frees=frees: next(frees))
        try:
            refine(picture, labels, JOINT)
        except OutOfMemory as error:
            asked.append(str(error))
        else:
            break
    assert len(asked) == calls - 1 == 6
    for words in asked:
        assert "memory ran out in the CRF of 300 x 300 pixels and 3 labels" in words
        assert words.count(" MB more, and 0 MB are free") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_that_runs_out_anywhere_in_a_crf_is_a_refusal(monkeypatch):
    """The limits end it at several places, and nothing is known of them before."""
    monkeypatch.setattr(dense, "available", lambda: None)
    rng = np.random.default_rng(0)
    for side, size in (("small", (30, 30)), ("huge", (1000, 1000))):
        picture = Picture(rng.integers(0, 256, (*size, 3), dtype=np.uint8), side)
        labels = LabelMap(rng.integers(0, 3, size, dtype=np.uint8), NAMES)
        if side == "small":
            refine(picture, labels, JOINT)  # what is compiled and loaded once is there by now
    usual, ended = resource.getrlimit(resource.RLIMIT_AS), []
    for megabytes in (10, 60, 200, 400):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + megabytes * 10**6
        resource.setrlimit(resource.RLIMIT_AS, (limit, usual[1]))
        try:
            refine(picture, labels, JOINT)
        except OutOfMemory as error:
            ended.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, usual)
    assert len(ended) == 4
    assert all(words.startswith("huge: memory ran out (Unable to allocate") for words in ended)
    assert len(set(ended)) > 1


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_what_a_crf_says_that_it_takes_is_what_it_takes():
    """Of noise, which shares the fewest points: told before, and at least what numpy then asks."""
    import tracemalloc

    from fslab.refine import field

    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    odds = np.zeros((5, 400, 400), np.float32)
    terms = reach.Term((20.0, 20.0, 10.0, 10.0, 10.0), 1.0), reach.Term((3.0, 3.0), 1.0)
    field.infer(pixels, odds, terms, 1, True, 1, lambda size: None)
    told = []
    tracemalloc.start()
    field.infer(pixels, odds, terms, 1, True, 1, told.append)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < sum(told) < 3 * most


def test_more_than_can_be_counted_is_refused_by_name():
    with pytest.raises(FslabError, match="255 labels are more than pydensecrf can count"):
        reference._check_count(noise_picture(2400, 2400), 255)

    class Wide:
        name, size, pixels = "wide", (30_000, 30_000), np.zeros((1, 1, 3), np.uint8)

    with pytest.raises(FslabError, match="30000 x 30000 pixels are more than the CRF can count"):
        dense._infer(Wide, np.broadcast_to(np.float32(0), (1, *Wide.size)), (), JOINT, True)


@pytest.mark.parametrize("executable", ["", "/no/such/python"])
@pytest.mark.reference
def test_a_process_that_cannot_be_begun_is_a_sentence(executable, monkeypatch):
    monkeypatch.setattr(reference, "HERE", 0)
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(FslabError, match="which could not be begun"):
        refine(noise_picture(20, 20), thirds((20, 20)), THEIRS)


def test_a_process_without_its_library_says_so(monkeypatch, tmp_path):
    (tmp_path / "pydensecrf").mkdir()
    (tmp_path / "pydensecrf" / "__init__.py").touch()
    (tmp_path / "pydensecrf" / "densecrf.py").write_text("raise ImportError('it is not there')")
    monkeypatch.setattr(reference, "HERE", 0)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FslabError, match="process of the CRF failed: ImportError: it is not"):
        refine(noise_picture(20, 20), thirds((20, 20)), THEIRS)


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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("energies", "message"),
    [
        (np.zeros((2, 11), np.float32), r"unary is float32 \[2, 11\]; it must be \[labels, 12\]"),
        (
            np.zeros((2, 3, 4), np.float32),
            r"unary is float32 \[2, 3, 4\]; it must be \[labels, 12\]",
        ),
        (
            np.zeros((0, 12), np.float32),
            r"unary is float32 \[0, 12\]; it must be an array of numbers",
        ),
        (np.full((2, 12), np.inf, np.float32), "unary holds NaN or infinity"),
        ([[0.0] * 12] * 2, "unary is list; it must be an array of numbers"),
    ],
)
def test_energies_that_are_not_one_for_each_label_and_pixel_are_refused(energies, message, engine):
    recipe = Refinement.of(method="crf-joint", engine=engine)
    with pytest.raises(FslabError, match=message):
        dense_crf(noise_picture(3, 4), energies, recipe)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_label_is_certain(engine):
    recipe = Refinement.of(method="crf-joint", engine=engine)
    found = dense_crf(noise_picture(3, 4), np.zeros((1, 12), np.float32), recipe)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.ones((1, 3, 4)))


def test_numpys_errors_that_are_raised_outside_change_no_crf():
    picture, recipe = noise_picture(3, 4), Refinement.of(method="crf-joint")
    energies = np.stack([np.zeros(12), np.full(12, 300)]).astype(np.float32)
    expected = dense_crf(picture, energies, recipe)
    with np.errstate(all="raise"):
        assert np.array_equal(dense_crf(picture, energies, recipe), expected)
