"""What a picture, its features and its masks look like: figures over pixels and cells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast, get_args

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL.Image import Image

from fslab.datasets import PictureLike, read
from fslab.datasets.places import Url
from fslab.plots.colours import class_colours, grey, segment_colours
from fslab.plots.draw import check_size, colours_and_share, name_of
from fslab.plots.panels import COLUMNS, Panel, compose, stretched
from fslab.plots.together import colours_together
from fslab.records import (
    Features,
    FslabError,
    LabelMap,
    Picture,
    Point,
    Points,
    Segments,
    check_kind,
    check_numbers,
    points_of,
)
from fslab.vectors import unit

Joined = Literal["mean", "highest"]
"""What several cosines of a cell count as."""

Stage = PictureLike | Segments | LabelMap
"""What is drawn of a picture: itself, what a stage made of it, or truth as u8 [H, W]."""


def show(
    picture: PictureLike,
    *stages: Stage,
    titles: Sequence[str] = (),
    title: str = "",
    names: Sequence[str] = (),
    colours: np.ndarray | None = None,
) -> go.Figure:
    """Show a picture and its stages side by side, four a row.

    picture: as `fslab.read` takes it. stages: pictures likewise, segments, label maps, or truth as
    u8 [H, W] (255 is void). titles: one a panel, the picture's own first. names: what labels of the
    truth are called; a label map among the stages brings them along. colours: u8 [K, 3] in place of
    VOC's.
    Raises FslabError for a stage of another kind, or of another size than the picture.
    """
    picture = read(picture)
    known = [stage.names for stage in stages if isinstance(stage, LabelMap)]
    names = names or (known[0] if known else ())
    panels = [Panel("picture", picture.pixels)]
    panels += [stage_panel(picture, stage, names, colours) for stage in stages]
    if titles and len(titles) != len(panels):
        raise FslabError(f"{len(titles)} titles for {len(panels)} panels; the picture has one too")
    panels = (
        [replace(panel, title=words) for panel, words in zip(panels, titles, strict=True)]
        if titles
        else panels
    )
    return compose(panels, title or picture.name)


def stage_panel(
    picture: Picture, stage: Stage, names: Sequence[str], colours: np.ndarray | None
) -> Panel:
    """Return what `show` draws of a stage; FslabError for what it has no picture for."""
    pixels = isinstance(stage, np.ndarray) and stage.ndim == 3
    if pixels or isinstance(stage, (Picture, str, os.PathLike, Url, Image, list)):
        drawn = read(cast("PictureLike", stage))
        return Panel(drawn.name, drawn.pixels)
    if isinstance(stage, Segments):
        return _segment_panel(picture, stage)
    if isinstance(stage, LabelMap):
        return _label_panel(picture, stage.labels, stage, class_colours(colours))
    if isinstance(stage, np.ndarray) and stage.dtype in (np.uint8, np.uint16) and stage.ndim == 2:
        truth = LabelMap(stage, tuple(names))
        return _label_panel(picture, stage, truth, class_colours(colours), "truth")
    raise FslabError(
        f"show has no picture for {type(stage).__name__}; it draws Picture, Segments, LabelMap "
        "and truth as uint8 or uint16 [H, W]"
    )


def _segment_panel(picture: Picture, segments: Segments) -> Panel:
    check_size(picture, segments.size, "segments")
    shares = np.bincount(segments.labels.ravel()) / segments.labels.size
    present = range(segments.count)
    return Panel(
        f"{segments.count} segments", grey(picture.pixels), True, segments.labels,
        segment_colours(segments.count), {label: str(label) for label in present},
        {label: f"segment {label}, {shares[label]:.0%}" for label in present}, listed=False,
    )  # fmt: skip


def _label_panel(
    picture: Picture, labels: np.ndarray, named: LabelMap, palette: np.ndarray, title: str = "named"
) -> Panel:
    check_size(picture, labels.shape, title)
    reads, shown = {}, {}
    for label in map(int, np.unique(labels)):
        name = name_of(label, named.names) if label or named.names else "background"
        score = named.scores.get(name)
        reads[label] = name + (f", probability {score:.2f}" if score is not None else "")
        if label:
            shown[label] = name
    return Panel(title, grey(picture.pixels), True, labels, palette, shown, reads)


def feature_colours(
    features: Features,
    layers: str | Sequence[str] = (),
    title: str = "",
    *,
    picture: PictureLike | None = None,
    together: bool = False,
    across: int = COLUMNS,
) -> go.Figure:
    """Show maps by their first three principal components as red, green and blue.

    layers: one or several keys of the features, all of them if empty. picture: stands first, if
    it is given. Like colours are like features within a map. together: colours are fitted once, so
    that they may be compared over timesteps, and over layers as far as those agree
    (`fslab.plots.together`); else colours mean nothing between maps. across: panels in a row.
    Titles shorten the layers' paths; the percentage is the share of the map's variance shown.
    Raises FslabError for a picture of another size.
    """
    asked = (layers,) if isinstance(layers, str) else tuple(layers)
    maps = {layer: _map_of(features, layer) for layer in asked or tuple(features)}
    drawn = colours_together(maps) if together else _each(maps)
    panels = []
    if picture is not None:
        picture = read(picture)
        check_size(picture, features.size, "features")
        panels.append(Panel("picture", picture.pixels))
    for layer, value in maps.items():
        shape = " x ".join(map(str, value.shape))
        colours, share = drawn[layer]
        panels.append(Panel(f"{short_path(layer)}\n[{shape}], {share:.0%}", colours, photo=False))
    words = "three main components, and their share of the variance"
    return compose(panels, title or f"{features.name}: {words}", across=across)


def _each(maps: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, float]]:
    return {layer: colours_and_share(value) for layer, value in maps.items()}


def similarity(
    features: Features,
    layer: str,
    point: Points,
    picture: PictureLike | None = None,
    joined: Joined = "mean",
) -> go.Figure:
    """Show each cell's cosine similarity to the cell at a point, (row, column) in pixels.

    point: one, or several, and then each cell's "mean" or "highest" cosine to them, as `joined`
    says. With the picture, it stands to the left with the points marked. Raises FslabError for a
    point outside the picture.
    """
    points = points_of(point, features.size, "points")
    values = cosines_to(_map_of(features, layer), points, features.size, joined)
    panels = [Panel(short_path(layer), np.zeros((*features.size, 3), np.uint8), photo=False)]
    if picture is not None:
        picture = read(picture)
        check_size(picture, features.size, "features")
        panels.insert(0, Panel("picture", picture.pixels))
    row, column = points[-1]
    where = f"row {row}, column {column}" if len(points) == 1 else f"{len(points)} points, {joined}"
    figure = compose(panels, f"{features.name}: similarity to {where}", right=80)
    last = len(panels)
    figure.add_trace(
        go.Heatmap(
            z=values, **stretched(features.size, values.shape),
            colorscale="Viridis", zmax=1, zmin=float(values.min()),
            colorbar={"title": {"text": "cosine"}, "thickness": 14},
            hovertemplate="cosine similarity %{z:.3f}<extra></extra>",
        ),
        row=1, col=last,
    )  # fmt: skip
    mark = {"symbol": "cross", "size": 13, "color": "white", "line": {"color": "black", "width": 2}}
    for column in range(1, last + 1):
        figure.add_trace(
            go.Scatter(
                x=[across for _, across in points], y=[down for down, _ in points],
                mode="markers", marker=mark, showlegend=False,
                hovertemplate="the point<extra></extra>",
            ),
            row=1, col=column,
        )  # fmt: skip
    return figure


def cosines_to(
    value: np.ndarray, points: Sequence[Point], size: tuple[int, int], joined: Joined = "mean"
) -> np.ndarray:
    """Return f32 [h, w]: the mean, or the highest, of each cell's cosines to several pixels'."""
    if joined not in get_args(Joined):
        raise FslabError(f"joined is {joined!r}; it must be one of {', '.join(get_args(Joined))}")
    each = np.stack([cosine_to(value, point, size) for point in points])
    found: np.ndarray = each.mean(0) if joined == "mean" else each.max(0)
    return found


def cosine_to(value: np.ndarray, point: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Return f32 [h, w]: cosine similarity of each cell of f32 [C, h, w] to a pixel's cell."""
    if not all(0 <= at < limit for at, limit in zip(point, size, strict=True)):
        raise FslabError(
            f"point is {tuple(point)}; rows are 0 to {size[0] - 1}, columns 0 to {size[1] - 1}"
        )
    row, column = (
        at * cells // limit for at, cells, limit in zip(point, value.shape[1:], size, strict=True)
    )
    scaled = unit(value, axis=0, least=1e-8)
    cosines: NDArray[np.floating] = np.einsum("chw,c->hw", scaled, scaled[:, row, column])
    return cosines.astype(np.float32)


def _map_of(features: Features, layer: str) -> np.ndarray:
    check_kind(features, Features, "features")
    if layer not in features:
        raise FslabError(f"{features.name}: no features {layer!r}; there are {', '.join(features)}")
    check_numbers(features[layer], f"{features.name}: layer {layer!r}")
    return features.maps[layer]


def short_path(layer: str) -> str:
    """Shorten a module path for a narrow panel: the parts that all blocks share go."""
    words = layer.replace("transformer_blocks.", "").replace("attentions.", "")
    return words.replace("_blocks", "")
