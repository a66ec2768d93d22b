"""The dense CRF of this package's own lattice: held to pydensecrf's, and the same on any threads."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fslab.lab.recipes import FREESEG_DIFF, FSLAB
from fslab.records import FslabError, JointCrf, LabelMap, OutOfMemory, Picture, Recipe, Refinement
from fslab.refine import dense, embedding, field, filtering, lanes, lattice, refine
from fslab.refine.reach import Term

SETTINGS = {
    "freeseg-diff": FREESEG_DIFF.refine,
    "one CRF over all": JointCrf(**vars(FREESEG_DIFF.refine)),
    "fslab": FSLAB.refine,
    "narrow": replace(FSLAB.refine, gaussian_sxy=1.5, bilateral_sxy=10.0),
    "wide": replace(FSLAB.refine, gaussian_sxy=6.0, bilateral_sxy=40.0, bilateral_srgb=20.0),
    "few steps": replace(FSLAB.refine, iterations=3, certainty=0.7),
    "repelled": replace(FSLAB.refine, iterations=2, gaussian_compat=-2.0, bilateral_compat=0.0),
}


def textured(size, seed=0):
    """Return a picture with an even part, a slope, a texture and noise, and four parts of labels."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[: size[0], : size[1]]
    waves = 60 * np.sin(down / 3)[..., None] * np.cos(right / 5)[..., None] * np.array([1, 0.5, -1])
    slope = np.stack([right, down, right + down], -1) * 200 / max(size)
    pixels = np.where((down > right)[..., None], slope, 120 + waves)
    pixels[: size[0] // 3] += rng.normal(0, 25, pixels[: size[0] // 3].shape)
    pixels[-size[0] // 4 :, : size[1] // 3] = (0, 40, 200)
    labels = (down > size[0] // 2) * 2 + (right > size[1] // 2)
    return Picture(np.clip(pixels, 0, 255).astype(np.uint8)), labels.astype(np.uint8)


def theirs(picture, unary, recipe):
    from pydensecrf.densecrf import DenseCRF2D

    crf = DenseCRF2D(picture.size[1], picture.size[0], len(unary))
    crf.setUnaryEnergy(np.array(unary, np.float32, order="C"))
    crf.addPairwiseGaussian(sxy=recipe.gaussian_sxy, compat=recipe.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=recipe.bilateral_sxy, srgb=recipe.bilateral_srgb, compat=recipe.bilateral_compat,
        rgbim=np.array(picture.pixels, order="C"),
    )  # fmt: skip
    return np.array(crf.inference(recipe.iterations)).reshape(len(unary), *picture.size)


@pytest.mark.parametrize("size", [(90, 120), (75, 301)])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.reference
def test_probabilities_are_pydensecrfs(name, size):
    recipe = SETTINGS[name]
    picture, labels = textured(size)
    if recipe.method == "crf":
        masks = labels == np.arange(4)[:, None, None]
        found = dense.mask_crfs(picture, masks, recipe)
        wanted = np.stack(
            [theirs(picture, _unary(mask.astype(int), recipe), recipe)[1] for mask in masks]
        )
        assert np.mean((found > 0.5) == (wanted > 0.5)) >= 0.999
    else:
        found = dense.dense_crf(picture, _unary(labels, recipe), recipe)
        wanted = theirs(picture, _unary(labels, recipe), recipe)
        assert np.mean(found.argmax(0) == wanted.argmax(0)) >= 0.999
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-3


def _unary(labels, recipe):
    from pydensecrf.utils import unary_from_labels

    return unary_from_labels(labels, int(labels.max()) + 1, recipe.certainty, zero_unsure=False)


@pytest.mark.reference
def test_energies_of_labels_are_pydensecrfs():
    _, labels = textured((30, 40))
    for recipe in (FREESEG_DIFF.refine, replace(FREESEG_DIFF.refine, certainty=0.6)):
        assert np.array_equal(dense.label_energy(labels, recipe), _unary(labels, recipe))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 20])
@pytest.mark.reference
def test_any_number_of_labels_and_masks(count):
    """Channels are worked on by fours: what fills them up changes nothing."""
    picture, _ = textured((40, 50))
    rng = np.random.default_rng(count)
    labels = np.kron(rng.integers(0, count + 1, (4, 5)), np.ones((10, 10), int))
    labels.flat[: count + 1] = range(count + 1)
    unary = _unary(labels, FSLAB.refine)
    found = dense.dense_crf(picture, unary, FSLAB.refine)
    assert np.abs(found - theirs(picture, unary, FSLAB.refine)).max() < 1e-3
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    masks = labels == np.arange(count)[:, None, None]
    alone = [dense.mask_crfs(picture, mask[None], FREESEG_DIFF.refine)[0] for mask in masks]
    assert np.array_equal(dense.mask_crfs(picture, masks, FREESEG_DIFF.refine), alone)


@pytest.mark.parametrize("together", [True, False])
def test_threads_change_no_bit(together, monkeypatch):
    monkeypatch.setattr(lattice, "_SHARE", 100)  # so that these few points are shared out
    picture, labels = textured((200, 290))
    odds = np.where(labels == np.arange(6)[:, None, None], 2, -2).astype(np.float32)
    terms = Term((20.0, 20.0, 8.0, 8.0, 8.0), 10.0), Term((3.0, 3.0), 3.0)
    one, *others = (
        field.infer(picture.pixels, odds, terms, 3, together, threads, lambda size: None)
        for threads in (1, 2, 3, 7)
    )
    for other in others:
        assert np.array_equal(one, other)


def test_a_picture_that_cannot_be_written_compiles_nothing_anew():
    picture, labels = textured((30, 40))
    refine(picture, LabelMap(labels, tuple("abcd")), FSLAB.refine)
    compiled = embedding.embed, filtering.advance
    before = [len(function.signatures) for function in compiled]
    picture.pixels.flags.writeable = False
    for pixels in (picture.pixels, picture.pixels[:, ::-1], np.asfortranarray(picture.pixels)):
        refine(Picture(pixels), LabelMap(labels, tuple("abcd")), FREESEG_DIFF.refine)
    assert [len(function.signatures) for function in compiled] == before


def test_where_nothing_can_be_kept_on_disk_it_is_compiled_for_the_process(monkeypatch):
    from numba.core import caching

    def refused(*given, **named):
        raise OSError("read-only file system")

    monkeypatch.setattr(caching.tempfile, "TemporaryFile", refused)

    def twice(x):
        return 2 * x

    with pytest.raises(RuntimeError, match="cannot cache"):
        lanes.njit(cache=True)(twice)
    assert lanes.compiled(twice)(21) == 42


def test_a_disk_that_is_full_when_code_is_kept_is_a_sentence(monkeypatch):
    from numba.core import caching

    def full(*given, **named):
        raise OSError(28, "No space left on device")

    def thrice(x):
        return 3 * x

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    monkeypatch.setattr(filtering, "merge", lanes.compiled(thrice))
    monkeypatch.setattr(field, "infer", lambda *given: filtering.merge(2))
    picture, labels = textured((20, 20))
    with pytest.raises(FslabError, match=r"\(No space left on device\); make room there, or name"):
        refine(picture, LabelMap(labels, tuple("abcd")), FSLAB.refine)


def test_threads_that_cannot_be_had_are_a_refusal(monkeypatch):
    import threading

    def refused(*given):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(dense.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", refused)
    picture, labels = textured((80, 150))
    with pytest.raises(OutOfMemory, match=r"memory ran out \(can't start new thread\)"):
        refine(picture, LabelMap(labels, tuple("abcd")), FSLAB.refine)


def test_python_in_place_of_compiled_code_is_refused(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    picture, labels = textured((20, 20))
    with pytest.raises(FslabError, match="NUMBA_DISABLE_JIT is set"):
        refine(picture, LabelMap(labels, tuple("abcd")), FSLAB.refine)


def test_a_whole_recipe_runs_without_pydensecrf(monkeypatch):
    import fslab

    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    picture, labels = textured((96, 96))
    lab = fslab.Lab("mini")
    found = lab.segment(picture, "freeseg-diff", candidates=("dog", "cat"))
    assert set(found.seconds) >= {"extract", "match", "refine"}
    assert found.labels.size == (96, 96)
    with pytest.raises(
        FslabError, match=r"which is not installed: `pip install 'fslab\[pydensecrf"
    ):
        lab.refine(picture, LabelMap(labels, tuple("abcd")), engine="pydensecrf")


def test_the_engine_is_a_setting_of_the_recipe():
    with pytest.raises(
        FslabError, match=r"refinement.engine is 'cuda'; it must be one of 'fslab', 'pyd"
    ):
        Refinement.of(engine="cuda")
    other = Recipe(refine=Refinement.of(engine="pydensecrf"))
    assert Recipe().digest != other.digest
    assert Recipe.from_dict(other.to_dict()) == other


def test_numba_is_imported_by_the_first_crf_and_pydensecrf_by_none():
    code = (
        "import sys; sys.modules['pydensecrf'] = None\n"
        "import numpy as np, fslab\n"
        "from fslab.refine import refine\n"
        "picture = fslab.Picture(np.zeros((8, 8, 3), np.uint8))\n"
        "labels = fslab.LabelMap(np.eye(8, dtype=np.uint8), ('background', 'dog'))\n"
        "for method in ('pamr', 'crf', 'crf-joint'):\n"
        "    refine(picture, labels, fslab.Refinement.of(method))\n"
        "    print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
