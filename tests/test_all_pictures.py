"""Features of many pictures: one after the other, named refusals, and as a data set of torch."""

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import noise_picture, write_dataset
from test_batches import entries, near
from torch.utils.data import DataLoader, Dataset

import fslab
from fslab import FeatureSet, datasets
from fslab.backbones import Diffusion
from fslab.lab import Lab
from fslab.records import FslabError, FslabWarning

LAYERS = ("down_blocks.1", "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q")


@pytest.fixture
def passes(monkeypatch):
    """How many rows each pass through a network had."""
    plain, rows = Diffusion._pass, []

    def counted(self, given, *more, **named):
        rows.append(len(given))
        return plain(self, given, *more, **named)

    monkeypatch.setattr(Diffusion, "_pass", counted)
    return rows


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), 4)


def pictures(count=4):
    return [noise_picture(64, 64 + 32 * (number % 2), seed=number) for number in range(count)]


def same(found, expected):
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def kept(store):
    """What a store holds but for digests of files, which are filed once a file is old enough."""
    return {key: each for key, each in entries(store).items() if "sha256" not in each}


def test_each_picture_has_the_bits_and_the_keys_of_extract(tiny, tmp_path):
    one, every = (Lab(tiny, store=tmp_path / name) for name in ("one", "all"))
    wanted = {"layers": LAYERS, "timesteps": (0, 50), "draws": 2}
    expected = [one.extract(picture, **wanted) for picture in pictures()]
    found = list(every.extract_all(iter(pictures()), batch=1, **wanted))
    for features, plain in zip(found, expected, strict=True):
        same(features, plain)
    assert [each.name for each in found] == [each.name for each in expected]
    assert kept(tmp_path / "all") == kept(tmp_path / "one")


def test_several_pass_at_once_and_stay_in_order(tiny, tmp_path, passes):
    found = list(Lab(tiny, store=tmp_path / "a").extract_all(pictures(), LAYERS, batch=4))
    assert passes == [2, 2]  # of each of two sizes
    alone = Lab(tiny, store=tmp_path / "b")
    for features, picture in zip(found, pictures(), strict=True):
        near(features, alone.extract(picture, LAYERS))


def test_words_join_the_layers(tiny):
    lab = Lab(tiny)
    wanted = {"words": ["dog"], "attention": "candidates"}
    (found,) = lab.extract_all(pictures(1), LAYERS, **wanted)
    same(found, lab.extract(pictures(1)[0], LAYERS, **wanted))
    assert len(found) == 3
    with pytest.raises(FslabError, match="attention to words needs a list of them"):
        lab.extract_all(pictures(1), LAYERS, attention="candidates")
    with pytest.raises(FslabError, match=r"extract_many takes none; .*extract_all"):
        lab.extract_many(pictures(1), LAYERS, attention="candidates")


def test_what_was_interrupted_goes_on_where_it_was(tiny, passes):
    lab = Lab(tiny)
    going = lab.extract_all(pictures(), LAYERS, batch=1)
    next(going)
    next(going)
    going.close()
    assert len(passes) == 2
    assert len(list(Lab(tiny).extract_all(pictures(), LAYERS, batch=1))) == 4
    assert len(passes) == 4


def test_a_generator_is_asked_a_little_ahead_and_left_as_it_is(tiny):
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield noise_picture(64, 64, seed=len(asked))

    going = Lab(tiny).extract_all(endless(), LAYERS, batch=2)
    next(going)
    going.close()
    assert 2 <= len(asked) <= 8


def test_a_bad_picture_is_named_and_the_others_go_on(tiny, root):
    bad = root.parent / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    found, given = [], [pictures()[0], bad, pictures()[1], pictures()[2]]
    going = Lab(tiny).extract_all(given, LAYERS, batch=2)
    with (
        pytest.warns(FslabWarning, match=r"bad\.png' is"),
        pytest.raises(FslabError, match=r"^1 of 4 pictures were left out: .*bad\.png'"),
    ):
        found.extend(going)
    assert [each.size for each in found] == [(64, 64), (64, 96), (64, 64)]


