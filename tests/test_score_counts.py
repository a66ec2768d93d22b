"""A metric's own counts: what may be returned, how they are kept, and what a metric must say."""

from unittest.mock import patch

import numpy as np
import pytest

from fslab import score
from fslab.records import FslabError, Segments
from fslab.score import METRICS, Count, ImageScore, Score, Terms, metric, score_image

NAMES = ("background", "dog", "cat")
TRUTH = np.array([[0, 1, 1, 255], [0, 2, 2, 255]], np.uint8)
WORDS = {"note": "a note", "background": "a class"}


@pytest.fixture(autouse=True)
def no_trace():
    with patch.dict(METRICS._parts):
        yield


def sums(per_image, part):
    table = np.array([image.counts(part) for image in per_image])
    return Terms(("right",), table[:, :1], table[:, 1:])


def right(truth, labels, names):
    return (truth == labels).sum() / 3, truth.size


def counted(function, **given):
    return score_image(TRUTH, NAMES, counts=[Count("own", "guess", function)], **given)


def test_counts_are_kept_to_the_last_bit():
    image = counted(right, guess=TRUTH)
    data = image.to_dict()
    assert data["own"] == {"own": [8 / 3, 8.0]}
    again = ImageScore.from_dict(data, NAMES)
    assert np.array_equal(again.counts("own"), image.counts("own"))
    assert again.to_dict() == data
    assert "own" not in score_image(TRUTH, NAMES, TRUTH).to_dict()


def test_labels_that_are_not_there_are_not_counted():
    assert "own" not in counted(right, segments=Segments(np.zeros((2, 4), int))).parts
    seen = []
    count = Count("own", "segments", lambda truth, labels, names: seen.append((labels, names)) or 1)
    score_image(TRUTH, NAMES, TRUTH, Segments(np.ones((2, 4), int) * 0), counts=[count])
    assert seen[0][0].dtype == np.int32
    assert seen[0][1] == NAMES


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "give finite numbers"), ("many", "returned str; give numbers"),
        ([1, float("nan")], "give finite numbers"), ([], "one at least"),
        ([[1], [1, 2]], "returned list; give numbers"),
    ],
)  # fmt: skip
def test_what_are_no_numbers_is_refused_by_the_function(found, said):
    def wrong(truth, labels, names):
        return found

    with pytest.raises(FslabError, match=rf"wrong, which counts for the metric 'own', .*{said}"):
        counted(wrong, guess=TRUTH)


def test_a_function_of_other_arguments_is_refused():
    with pytest.raises(FslabError, match="cannot stand here"):
        counted(lambda truth: 1, guess=TRUTH)


def test_what_was_counted_elsewhere_has_no_such_figure():
    metric("own", needs="guess", count=right, **WORDS)(sums)
    plain = [score_image(TRUTH, NAMES, TRUTH)] * 2
    assert "own" not in score.applicable(plain)
    with pytest.raises(FslabError, match="metric 'own' needs guess of every image; 2 of 2"):
        score.summarise("own", plain)
    pairs = [("a", TRUTH, np.where(TRUTH == 255, 0, TRUTH)), ("b", TRUTH, TRUTH % 255)]
    found = score.summarise("own", score.count_pairs(pairs, NAMES, "own"), draws=50)
    assert found.figure == pytest.approx((6 + 6) / 3 / 16)
    both = [score.count_pairs(pairs, NAMES, "own")] * 2
    assert score.paired_bootstrap("own", *both, draws=20).value == 0
    other = score.count_pairs([("a", TRUTH * 0, TRUTH * 0), pairs[1]], NAMES, "own")
    with pytest.raises(FslabError, match="image 0 differs in truth"):
        score.paired_bootstrap("own", both[0], other)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"needs": "names", "part": "named"}, "it must be 'guess' or 'segments'"),
        ({"needs": "guess"}, "reads the part ''; it must be one of named, .*or count="),
        ({"needs": "guess", "part": "pixels"}, "reads the part 'pixels'"),
        ({"needs": "guess", "part": "named", "count": right}, "leave part= out"),
    ],
)
def test_a_metric_says_what_it_reads(facts, said):
    with pytest.raises(FslabError, match=said):
        METRICS.add("own", sums, **facts, **WORDS)


def test_a_metric_that_counts_has_a_name_of_its_own():
    with pytest.raises(FslabError, match="give it another name"):
        METRICS.add("named", sums, needs="guess", count=right, **WORDS)


def test_a_score_is_of_a_metric_and_finite():
    with pytest.raises(FslabError, match="there is no metric 'miou'"):
        Score("miou", 0.5, {}, 1, "")
    with pytest.raises(FslabError, match="figure of 'voc21' is nan; it must be finite"):
        Score("voc21", float("nan"), {}, 1, "")
    with pytest.raises(FslabError, match="images is 0; it must be"):
        Score("voc21", 0.5, {}, 0, "")


def test_no_contour_figure_is_a_mean_iou():
    image = score_image(TRUTH, NAMES, TRUTH % 255, Segments(np.repeat([[0, 1]], 2, 0).repeat(2, 1)))
    for name, found in score.summarise_all([image], 0).items():
        data = found.to_dict()
        assert data["figure"] == found.figure
        if "boundary" in name:
            assert data["miou"] is None
            assert data["figure_is"] == "mean F of contours"
            assert set(data["sides"]) == {"precision", "recall"}
            with pytest.raises(FslabError, match="no mean IoU but a mean F of contours"):
                _ = found.miou
        else:
            assert data["miou"] == found.miou == found.figure
