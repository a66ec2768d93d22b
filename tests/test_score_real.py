"""The figures again, by plain loops that share no code with the package, on real masks."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import permutations
from math import hypot
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from fslab import score
from fslab.datasets import VOC, read_mask

ROOT = Path(__file__).resolve().parents[1]
MASKS = {
    "mini-VOC": ROOT / "data" / "minivoc" / "SegmentationClass",
    "VOC 2012": ROOT.parent / "shared" / "voc2012_val_masks",
}
COUNT = {"mini-VOC": 8, "VOC 2012": 3}
VOID = 255


@pytest.fixture(scope="module", params=MASKS)
def pairs(request):
    """Triples of name, truth and a guess made of the next mask's shape: moved, and torn."""
    if not MASKS[request.param].is_dir():
        pytest.skip(f"{request.param} masks are not here")
    paths = sorted(MASKS[request.param].glob("*.png"))[: COUNT[request.param]]
    rng = np.random.default_rng(0)
    triples = []
    for path in paths:
        truth = read_mask(path)
        guess = np.roll(np.where(truth == VOID, 0, truth), rng.integers(1, 6, 2), (0, 1))
        guess[:, : truth.shape[1] // 4] = np.unique(truth)[-2]
        guess[: truth.shape[0] // 6] = 20
        triples.append((path.stem, truth, guess.astype(np.uint8)))
    return triples


@pytest.fixture(scope="module")
def images(pairs):
    return score.count_pairs(pairs, VOC.names)


def cells(truth, guess):
    """Count (truth, guess) of the pixels that count."""
    both = Counter(zip(truth.ravel().tolist(), guess.ravel().tolist(), strict=True))
    return {cell: count for cell, count in both.items() if cell[0] != VOID}


def iou_by_class(counted, classes):
    found = {}
    for label in classes:
        hits = counted.get((label, label), 0)
        either = sum(count for cell, count in counted.items() if label in cell)
        if either:
            found[label] = hits / either
    return found


def added(tables):
    total = Counter()
    for table in tables:
        total.update(table)
    return total


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_voc21_voc20_and_per_image(pairs, images):
    tables = [cells(truth, guess) for _, truth, guess in pairs]
    by_class = iou_by_class(added(tables), range(21))
    found = score.summarise("voc21", images)
    assert found.miou == pytest.approx(mean(by_class.values()), abs=1e-12)
    assert {VOC.names[label] for label in by_class} == set(VOC.names) - set(found.absent)

    objects = {cell: count for cell, count in added(tables).items() if cell[0] != 0}
    without = iou_by_class(objects, range(1, 21))
    assert score.summarise("voc20", images).miou == pytest.approx(mean(without.values()), abs=1e-12)

    each = []
    for table in tables:
        present = {label for label, _ in table}
        by_class = iou_by_class(table, range(21))
        each.append(mean(by_class[label] for label in present))
    assert score.summarise("per-image", images).miou == pytest.approx(mean(each), abs=1e-12)


def test_oracle_and_best_overlap(pairs, images):
    tables, best = [], []
    for _, truth, guess in pairs:
        table, named = cells(truth, guess), Counter()
        votes, sizes = defaultdict(Counter), Counter()
        for (label, segment), count in table.items():
            votes[segment][label] += count
            sizes[label] += count
        for (label, segment), count in table.items():
            most = max(votes[segment].values())
            winner = min(each for each, votes_of in votes[segment].items() if votes_of == most)
            named[label, winner] += count
        tables.append(named)
        for label in sizes.keys() - {0}:
            overlaps = [
                votes[segment][label]
                / (sizes[label] + sum(votes[segment].values()) - votes[segment][label])
                for segment in votes
            ]
            best.append(max(overlaps))
    expected = mean(iou_by_class(added(tables), range(21)).values())
    assert score.summarise("oracle", images).miou == pytest.approx(expected, abs=1e-12)
    assert score.summarise("mbo", images).miou == pytest.approx(mean(best), abs=1e-12)


def test_hungarian_is_the_best_of_all_matchings(pairs, images):
    for (_, truth, guess), image in zip(pairs, images, strict=True):
        table = cells(truth, guess)
        labels = sorted({label for label, _ in table})
        segments = sorted({segment for _, segment in table})
        spare = [*segments, *[None] * max(0, len(labels) - len(segments))]
        outcomes = defaultdict(list)
        for chosen in permutations(spare, len(labels)):
            matched = {
                segment: label
                for segment, label in zip(chosen, labels, strict=True)
                if table.get((label, segment))
            }
            named = Counter()
            for (label, segment), count in table.items():
                named[label, matched.get(segment, 0)] += count
            agreed = sum(table[label, segment] for segment, label in matched.items())
            outcomes[agreed].append(dict(named))
        rows, columns = np.nonzero(image.hungarian.counts)
        found = {
            (row, column): image.hungarian.counts[row, column]
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        }
        assert len(outcomes) > 1
        assert found in outcomes[max(outcomes)]


def continued(labels, truth):
    """Give each void pixel the label of the nearest pixel that counts, up to 5 px away."""
    height, width = truth.shape
    reach = [
        (y * y + x * x, y, x) for y in range(-5, 6) for x in range(-5, 6) if 0 < y * y + x * x <= 25
    ]
    reach.sort()
    filled = {}
    for y in range(height):
        for x in range(width):
            if truth[y, x] != VOID:
                filled[y, x] = int(labels[y, x])
                continue
            for _, down, right in reach:
                row, column = y + down, x + right
                if 0 <= row < height and 0 <= column < width and truth[row, column] != VOID:
                    filled[y, x] = int(labels[row, column])
                    break
    return filled


def contour(filled):
    """Return the pixels whose right or lower neighbour has another label."""
    found = set()
    for (y, x), label in filled.items():
        if filled.get((y, x + 1), label) != label or filled.get((y + 1, x), label) != label:
            found.add((y, x))
    return found


def near(one, other, reach):
    span = range(-int(reach), int(reach) + 1)
    offsets = [(y, x) for y in span for x in span if hypot(y, x) <= reach]
    return sum(any((y + down, x + right) in other for down, right in offsets) for y, x in one)


def test_boundaries(pairs, images):
    expected = {"boundary": [], "boundary-relative": []}
    for _, truth, guess in pairs:
        truth_line, guess_line = (contour(continued(each, truth)) for each in (truth, guess))
        assert truth_line
        reaches = {"boundary": 2.0, "boundary-relative": 0.0075 * hypot(*truth.shape)}
        for metric, reach in reaches.items():
            precision = near(guess_line, truth_line, reach) / len(guess_line)
            recall = near(truth_line, guess_line, reach) / len(truth_line)
            both = precision + recall
            expected[metric].append(2 * precision * recall / both if both else 0.0)
    for metric, values in expected.items():
        assert 0 < mean(values) < 1
        assert score.summarise(metric, images).figure == pytest.approx(mean(values), abs=1e-12)
        named = score.score_pairs(pairs, VOC.names, metric.replace("boundary", "boundary-named"))
        assert named.figure == pytest.approx(mean(values), abs=1e-12)


def test_torchmetrics_counts_the_same(pairs, images):
    matrix = MulticlassConfusionMatrix(21, ignore_index=VOID)
    for _, truth, guess in pairs:
        matrix.update(torch.from_numpy(guess), torch.from_numpy(truth))
    total = sum(image.named.counts for image in images)
    np.testing.assert_array_equal(total, matrix.compute().numpy())