def test_one_picture_alone_is_refused_by_its_own_sentence(tiny, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    with (
        pytest.warns(FslabWarning),
        pytest.raises(FslabError, match=r"^'.*bad\.png' is empty"),
    ):
        list(Lab(tiny).extract_all(tmp_path, LAYERS))


def test_what_fits_none_of_the_first_ends_the_work(tiny, monkeypatch):
    def fails(self, *given, **named):
        raise FslabError("no such pass")

    monkeypatch.setattr(Diffusion, "run", fails)
    with (
        pytest.warns(FslabWarning),
        pytest.raises(FslabError, match=r"^3 of 3 pictures were left out"),
    ):
        list(Lab(tiny).extract_all(pictures() * 5, LAYERS, batch=1))


def test_a_folder_stands_for_its_pictures(tiny, root):
    folder = root / "JPEGImages"
    (folder / "notes.txt").write_text("none")
    with pytest.warns(FslabWarning, match=r"4 pictures; 1 left: 'notes.txt'"):
        found = list(Lab(tiny).extract_all(folder, LAYERS))
    (folder / "notes.txt").unlink()
    assert [each.name for each in found] == [f"noise_{number}" for number in range(4)]
    data = datasets.voc(root)
    for features, plain in zip(Lab(tiny).extract_all(data, LAYERS), found, strict=True):
        same(features, plain)


@pytest.mark.parametrize(
    ("given", "message"),
    [(pictures(1)[0], "pictures are one .*Picture; give a list"), ("a.png", "pictures are one str"),
     ("nowhere", "'nowhere' is not a folder"), (3, "pictures are int")],
)  # fmt: skip
def test_refusals_come_before_any_work(tiny, given, message):
    with pytest.raises(FslabError, match=message):
        Lab(tiny).extract_all(given)


def test_a_folder_without_pictures_is_refused(tiny, tmp_path):
    with pytest.raises(FslabError, match="holds no pictures"):
        Lab(tiny).extract_all(tmp_path)


def test_edits_stay_as_they_were_when_it_began(tiny):
    lab, picture = Lab(tiny), pictures(1)[0]
    with lab.edit({"down_blocks.0": fslab.zero}):
        going = lab.extract_all([picture], "down_blocks.1")
        edited = lab.extract(picture, "down_blocks.1")
    (found,) = going
    same(found, edited)
    assert not np.array_equal(
        found["down_blocks.1"], lab.extract(picture, "down_blocks.1")["down_blocks.1"]
    )


def test_a_bar_is_shown_where_somebody_looks(tiny, capsys, monkeypatch):
    def shown(**named):
        list(Lab(tiny).extract_all(pictures(2), LAYERS, **named))
        return capsys.readouterr().err

    assert shown() == ""
    assert "2/2" in shown(progress=True)
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert "2/2" in shown()
    assert shown(progress=False) == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delitem(sys.modules, "IPython")
    assert "2/2" in shown()


# --- as a data set of torch


def test_an_item_is_a_picture_s_features(tiny):
    lab = Lab(tiny)
    found = FeatureSet(lab, pictures(), LAYERS)
    assert isinstance(found, Dataset)
    assert len(found) == 4
    item = found[-1]
    assert set(item) == {"name", "features"}
    expected = lab.extract(pictures()[-1], LAYERS)
    assert item["name"] == expected.name
    for layer, value in expected.items():
        assert item["features"][layer].dtype == torch.float32
        assert np.array_equal(item["features"][layer].numpy(), value)
    with pytest.raises(IndexError):
        found[4]


def test_labels_are_the_truth_or_a_method_s(tiny, root):
    lab, data = Lab(tiny), datasets.voc(root)
    item = FeatureSet(lab, data, LAYERS, labels="truth")[1]
    assert item["labels"].dtype == torch.int64
    assert np.array_equal(item["labels"].numpy(), data.samples[1].truth())
    assert item["name"] == "noise_1"
    made = FeatureSet(lab, data, LAYERS, labels="freeseg-diff")[1]["labels"]
    expected = lab.segment(data.samples[1].picture(), "freeseg-diff").labels
    assert np.array_equal(made.numpy(), expected.labels)


def test_workers_read_what_was_computed_and_nothing_else(tiny, root, tmp_path, passes):
    lab = Lab(tiny, store=tmp_path / "store")
    found = FeatureSet(lab, datasets.voc(root), LAYERS, labels="truth", squash=True)
    found.compute()
    assert len(passes) == 4
    alone = [found[place] for place in range(4)]
    assert len(passes) == 4
    for workers in (0, 2):
        loader = DataLoader(found, batch_size=2, num_workers=workers, collate_fn=list)
        items = [item for batch in loader for item in batch]
        assert [item["name"] for item in items] == [item["name"] for item in alone]
        for item, plain in zip(items, alone, strict=True):
            assert all(
                torch.equal(item["features"][layer], plain["features"][layer]) for layer in LAYERS
            )
            assert torch.equal(item["labels"], plain["labels"])


def test_pictures_of_one_size_are_collated(tiny):
    loader = DataLoader(FeatureSet(Lab(tiny), pictures(), LAYERS, squash=True), batch_size=4)
    (batch,) = loader
    assert batch["features"][LAYERS[0]].shape[0] == 4


def test_it_pickles_as_what_opens_it_again(tiny, root, passes):
    found = FeatureSet(Lab(tiny), datasets.voc(root), LAYERS, labels="truth", batch=2)
    found.compute()
    counted = len(passes)
    again = pickle.loads(pickle.dumps(found))
    for place in range(4):
        first, second = found[place], again[place]
        assert torch.equal(first["labels"], second["labels"])
        assert all(
            torch.equal(first["features"][each], second["features"][each]) for each in LAYERS
        )
    assert len(passes) == counted  # what passed together is found again


def test_what_is_no_data_set_is_refused(tiny, root, tmp_path):
    lab = Lab(tiny)
    with pytest.raises(FslabError, match="which has no length; give a list"):
        FeatureSet(lab, iter(pictures()))
    with pytest.raises(FslabError, match=r"labels are to be the truth, and .*Picture has none"):
        FeatureSet(lab, pictures(), labels="truth")
    with pytest.raises(FslabError, match="labels are to be the truth, and noise_0 has none"):
        FeatureSet(lab, datasets.folder(root / "JPEGImages"), labels="truth")
    with pytest.raises(FslabError, match="no method"):
        FeatureSet(lab, pictures(), labels="nonsense")
    with (
        lab.edit({"down_blocks.0": fslab.zero}),
        pytest.raises(FslabError, match=r"leave lab\.edit"),
    ):
        FeatureSet(lab, pictures())
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    with pytest.raises(FslabError, match="is empty"):
        FeatureSet(lab, [bad])[0]
