"""Things told apart, scored where the truth tells them apart, beside what knows nothing of them."""

from __future__ import annotations

from typing import Any

from fslab.cli.text import aligned
from fslab.datasets import Dataset, read_things
from fslab.evaluate import score_instances
from fslab.evaluate.instances import colour_edges
from fslab.lab import Lab
from fslab.records import FslabError
from fslab.score import Difference, InstanceScore
from fslab.score.instances import NOTE


def score_preset(
    preset: str,
    backbone: str | None,
    precision: str | None,
    data: Dataset,
    method: str | None,
    settings: dict[str, Any],
) -> str:
    """Return a table of the edges of a network, of it untrained and of colour, pieces and classes.

    method: whose named pixels are parted, the truth's if left out. A backbone in the network's
    place stands without the untrained one. Raises FslabError for fewer than two pictures.
    """
    if len(data) < 2:
        raise FslabError(f"{data.name} has {len(data)} picture; an interval takes two or more")
    text = {} if method else {"captioner": None, "clip": None}
    lab = Lab(preset, backbone, precision=precision, **text)
    pairs = [(sample.picture(), read_things(sample, data.vocabulary)) for sample in data]

    def scored(network: Lab, **how: Any) -> InstanceScore:
        return score_instances(network, pairs, method, data.vocabulary, **how)

    scores = {
        "connected pieces": scored(lab, **{**settings, "by": "pieces"}),
        "one thing a class": scored(lab, **{**settings, "by": "classes"}),
    }
    edges = {f"edges of {lab.backbone.name}": scored(lab, **{"by": "edges", **settings})}
    if backbone is None and not method:
        untrained = Lab(preset, "random", precision=precision, **text)
        name = f"edges of {untrained.backbone.name}"
        edges[name] = scored(untrained, **{"by": "edges", **settings})
    edges["edges of colour"] = scored(lab, **{"by": "edges", **settings}, strength=colour_edges)
    things = sum(truth.count for _, truth in pairs)
    whose = f"those of {method}" if method else "the truth's"
    head = f"{data.name} {data.split}, {len(data)} pictures, {things} things; classes: {whose}"
    return f"{head}\n{NOTE}\nin %, 95 % interval\n{_table(edges | scores)}"


def _table(scores: dict[str, InstanceScore]) -> str:
    first = next(iter(scores.values()))
    rows = [["things by", "PQ", "SQ", "RQ", "PQ of the first row above it"]]
    for name, score in scores.items():
        gain = "" if score is first else _said(first.above(score))
        parts = [f"{100 * score.figure(each):.1f}" for each in ("sq", "rq")]
        figure = f"{100 * score.figure():.1f} ({score.interval().percent})"
        rows.append([name, figure, *parts, gain])
    return aligned(rows)


def _said(gain: Difference) -> str:
    return f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
