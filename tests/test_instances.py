"""Things told apart: the touching scenes, VOC's truth of things, panoptic quality by hand."""

from __future__ import annotations

import numpy as np
import pytest
import transformers_tiny
from conftest import noise_picture
from PIL import Image

import fslab
from fslab.cli.instances import score_preset
from fslab.cluster import edges, part
from fslab.cluster.parting import edges_of
from fslab.datasets import VOC, load, read_things, write_mask
from fslab.evaluate import score_instances
from fslab.evaluate.instances import colour_edges, filled
from fslab.lab import Lab
from fslab.mini.touching import LEAST, touching, truth_of, write_touching
from fslab.records import WIDE_VOID, Features, FslabError, Instances, LabelMap, Parting, Picture
from fslab.score import InstanceScore, count_instances

NAMES = ("background", "cow", "dog")


def things(rows, classes, scores=()):
    return Instances(np.array(rows), tuple(classes), NAMES, scores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "touching"
    write_touching(out, 5, seed=4)
    return out


# --- the scenes


def test_two_of_one_class_touch_and_each_is_seen():
    for index in range(6):
        found = touching(4, index)
        first, second = (found.things == number for number in (1, 2))
        assert len(np.unique(found.labels[first | second])) == 1
        assert min(first.sum(), second.sum()) >= LEAST
        beside = np.zeros_like(first)
        beside[1:] |= first[:-1]
        beside[:-1] |= first[1:]
        beside[:, 1:] |= first[:, :-1]
        beside[:, :-1] |= first[:, 1:]
        assert (beside & second).any()
        others = set(np.unique(found.labels[found.things > 2]))
        assert not others & {0, found.labels[first][0]}
    assert (touching(4, 5).scene.pixels == found.scene.pixels).all()


def test_scenes_are_read_as_voc_s_are(folder):
    dataset = load(folder)
    for index, sample in enumerate(dataset):
        drawn, found = touching(4, index), read_things(sample, dataset.vocabulary)
        assert (sample.picture().pixels == drawn.scene.pixels).all()
        kept = found.things != WIDE_VOID
        assert (found.things[kept] == drawn.things[kept]).all()
        assert (kept == (sample.truth() != 255)).all()
        assert (found.labels.labels[kept] == drawn.labels[kept]).all()
        known = truth_of(drawn)
        assert (known.things == found.things).all()
        assert (known.classes, known.names) == (found.classes, found.names)
        assert 0.5 < kept.mean() < 1


def test_truths_that_disagree_are_refused(tmp_path):
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("a\n")
    Image.new("RGB", (3, 2)).save(tmp_path / "JPEGImages/a.png")
    classes, objects = (tmp_path / f"Segmentation{x}/a.png" for x in ("Class", "Object"))
    write_mask(np.array([[0, 9, 9], [255, 9, 10]], np.uint8), classes)
    (sample,) = load(tmp_path)
    with pytest.raises(FslabError, match="SegmentationObject, which VOC has"):
        read_things(sample)
    write_mask(np.array([[0, 1, 3], [2, 1, 255]], np.uint8), objects)
    assert read_things(sample).things.tolist() == [[0, 1, 2], [WIDE_VOID, 1, WIDE_VOID]]
    assert read_things(sample).classes == (9, 9)
    for wrong in ([[0, 1, 3], [2, 1, 1]], [[0, 1, 0], [2, 1, 2]], [[4, 1, 1], [2, 1, 2]]):
        write_mask(np.array(wrong, np.uint8), objects)
        with pytest.raises(FslabError, match="disagree: object"):
            read_things(sample)
    write_mask(np.zeros((2, 2), np.uint8), objects)
    with pytest.raises(FslabError, match="is 2 x 2 pixels"):
        read_things(sample)


# --- the record


def test_things_show_themselves_and_their_classes():
    found = things([[1, 1, 0], [2, WIDE_VOID, 3]], (1, 1, 2), (0.5, 0.5, 0.25))
    assert repr(found) == "Instances(2 x 3: 2 cow, 1 dog)"
    assert "0.25" in found._repr_html_()
    assert "16.7%" in found._repr_html_()
    assert found.labels.labels.tolist() == [[1, 1, 0], [1, 255, 2]]
    assert found.masks().sum((1, 2)).tolist() == [2, 1, 1]
    assert repr(things([[0]], ())) == "Instances(1 x 1: none)"


def test_what_are_no_things_is_refused():
    with pytest.raises(FslabError, match="numbered 1 to 2, each with pixels"):
        things([[1, 3]], (1, 1))
    with pytest.raises(FslabError, match=r"classes \(3,\); each is 1 to 2"):
        things([[1]], (3,))
    with pytest.raises(FslabError, match="1 scores of 2 things"):
        things([[1, 2]], (1, 1), (0.5,))
    with pytest.raises(FslabError, match=r"give whole numbers \[H, W\]"):
        things([[0.5]], ())


# --- panoptic quality


TRUTH = things([[1] * 8 + [2] * 8, [3] * 8 + [0] * 8], (1, 1, 2))


def test_panoptic_quality_by_hand():
    assert InstanceScore.of([(TRUTH, TRUTH)]).figure() == 1
    one_cow = things([[1] * 16, [2] * 6 + [0] * 10], (1, 2))  # IoU 0.5 is not above it
    score = InstanceScore.of([(TRUTH, one_cow)])
    assert score.counts[0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [0.75, 1, 0, 0]]
    assert score.by_class() == {"cow": 0, "dog": 0.75}
    assert score.figure() == 0.375
    assert score.figure("rq") == 0.5
    assert score.figure("sq") == 0.75  # no cow is found, so there is no mean of hers
    parted = things([[1] * 6 + [2] * 10, [0] * 16], (1, 1))
    counts = count_instances(TRUTH, parted)
    assert counts[1] == pytest.approx([6 / 8 + 8 / 10, 2, 0, 0])
    assert counts[2].tolist() == [0, 0, 0, 1]
    both = InstanceScore(NAMES, (score.counts[0], counts))
    assert both.by_class()["cow"] == pytest.approx((6 / 8 + 8 / 10) / (2 + 3 / 2))
    assert both.by_class()["dog"] == pytest.approx(0.75 / 1.5)
    with_both = InstanceScore(NAMES, (counts, counts))
    assert with_both.above(InstanceScore(NAMES, (score.counts[0],) * 2)).value == pytest.approx(
        (6 / 8 + 8 / 10) / 4 + 0 - 0.375
    )


def test_a_thing_of_another_class_is_not_the_one():
    guess = things([[1] * 8 + [2] * 8, [3] * 8 + [0] * 8], (1, 2, 2))
    assert count_instances(TRUTH, guess)[:, 1:].tolist() == [[0, 0, 0], [1, 0, 1], [1, 1, 0]]


def test_void_counts_neither_way():
    truth = things([[1, 1, WIDE_VOID, WIDE_VOID, 0, 0]], (1,))
    on_void = things([[1, 1, 1, 2, 0, 0]], (1, 1))
    assert count_instances(truth, on_void)[1].tolist() == [1, 1, 0, 0]
    half = things([[0, 0, 0, 1, 1, 0]], (1,))  # of which half is void: it counts
    assert count_instances(truth, half)[1].tolist() == [0, 0, 1, 1]
    void_guess = things([[1, WIDE_VOID, 0, 0, 0, 0]], (1,))
    assert count_instances(truth, void_guess)[1].tolist() == [0, 0, 1, 1]


def test_it_is_what_the_definition_gives_on_random_things():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, guess = (random_things(rng) for _ in range(2))
        counts = count_instances(truth, guess)
        void = truth.things == WIDE_VOID
        for label in (1, 2):
            mine = [
                m & ~void for m, c in zip(guess.masks(), guess.classes, strict=True) if c == label
            ]
            whole = [m for m, c in zip(guess.masks(), guess.classes, strict=True) if c == label]
            true = [m for m, c in zip(truth.masks(), truth.classes, strict=True) if c == label]
            ious = [[(a & b).sum() / (a | b).sum() for b in mine] for a in true]
            found = sum(max(row, default=0) > 0.5 for row in ious)
            best = [max((row[n] for row in ious), default=0) for n in range(len(mine))]
            extra = sum(
                top <= 0.5 and (full & void).sum() * 2 <= full.sum()
                for top, full in zip(best, whole, strict=True)
            )
            total = sum(max(row) for row in ious if max(row, default=0) > 0.5)
            wanted = [total, found, extra, len(true) - found]
            assert counts[label] == pytest.approx(wanted)


def random_things(rng):
    """Stripes of some things, a little void among them."""
    numbers = np.repeat(rng.integers(0, 5, 12), 4)
    there = np.unique(numbers[numbers > 0])
    place = np.zeros(5, int)
    place[there] = np.arange(1, len(there) + 1)
    rows = place[numbers]
    rows[rng.integers(0, 44) :][:4] = WIDE_VOID
    kept = np.unique(rows[(rows > 0) & (rows < WIDE_VOID)])
    again = {old: new for new, old in enumerate(kept.tolist(), 1)}
    rows = np.array([again.get(n, n) for n in rows.tolist()])
    return things([rows], tuple(rng.integers(1, 3, len(kept)).tolist()))


def test_scores_of_two_vocabularies_or_sizes_are_refused():
    with pytest.raises(FslabError, match="one picture and one vocabulary"):
        count_instances(TRUTH, things([[0]], ()))
    other = Instances(TRUTH.things, TRUTH.classes, VOC.names)
    with pytest.raises(FslabError, match="two vocabularies"):
        InstanceScore.of([(TRUTH, TRUTH), (other, other)])
    with pytest.raises(FslabError, match="of one picture at least"):
        InstanceScore.of([])
    with pytest.raises(FslabError, match="it must be one of pq, sq, rq"):
        InstanceScore.of([(TRUTH, TRUTH)]).figure("ap")
    with pytest.raises(FslabError, match="same pictures"):
        InstanceScore.of([(TRUTH, TRUTH)]).above(InstanceScore.of([(TRUTH, TRUTH)] * 2))


# --- edges, and parting along them


def looking(kinds, apart=1e-3):
    """Return self-attention [N, h, w] of cells that look at those of their own kind alone."""
    flat = np.asarray(kinds).ravel()
    looks = (flat[:, None] == flat[None]) + apart
    looks = looks / looks.sum(1, keepdims=True)
    maps = {"x.probs": looks.T.reshape(-1, *np.shape(kinds)).astype(np.float32)}
    return Features(maps, (16, 16))


def test_edges_by_hand():
    p = np.array([[[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]], np.float32)

    def apart(a, b):
        return ((b - a) * (np.log(b) - np.log(a))).sum() / 2

    left, middle, right = p[0]
    wanted = [apart(left, middle), apart(left, right), apart(middle, right)]
    assert edges_of(p)[0] == pytest.approx(wanted)
    assert edges_of(p.transpose(1, 0, 2))[:, 0] == pytest.approx(wanted)
    assert edges_of(p[:, ::-1])[0] == pytest.approx(wanted[::-1])


def test_edges_are_where_opposite_neighbours_look_elsewhere():
    found = edges(looking(np.repeat([[0, 0, 1, 1]], 4, 0)))
    assert found.shape == (4, 4)
    assert found[:, 1:3].min() > 1  # cells on either side of the border
    assert np.abs(found[:, [0, 3]]).max() < 1e-5
    assert np.abs(edges(looking(np.zeros((3, 5))))).max() < 1e-6
    with pytest.raises(FslabError, match="needs self-attention maps"):
        edges(Features({"x": np.ones((3, 4, 4), np.float32)}, (16, 16)))


def label_map(rows, **more):
    return LabelMap(np.array(rows, np.uint8), NAMES, **more)


def test_a_region_is_parted_along_the_edge_and_nowhere_else():
    strength = edges(looking(np.repeat([[0, 0, 1, 1]], 4, 0)))
    labels = label_map(np.full((16, 16), 1), scores={"cow": 0.5})
    found = part(labels, strength, Parting(threshold=0.6))
    assert found.classes == (1, 1)
    assert found.scores == (0.5, 0.5)
    assert (found.things[:, :8] == 1).all()
    assert (found.things[:, 8:] == 2).all()
    again = part(labels, strength[:, ::-1], Parting(threshold=0.6))
    assert (again.things == found.things).all()
    assert part(labels, strength, Parting(threshold=1.0)).count == 1
    assert part(labels, strength, Parting(threshold=0.6, least=0.6)).count == 1
    assert part(labels, strength * 0, Parting(threshold=0.6)).count == 1
    assert part(labels, strength, Parting(by="classes")).count == 1


def test_pieces_and_classes_ask_for_no_edges():
    labels = label_map([[1, 0, 1, 2], [1, 0, 0, 2], [255, 0, 1, 2]])
    pieces = part(labels, None, Parting(by="pieces", least=0))
    assert pieces.things.tolist() == [[1, 0, 2, 4], [1, 0, 0, 4], [WIDE_VOID, 0, 3, 4]]
    assert pieces.classes == (1, 1, 1, 2)
    classes = part(labels, None, Parting(by="classes"))
    assert classes.things.tolist() == [[1, 0, 1, 2], [1, 0, 0, 2], [WIDE_VOID, 0, 1, 2]]
    large = part(labels, None, Parting(by="pieces", least=2 / 12))
    assert large.things[0].tolist() == [1, 0, 1, 2]  # the small pieces go to the nearest
    assert (large.labels.labels == labels.labels).all()
    with pytest.raises(FslabError, match="needs their strength"):
        part(labels, None, Parting())


@pytest.mark.parametrize(
    "rows", [[[0]], [[1]], [[255]], [[0, 1, 0]], [[1], [0], [1]], [[0, 0, 0, 0, 0, 2, 255]]]
)
def test_every_pixel_of_a_class_is_of_one_thing(rows):
    labels = label_map(rows)
    for how in (Parting(threshold=0.0, least=1.0), Parting(threshold=0.5, least=0.0)):
        found = part(labels, np.arange(6, dtype=np.float32).reshape(2, 3), how)
        assert (found.labels.labels == labels.labels).all()


def test_settings_out_of_bounds_are_refused():
    for wrong in (
        {"threshold": 1.1},
        {"least": -0.1},
        {"layers": ()},
        {"by": "x"},
        {"timestep": -1},
    ):
        with pytest.raises(FslabError):
            Parting(**wrong)


# --- in the lab


@pytest.fixture(scope="module")
def lab(tiny, tmp_path_factory):
    return Lab(tiny, store=tmp_path_factory.mktemp("things"), captioner=None, clip=None)


def test_a_lab_parts_by_the_layers_that_it_reads(lab):
    picture = noise_picture(40, 56)
    labels = label_map(np.arange(40 * 56).reshape(40, 56) % 56 > 20)
    read = lab.extract(picture, "*.attn1.probs", 0)
    strength = lab.edges(picture, layers="*.attn1.probs", timestep=0)
    assert (strength == edges(read)).all()
    found = lab.instances(picture, labels, layers="*.attn1.probs", timestep=0, threshold=0.5)
    by_hand = part(labels, strength, Parting(threshold=0.5))
    assert (found.things == by_hand.things).all()
    with lab.edit({"mid_block": fslab.scale(0.0)}):
        assert not np.array_equal(lab.edges(picture, layers="*.attn1.probs", timestep=0), strength)
    assert (lab.edges(picture, layers="*.attn1.probs", timestep=0) == strength).all()
    assert lab.instances(picture, label_map(np.zeros((40, 56)))).count == 0


def test_what_cannot_be_parted_is_refused(lab):
    picture = noise_picture(40, 56)
    with pytest.raises(FslabError, match=r"labels are 2 x 2 pixels .* both are of one picture"):
        lab.instances(picture, label_map(np.ones((2, 2))))
    with pytest.raises(FslabError, match=r"give an fslab\.LabelMap"):
        lab.instances(picture, np.ones((40, 56)))
    with pytest.raises(FslabError, match="parting has no setting 'smallest'"):
        lab.instances(picture, label_map(np.ones((40, 56))), smallest=3)
    with pytest.raises(FslabError, match="needs self-attention maps"):
        lab.edges(picture, layers="*attn1.to_q")
    colours = Lab("mini", "rgb", captioner=None, clip=None)
    with pytest.raises(FslabError, match=r"shows no self-attention, by which instances\.by"):
        colours.edges(picture)
    assert colours.instances(picture, label_map(np.ones((40, 56))), by="pieces").count == 1


def test_transformers_are_parted_by_the_picture_s_tokens_alone(tmp_path):
    network = Lab(transformers_tiny.save(tmp_path / "sd3", "sd3"), captioner=None, clip=None)
    picture = noise_picture(64, 64)
    found = network.edges(picture)
    assert min(found.shape) > 1
    assert np.isfinite(found).all()
    assert found.max() > 0


def test_colour_edges_are_where_colours_change():
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[:, 10:, 1] = 200
    found = colour_edges(Picture(pixels))
    assert found.shape == (12, 20)
    assert (found.argmax(1) == 9).all() | (found.argmax(1) == 10).all()
    assert np.allclose(found[:, 9], found[:, 10], rtol=1e-3)
    assert found[:, :2].max() < 0.01 * found.max()


# --- the score of a method, and the command


def test_the_floors_are_scored_beside_the_edges(folder, lab, tiny):
    data = load(folder).limit(3)
    table = score_preset(str(tiny), None, None, data, None, {"layers": ["*.attn1.probs"]})
    assert "3 pictures, 6 things; classes: the truth's" in table
    assert [line.partition("  ")[0] for line in table.splitlines()[4:]] == [
        "edges of tiny0", "edges of tiny0 (random weights)", "edges of colour", "connected pieces", "one thing a class",
    ]  # fmt: skip
    pieces, classes = (score_instances(lab, data, by=by) for by in ("pieces", "classes"))
    assert [each[:, 3].sum() >= 1 for each in classes.counts] == [True] * 3  # a twin is missed
    assert (np.stack(pieces.counts)[:, :, 0] >= 0).all()
    whole = read_things(data.samples[0])
    named = filled(whole)
    kept = whole.things != WIDE_VOID
    assert (named.labels[kept] == whole.labels.labels[kept]).all()
    assert named.labels.max() < 21
    with pytest.raises(FslabError, match="an interval takes two or more"):
        score_preset("mini", None, None, data.limit(1), None, {})
