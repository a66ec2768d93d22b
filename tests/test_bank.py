"""A bank of regions: what it holds, whom it helps, and what it refuses."""

import json

import numpy as np
import pytest
from conftest import noise_picture
from PIL import Image
from safetensors.numpy import load_file, save_file

import fslab
from fslab import Lab
from fslab.datasets import VOC
from fslab.lab.banks import facts_of
from fslab.match import Bank, Patches, match, read_bank, region_keys, text_scores
from fslab.records import Features, FslabError, KMeans, Matching, Segments

QUERY = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
CHANGES = {
    "extract.layers": [QUERY], "extract.squash": False, "cluster.k": 3, "refine.method": "none",
    "caption.words": "all", "match.assignment": "argmax",
}  # fmt: skip
PICTURES = [noise_picture(32, 32, seed=seed) for seed in (1, 2, 3)]
OTHER = noise_picture(32, 48, seed=9)


@pytest.fixture(scope="module")
def lab(tiny):
    return Lab(tiny)


@pytest.fixture(scope="module")
def recipe():
    return fslab.METHODS["freeseg-diff"].change(CHANGES)


@pytest.fixture(scope="module")
def file(lab, recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    lab.bank(PICTURES, recipe, out=path, progress=False)
    return path


def test_a_bank_holds_a_region_s_mean_features_and_clip_s_vector_of_it(lab, recipe, file):
    bank = read_bank(file)
    assert bank.pictures == tuple(each.digest for each in PICTURES)
    assert len(bank.keys) == len(bank.values) == 9
    read_by = lab.recipe(recipe)
    features = lab._extract(PICTURES[1], read_by.extract)
    segments = lab.segments(PICTURES[1], recipe)
    values = Patches(PICTURES[1], lab.matcher).encode(segments.masks())
    np.testing.assert_allclose(bank.values[3:6], values, atol=1e-6)
    cells = features[QUERY] / np.linalg.norm(features[QUERY], axis=0)
    side = 32 // cells.shape[1]
    for place, mask in enumerate(segments.masks()):
        shares = mask.reshape(cells.shape[1], side, -1, side).mean((1, 3))
        mean = (cells * shares).sum((1, 2))
        np.testing.assert_allclose(bank.keys[3 + place], mean / np.linalg.norm(mean), atol=1e-5)


def test_the_nearest_regions_are_averaged():
    keys, values = np.eye(3, 4, dtype=np.float32), np.eye(3, dtype=np.float32)
    bank = Bank(keys, values, ("a",), {})
    asked = np.array([[0.9, 0.4, 0.1, 0]], np.float32)
    np.testing.assert_allclose(bank.nearest(asked, 1), [[1, 0, 0]])
    np.testing.assert_allclose(bank.nearest(asked, 2), [[0.5**0.5, 0.5**0.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(bank.nearest(asked, 9), [[3**-0.5] * 3], rtol=1e-6)
    with pytest.raises(FslabError, match="features have 2 channels and those of the bank 4"):
        bank.nearest(asked[:, :2], 1)


def test_logits_are_shared_between_a_segment_and_those_like_it(lab, recipe, file):
    features = lab._extract(OTHER, lab.recipe(recipe).extract)
    segments = lab._cluster(features, KMeans(k=3), 0)
    nearest = read_bank(file).nearest(region_keys(features, segments), 2)
    columns = [[VOC.texts(name)[0]] for name in VOC.classes]
    like = text_scores(nearest, columns, ("{}",), lab.matcher)

    def scored(**more):
        asked = (OTHER, segments, ["dog"], VOC, features)
        return lab.score_segments(*asked, **more).probabilities

    given = {"bank": str(file), "bank_nearest": 2}
    np.testing.assert_allclose(scored(**given, bank_weight=1.0), like, atol=1e-5)
    mixed, own = np.log(scored(**given, bank_weight=0.25)), np.log(scored())
    wanted = 0.75 * own + 0.25 * np.log(like)
    wanted -= np.log(np.exp(wanted).sum(1, keepdims=True))
    np.testing.assert_allclose(mixed, wanted, atol=1e-4)


def test_an_interrupted_bank_goes_on(lab, recipe, file, tmp_path, monkeypatch):
    path = tmp_path / "bank.safetensors"
    lab.bank(PICTURES[:2], recipe, out=path, progress=False)
    passed, plain = [], Lab._extract

    def counted(lab, picture, *given):
        passed.append(picture.digest)
        return plain(lab, picture, *given)

    monkeypatch.setattr(Lab, "_extract", counted)
    found = lab.bank([*PICTURES, PICTURES[0]], recipe, out=path, progress=False)
    assert passed == [PICTURES[2].digest]
    assert found.digest == read_bank(path).digest == read_bank(file).digest


def test_a_picture_of_the_bank_is_refused_alone(lab, recipe, file):
    helped = recipe.change({"match.bank": str(file)})
    with pytest.raises(FslabError, match=r"is one of the pictures that the bank was made of"):
        lab.segment(PICTURES[0], helped)
    some = lab.segment_many([OTHER, PICTURES[0]], helped, batch=2)
    named, refused = some
    assert isinstance(refused, FslabError)
    assert named.labels.size == OTHER.size
    alone = lab.segment(OTHER, helped)
    assert np.array_equal(alone.labels.labels, named.labels.labels)


def test_keys_and_recipes_know_what_a_bank_holds(lab, recipe, file, tmp_path):
    path = tmp_path / "bank.safetensors"
    helped = recipe.change({"match.bank": str(path)})
    asked = OTHER, Segments(np.zeros(OTHER.size, np.int32)), VOC, ["dog"]
    features = Features({"up": np.ones((3, 2, 3))}, OTHER.size)
    found = []
    for count in (1, 2):
        lab.bank(PICTURES[:count], recipe, out=path, progress=False)
        whole = lab.recipe(helped)
        assert whole.match.bank_digest == read_bank(path).digest
        found.append((whole.digest, lab._score_key(*asked, helped.match, features)))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
    before = lab.recipe(recipe.change({"match.bank": str(file)}))
    moved = before.change({"match.bank": str(path)})
    with pytest.raises(FslabError, match=r"holds .* and matching\.bank_digest is"):
        lab.segment(OTHER, moved)


def test_a_bank_made_otherwise_is_refused(lab, recipe, file, tmp_path):
    deeper = recipe.change({"extract.timesteps": [300], "match.bank": str(file)})
    with pytest.raises(FslabError, match=r"was made with other features: .*make a bank by"):
        lab.segment(OTHER, deeper)
    with pytest.raises(FslabError, match=r"was made with other segments: .*delete this one"):
        lab.bank(PICTURES, recipe.change({"cluster.k": 2}), out=file, progress=False)
    bank = read_bank(file)
    facts = {**facts_of(lab, lab.recipe(recipe)), "clip": "another"}
    Bank(bank.keys, bank.values, bank.pictures, facts).write(tmp_path / "other.safetensors")
    with pytest.raises(FslabError, match="was made with other clip"):
        lab.segment(OTHER, recipe.change({"match.bank": str(tmp_path / "other.safetensors")}))
    with pytest.raises(FslabError, match="bank or the features are not there"):
        match(
            OTHER, Segments(np.zeros(OTHER.size, np.int32)), VOC, ["dog"],
            Matching(bank=str(file), assignment="argmax"), lab.matcher,
        )  # fmt: skip


def test_files_that_are_no_bank_are_refused(file, tmp_path):
    with pytest.raises(FslabError, match="there is no bank"):
        read_bank(tmp_path / "none.safetensors")
    whole, place = file.read_bytes(), tmp_path / "bank.safetensors"
    place.write_bytes(whole[:-9])
    with pytest.raises(FslabError, match="cannot be read as a bank"):
        read_bank(place)
    place.write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(FslabError, match="does not hold what it was written with"):
        read_bank(place)
    arrays = load_file(file)
    save_file(arrays, place)
    with pytest.raises(FslabError, match="is no bank of regions"):
        read_bank(place)
    save_file(arrays, place, metadata={"fslab bank": json.dumps({"pictures": []})})
    with pytest.raises(FslabError, match="cannot be read as a bank"):
        read_bank(place)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bank_nearest": 0}, "bank_nearest is 0"),
        ({"bank_weight": 0.0}, r"bank_weight is 0\.0"),
        ({"bank_digest": "ab"}, "there is no bank"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(FslabError, match=message):
        Matching(**settings)


def test_the_command_makes_a_bank_of_a_folder(run, tiny, tmp_path):
    for number, each in enumerate(PICTURES):
        Image.fromarray(each.pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    out = tmp_path / "a" / "bank.safetensors"
    asked = ("--preset", tiny, "--set", "cluster.k=3", "--method", "freeseg-diff", "--out")
    code, said, told = run("bank", tmp_path, *asked, out)
    assert code == 0, told
    assert "9 regions of 3 pictures" in said
    assert "3.png" in told
    assert len(read_bank(out).pictures) == 3
    code, _, told = run("bank", tmp_path, *asked, tmp_path / "bank.npz")
    assert code != 0
    assert "a bank is a file that ends in .safetensors" in told
