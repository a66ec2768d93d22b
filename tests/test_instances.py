"""Things told apart: the touching scenes, VOC's truth of things, panoptic quality by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fslab.datasets import VOC, load, read_things, write_mask
from fslab.mini.touching import LEAST, touching, write_touching
from fslab.records import WIDE_VOID, FslabError, Instances
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
