"""The published figures, and ours by the same settings and the same protocol beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fslab import datasets
from fslab.cli.text import aligned
from fslab.datasets import Dataset
from fslab.evaluate import Report, evaluate, write_page
from fslab.files import portable
from fslab.lab import Lab
from fslab.records import FslabError
from fslab.score import Score

METHOD = "freeseg-diff"
PRESET = "sd14"


@dataclass(frozen=True)
class Published:
    """A figure that Corradini et al. (2024) publish for FreeSeg-Diff, and on what.

    figure: in per cent; it is quoted by Couairon et al. (NeurIPS 2024) too, who share authors.
    pictures: how many the split has; released: the metric of the released code, which counts void
    as background on VOC and leaves it out on COCO; standard: the one that other methods report.
    """

    figure: float
    said: str
    folder: str
    split: str
    format: Literal["voc", "coco"]
    pictures: int
    released: str
    standard: str


PUBLISHED = {
    "voc": Published(
        53.3, "VOC 2012 val", "data/VOCdevkit/VOC2012", "val", "voc", 1449,
        "per-image-released", "voc21",
    ),
    "coco": Published(
        31.0, "COCO val2017", "data/coco", "val2017", "coco", 5000,
        "per-image", "coco-object",
    ),
}  # fmt: skip


def reproduce(name: str, folder: str | None, preset: str, limit: int | None, out: Path) -> str:
    """Run the published settings on a data set, and return ours beside the published figure.

    What was done before is gone on from in `out`. Raises FslabError where weights or pictures are
    missing, in one refusal for both.
    """
    if name not in PUBLISHED:
        raise FslabError(
            f"there is no published figure for {name!r} here; there is {' and '.join(PUBLISHED)}"
        )
    published = PUBLISHED[name]
    lab, data = _opened(name, published, folder, preset)
    place = out / f"{name}-{portable(preset.replace('/', '--'))}"
    report = evaluate(lab, data, METHOD, published.released, limit, place)
    page = write_page(report, lab, data, place)
    return f"{_as_text(published, report, data)}\n\nresults, report and page: {page}"


def _opened(
    name: str, published: Published, folder: str | None, preset: str
) -> tuple[Lab, Dataset]:
    """Open weights and data; what is missing of both is said at once, with what mends it."""
    missing = []
    lab = data = None
    try:
        lab = Lab(preset)
    except FslabError as error:
        missing.append(str(error))
    try:
        data = datasets.load(folder or published.folder, published.split, published.format)
    except FslabError as error:
        target = Path(published.folder).parent.parent if name == "voc" else published.folder
        fetched = f"`fslab fetch {name} {target}` fetches {published.said}"
        missing.append(str(error) if folder else f"{error}; {fetched}")
    if lab is None or data is None:
        raise FslabError("; and ".join(missing))
    return lab, data


def _as_text(published: Published, report: Report, data: Dataset) -> str:
    asked, standard = report.score, report.scores.get(published.standard)
    done = f"{asked.images} of {max(len(data), asked.images)}"
    rows = [("protocol", "ours, %", "95 % interval", "published, %")]
    rows.append(
        (f"{published.released}, the released code's", *_row(asked), f"{published.figure:.1f}")
    )
    if standard is not None:
        rows.append((f"{published.standard}, the standard one", *_row(standard), "none"))
    head = f"{METHOD} with {report.preset} on {report.dataset} {report.split}: {done} pictures"
    return "\n".join([head, aligned(rows), *_reservations(published, report)])


def _row(score: Score) -> tuple[str, str]:
    return f"{100 * score.figure:.1f}", score.interval.percent if score.interval else ""


def _reservations(published: Published, report: Report) -> list[str]:
    """Say why these figures do not count as a reproduction, where they do not."""
    why = []
    if report.preset != PRESET:
        why.append(f"the published figure is of {PRESET}, this one of {report.preset}")
    if report.score.images != published.pictures:
        why.append(
            f"it is of {published.pictures:,} pictures of {published.said}, this one of "
            f"{report.score.images} of {report.dataset} {report.split}"
        )
    lines = [f"No reproduction: {'; '.join(why)}."] if why else []
    return [*lines, *(part for part in (report.caveat, report.left_out, report.mixed) if part)]
