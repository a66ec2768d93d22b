"""Diagrams hold every block and stage by its name, and are whole SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

import pytest

import fslab
from fslab import plots
from fslab.records import FslabError


class Layer(NamedTuple):
    path: str
    channels: int
    stride: int


UNET = [
    Layer("conv_in", 8, 4),
    Layer("down_blocks.0.resnets.0", 8, 4),
    Layer("down_blocks.0.resnets.1", 8, 4),
    Layer("down_blocks.0.downsamplers.0", 8, 8),
    Layer("down_blocks.1.attentions.0.transformer_blocks.0.attn1", 16, 8),
    Layer("down_blocks.1.attentions.0.transformer_blocks.0.attn2", 16, 8),
    Layer("mid_block.resnets.0", 16, 8),
    Layer("up_blocks.0.resnets.0", 16, 8),
    Layer("up_blocks.0.upsamplers.0", 16, 4),
    Layer("up_blocks.1.resnets.0", 8, 4),
    Layer("conv_out", 4, 4),
]
MARKED = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
SVG = "{http://www.w3.org/2000/svg}"


def texts(diagram):
    return [node.text for node in ET.fromstring(diagram.svg).iter(f"{SVG}text")]


def boxes(diagram):
    """Places of all boxes but the ground, by the bold text that comes after each."""
    found, last = {}, None
    for node in ET.fromstring(diagram.svg):
        if node.tag == f"{SVG}rect":
            last = node
        elif node.tag == f"{SVG}text" and node.get("font-weight") == "bold":
            found[node.text] = tuple(float(last.get(key)) for key in ("x", "y", "width", "height"))
    return found


def test_a_unet_is_drawn_as_a_u_with_every_block_and_part():
    diagram = plots.network_diagram(UNET, [MARKED], "<a> UNet")
    said = texts(diagram)
    assert said[0] == "<a> UNet"
    for words in (
        "8 channels, 4 → 8 px a cell", "resnets.0-1, downsamplers.0",
        "transformer_blocks: attn1, attn2", "attentions.0.transformer_blocks.0.attn2",
    ):  # fmt: skip
        assert words in said
    places = boxes(diagram)
    assert list(places) == [
        "conv_in", "down_blocks.0", "down_blocks.1", "mid_block",
        "up_blocks.0", "up_blocks.1", "conv_out",
    ]  # fmt: skip
    middle = places["mid_block"]
    assert places["down_blocks.0"][0] < middle[0] < places["up_blocks.1"][0]
    assert middle[1] == max(top for _, top, _, _ in places.values())
    assert places["down_blocks.0"][1] == places["up_blocks.1"][1]
    assert diagram.svg.count("stroke-dasharray") == 2


def test_boxes_do_not_overlap_and_stay_inside():
    layers = [
        Layer(f"{kind}_blocks.{n}.attn1", 8, 8) for kind in ("joint", "single") for n in "0123"
    ]
    for diagram in (plots.network_diagram(UNET), plots.network_diagram(layers)):
        root = ET.fromstring(diagram.svg)
        width, height = float(root.get("width")), float(root.get("height"))
        placed = list(boxes(diagram).values())
        for at, (left, top, wide, tall) in enumerate(placed):
            assert left >= 0
            assert top > 22
            assert left + wide <= width
            assert top + tall <= height
            for other_left, other_top, other_wide, other_tall in placed[at + 1 :]:
                apart = other_left >= left + wide or left >= other_left + other_wide
                assert apart or other_top >= top + tall or top >= other_top + other_tall


def test_a_network_of_one_stride_is_drawn_in_rows():
    layers = [Layer(f"transformer_blocks.{n}.attn1", 8, 8) for n in range(5)]
    places = list(boxes(plots.network_diagram(layers)).values())
    assert [top for _, top, _, _ in places[:3]] == [places[0][1]] * 3
    assert places[3][0] == places[0][0]
    assert places[3][1] > places[0][1]


def test_a_network_diagram_refuses_what_it_cannot_draw():
    with pytest.raises(FslabError, match="nothing to draw"):
        plots.network_diagram([])
    with pytest.raises(FslabError, match=r"marked names 'up\.9', which is none of the 11 layers"):
        plots.network_diagram(UNET, ["up.9"])


@pytest.mark.parametrize("method", sorted(fslab.METHODS))
def test_a_pipeline_has_its_stages_and_settings(method):
    recipe = fslab.METHODS[method]
    diagram = plots.pipeline_diagram(recipe)
    said = " ".join(texts(diagram))
    for stage in ("extract", "caption", "cluster", "match", "refine"):
        assert f"lab.{stage}" in said
    assert recipe.refine.method in said
    assert recipe.match.assignment in said
    assert method in diagram.words
    with pytest.raises(FslabError, match="recipe"):
        plots.pipeline_diagram("fslab")


def test_a_notebook_shows_the_drawing_and_text_says_what_it_is():
    diagram = plots.network_diagram(UNET)
    assert diagram._repr_svg_() == diagram.svg
    assert repr(diagram).startswith("<Diagram: 7 blocks")
    assert "down_blocks.0, 8 channels" in diagram.words
    title = ET.fromstring(diagram.svg).find(f"{SVG}title")
    assert title.text == diagram.words
