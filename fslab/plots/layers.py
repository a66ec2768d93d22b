"""A network's layers as a chart: what each block costs, and how far a pass must go for a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import plotly.graph_objects as go

from fslab.plots.panels import finish, plain
from fslab.records import FslabError

_ROW = 30
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")
"""Okabe and Ito's; blocks of one kind share a colour."""


class LayerLike(Protocol):
    """What `fslab.backbones.Layer` holds: module path, channels, stride in picture pixels."""

    path: str
    channels: int
    stride: int


def layer_map(
    layers: Sequence[LayerLike],
    spent: Mapping[str, float],
    marked: Sequence[str] = (),
    title: str = "",
) -> go.Figure:
    """Show each block as a bar from the share of a pass done before it to that done after it.

    layers: in firing order. spent: the share of the whole pass's operations, 0..1, that is done
    once a layer has fired, by path; a block ends with its last layer there. marked: paths of
    layers to mark where they fire. Beside each block stand its channels and strides.
    Raises FslabError where `spent` knows no layer, or lacks a marked one.
    """
    blocks: dict[str, list[LayerLike]] = {}
    for layer in layers:
        if layer.path in spent:
            blocks.setdefault(block_of(layer.path), []).append(layer)
    unknown = [path for path in marked if path not in spent]
    if unknown or not blocks:
        raise FslabError(f"no cost is known of {unknown[0] if unknown else 'any layer'}")
    figure = go.Figure(_bars(blocks, spent))
    if marked:
        figure.add_trace(_marks([layer for layer in layers if layer.path in marked], spent))
    finish(figure, title or "what a pass costs, block by block", _ROW * len(blocks), bottom=76)
    longest = max(map(len, blocks))
    figure.update_layout(margin_l=24 + 7 * longest, margin_r=24, bargap=0.3)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -46 / (_ROW * len(blocks))})
    figure.update_xaxes(
        title_text="share of a whole pass", tickformat=".0%", range=[0, 1.32], gridcolor="#ddd",
        tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1], zeroline=False, title_standoff=6,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", dtick=1, ticklabelstandoff=4)
    return figure


def block_of(path: str) -> str:
    """Return the block that a layer lies in: "up_blocks.1.resnets.0" lies in "up_blocks.1"."""
    first, _, rest = path.partition(".")
    second = rest.partition(".")[0]
    return f"{first}.{second}" if second.isdigit() else first


def _bars(blocks: Mapping[str, Sequence[LayerLike]], spent: Mapping[str, float]) -> go.Bar:
    ends = [max(spent[layer.path] for layer in members) for members in blocks.values()]
    starts = [0.0, *ends[:-1]]
    kinds = list(dict.fromkeys(block.partition(".")[0] for block in blocks))
    colours = [_COLOURS[kinds.index(block.partition(".")[0]) % len(_COLOURS)] for block in blocks]
    words = [
        f"{end - start:.1%}, {_said(members)}"
        for start, end, members in zip(starts, ends, blocks.values(), strict=True)
    ]
    return go.Bar(
        x=[end - start for start, end in zip(starts, ends, strict=True)], base=starts,
        y=[plain(block) for block in blocks], orientation="h", marker_color=colours,
        text=words, textposition="outside", textangle=0, cliponaxis=False, showlegend=False,
        hovertemplate="%{y}<br>%{text}<extra></extra>",
    )  # fmt: skip


def _said(members: Sequence[LayerLike]) -> str:
    """Say how wide a block's last layer is, and how many pixels a cell covers inside."""
    strides = sorted({layer.stride for layer in members})
    span = " and ".join(map(str, strides))
    return f"{members[-1].channels} ch, stride {span}"


def _marks(marked: Sequence[LayerLike], spent: Mapping[str, float]) -> go.Scatter:
    said = [f"{layer.path}<br>{layer.channels} ch, stride {layer.stride}" for layer in marked]
    return go.Scatter(
        x=[spent[layer.path] for layer in marked], y=[block_of(layer.path) for layer in marked],
        mode="markers", name="layers that are read", customdata=said, showlegend=True,
        marker={
            "symbol": "diamond", "size": 10, "color": "black",
            "line": {"color": "white", "width": 1.5},
        },
        hovertemplate="%{customdata}<br>needs %{x:.1%} of a pass<extra></extra>",
    )  # fmt: skip
