"""Figures hold what they were given: labels, names, numbers; the page shows text as text."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import noise_picture
from PIL import Image

import fslab
from fslab import plots
from fslab.datasets import VOC
from fslab.plots.colours import SEGMENT_COLOURS, class_colours, segment_colours
from fslab.plots.maps import cosine_to
from fslab.plots.places import middle, spread
from fslab.records import (
    VOID,
    Confusion,
    Features,
    FslabError,
    LabelMap,
    Picture,
    Segments,
    voc_palette,
)
from fslab.score import score_image, summarise

DOG, PERSON = VOC.names.index("dog"), VOC.names.index("person")


@pytest.fixture
def scene():
    picture = noise_picture(48, 64)
    labels = np.zeros((48, 64), np.uint8)
    labels[8:40, 4:28] = DOG
    labels[10:30, 40:60] = PERSON
    truth = labels.copy()
    truth[7, 4:28] = VOID
    segments = Segments(np.searchsorted([0, DOG, PERSON], labels).astype(np.int32))
    named = LabelMap(labels, VOC.names, {"dog": 0.91, "person": 0.42})
    return SimpleNamespace(picture=picture, segments=segments, named=named, truth=truth)


@pytest.fixture
def features():
    rng = np.random.default_rng(3)
    maps = {"down.0": rng.normal(size=(6, 6, 8)), "up.1": rng.normal(size=(4, 12, 16))}
    return Features({k: v.astype(np.float32) for k, v in maps.items()}, (48, 64), "noise")


def decoded(source: str) -> np.ndarray:
    assert source.startswith("data:image/")
    return np.asarray(Image.open(BytesIO(base64.b64decode(source.split(",", 1)[1]))))


def traces(figure, kind, axis=None):
    return [
        trace
        for trace in figure.data
        if trace.type == kind and (axis is None or trace.xaxis == axis)
    ]


def test_show_draws_every_stage_where_it_belongs(scene):
    figure = fslab.show(scene.picture, scene.segments, scene.named, scene.truth)
    pictures = [
        decoded(traces(figure, "image", axis)[0].source) for axis in ("x", "x2", "x3", "x4")
    ]
    assert all(pixels.shape == (48, 64, 3) for pixels in pictures)
    assert np.abs(pictures[0].astype(int) - scene.picture.pixels).mean() < 6  # JPEG
    layers = [decoded(traces(figure, "image", axis)[1].source) for axis in ("x2", "x3", "x4")]
    assert (layers[0][..., :3] == SEGMENT_COLOURS[scene.segments.labels]).all()
    for layer, labels in zip(layers[1:], (scene.named.labels, scene.truth), strict=True):
        assert ((layer[..., 3] > 0) == (labels > 0)).all()
        assert (layer[labels > 0, :3] == voc_palette()[labels[labels > 0]]).all()


def legend(figure):
    return [trace for trace in traces(figure, "scatter") if trace.showlegend]


def test_show_names_classes_in_the_legend_and_on_masks(scene):
    figure = fslab.show(scene.picture, scene.segments, scene.named, scene.truth)
    assert [trace.name for trace in legend(figure)] == ["dog", "person", "void"]
    assert legend(figure)[0].marker.color == "rgb({},{},{})".format(*voc_palette()[DOG])
    written = [note.text for note in figure.layout.annotations]
    assert written[:4] == ["picture", "3 segments", "named", "truth"]
    assert sorted(written[4:]) == ["0", "1", "2", "dog", "dog", "person", "person"]


def test_the_pointer_reads_class_and_score(scene):
    figure = fslab.show(scene.picture, scene.segments, scene.named)
    read = [trace for trace in traces(figure, "scatter", "x3") if not trace.showlegend]
    said = {trace.hovertemplate.removesuffix("<extra></extra>"): trace for trace in read}
    assert set(said) == {"background", "dog, probability 0.91", "person, probability 0.42"}
    for words, points in said.items():
        found = scene.named.labels[points.y, points.x]
        assert {VOC.names[label] for label in found} == {words.split(",")[0]}
    assert sum(len(trace.x) for trace in read) == 24 * 32  # every other row and column
    segments = traces(figure, "scatter", "x2")
    assert "segment 0, " in segments[0].hovertemplate


def test_masks_names_stand_on_their_masks(scene):
    figure = fslab.show(scene.picture, scene.named)
    for note in figure.layout.annotations[2:]:
        assert VOC.names[scene.named.labels[round(note.y), round(note.x)]] == note.text


def test_show_has_equal_axes_and_readable_letters(scene):
    figure = fslab.show(scene.picture, scene.segments, scene.named, scene.truth, scene.named)
    assert figure.layout.width == 700
    assert figure.layout.font.size >= 12
    assert all(note.font.size >= 12 for note in figure.layout.annotations)
    for number in ("", 2, 3, 4, 5):
        axis = figure.layout[f"yaxis{number}"]
        assert axis.scaleanchor == f"x{number}"
        assert tuple(axis.range) == (47.5, -0.5)
    assert figure.layout.yaxis5.domain[1] < figure.layout.yaxis.domain[0]


def test_titles_and_colours_may_be_given(scene):
    colours = np.full((21, 3), 7, np.uint8)
    figure = fslab.show(
        scene.picture, scene.named, titles=["a <b>", "masks"], title="<i>", colours=colours
    )
    assert figure.layout.title.text == "&lt;i&gt;"
    assert figure.layout.annotations[0].text == "a &lt;b&gt;"
    layer = decoded(traces(figure, "image", "x2")[1].source)
    assert (layer[scene.named.labels > 0, :3] == 7).all()


def test_truth_is_named_without_a_label_map(scene):
    figure = fslab.show(scene.picture, scene.truth, names=VOC.names)
    assert [trace.name for trace in legend(figure)] == ["dog", "person", "void"]
    bare = fslab.show(scene.picture, scene.truth)
    assert legend(bare)[0].name == f"class {DOG}"


@pytest.mark.parametrize("stage", [{"text": 1}, np.zeros((48, 64)), 3])
def test_show_refuses_what_it_cannot_draw(scene, stage):
    with pytest.raises(FslabError, match="show has no picture for"):
        fslab.show(scene.picture, stage)


def test_show_refuses_other_sizes_and_wrong_titles(scene):
    with pytest.raises(FslabError, match="48 x 64"):
        fslab.show(scene.picture, Segments(np.zeros((48, 63), np.int32)))
    with pytest.raises(FslabError, match="1 titles for 2 panels"):
        fslab.show(scene.picture, scene.named, titles=["one"])
    with pytest.raises(FslabError, match="a picture is fslab Segments; give a"):
        fslab.show(scene.segments)
    with pytest.raises(FslabError, match=r"colours are"):
        fslab.show(scene.picture, scene.named, colours=np.zeros((3, 4), np.uint8))


def test_pca_colours_follow_the_strongest_directions():
    ramp = np.linspace(-1, 1, 12, dtype=np.float32)
    value = np.zeros((5, 8, 12), np.float32)
    value[3] = 10 * ramp[None]
    value[1] = ramp[:8, None]
    colours = plots.pca_colours(value)
    assert colours.dtype == np.uint8
    assert colours.shape == (8, 12, 3)
    assert (np.diff(colours[..., 0].astype(int), axis=1) >= 0).all()
    assert np.ptp(colours[..., 0], axis=0).max() == 0
    assert (plots.pca_colours(value) == colours).all()


def test_pca_colours_of_flat_and_narrow_maps():
    assert plots.pca_colours(np.ones((7, 3, 4), np.float32)).shape == (3, 4, 3)
    assert plots.pca_colours(np.random.default_rng(0).normal(size=(1, 3, 4))).shape == (3, 4, 3)


def test_feature_colours_shows_the_maps_asked_for(features):
    figure = plots.feature_colours(features, "up.1")
    (image,) = traces(figure, "image")
    assert (decoded(image.source) == plots.pca_colours(features["up.1"])).all()
    assert "[4 x 12 x 16]" in figure.layout.annotations[0].text
    assert len(traces(plots.feature_colours(features), "image")) == 2
    with pytest.raises(FslabError, match=r"no features 'up\.2'; there are down\.0, up\.1"):
        plots.feature_colours(features, "up.2")


def test_similarity_equals_cosine_and_marks_the_point(features):
    figure = plots.similarity(features, "down.0", (20, 40), noise_picture(48, 64))
    (heat,) = traces(figure, "heatmap")
    cells = features["down.0"].reshape(6, -1)
    chosen = features["down.0"][:, 2, 5]
    wanted = chosen @ cells / np.linalg.norm(chosen) / np.linalg.norm(cells, axis=0)
    np.testing.assert_allclose(np.array(heat.z), wanted.reshape(6, 8), rtol=1e-5)
    assert heat.z[2][5] == pytest.approx(1)
    assert (heat.y0, heat.dy, heat.xaxis) == (3.5, 8, "x2")
    assert all((mark.x[0], mark.y[0]) == (40, 20) for mark in traces(figure, "scatter"))
    with pytest.raises(FslabError, match="rows are 0 to 47"):
        cosine_to(features["down.0"], (48, 0), (48, 64))


def matched(classes=("cat", "dog", "person")):
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)
    return SimpleNamespace(
        probabilities=probabilities, texts=classes, assigned=np.array([DOG, 0], np.int64)
    )


def test_score_matrix_shows_probabilities_and_what_was_assigned():
    match = matched()
    figure = plots.score_matrix(match, VOC.names)
    (heat,) = figure.data
    assert (np.array(heat.z) == match.probabilities).all()
    assert heat.x == ("cat", "dog", "person")
    assert heat.y == ("segment 0", "segment 1")
    assert "probability %{z" in heat.hovertemplate
    (frame,) = figure.layout.shapes
    assert frame.x0 < 1 < frame.x1
    assert frame.y0 < 0 < frame.y1


def test_score_matrix_keeps_the_best_texts_in_order_and_escapes():
    figure = plots.score_matrix(matched(("cat", "dog", "<person>")), top=2)
    assert figure.data[0].x == ("cat", "&lt;person&gt;")
    assert "the best 2 shown" in figure.layout.title.text


def test_iou_bars_show_the_score(scene):
    score = summarise("voc21", [score_image(scene.truth, VOC.names, scene.named.labels)])
    figure = plots.iou_bars(score, "mini-VOC, this one picture")
    (bars,) = figure.data
    present = {name: value for name, value in score.iou.items() if value is not None}
    assert dict(zip(bars.y, bars.x, strict=True)) == present
    assert bars.marker.color[1] == "rgb({},{},{})".format(*voc_palette()[DOG])
    for words in ("mini-VOC", f"{score.miou:.3f}", "voc21", "1 picture"):
        assert words in figure.layout.title.text
    assert "18 of 21 do not occur" in figure.layout.xaxis.title.text


def test_iou_bars_without_background_keep_the_class_colours(scene):
    score = summarise("voc20", [score_image(scene.truth, VOC.names, scene.named.labels)])
    (bars,) = plots.iou_bars(score).data
    assert bars.y[0] == "dog"
    assert bars.marker.color[0] == "rgb({},{},{})".format(*voc_palette()[DOG])


def test_confusion_matrix_shows_what_occurs():
    counts = np.zeros((4, 4), np.int64)
    counts[0, 0], counts[2, 2], counts[2, 0] = 10, 3, 1
    figure = plots.confusion_matrix(Confusion(counts, ("background", "a", "<b>", "c"), 2), "mini")
    (heat,) = figure.data
    assert heat.x == heat.y == ("background", "&lt;b&gt;")
    assert np.array(heat.z).tolist() == [[1, 0], [0.25, 0.75]]
    assert np.array(heat.customdata).tolist() == [[10, 0], [1, 3]]
    assert "2 pictures" in figure.layout.title.text
    with pytest.raises(FslabError, match="empty"):
        plots.confusion_matrix(Confusion(np.zeros((2, 2), np.int64), ("a", "b")))


def test_label_picture_is_the_palette(scene):
    assert (plots.label_picture(scene.named) == voc_palette()[scene.named.labels]).all()
    assert (plots.label_picture(scene.truth)[7, 4] == voc_palette()[VOID]).all()
    with pytest.raises(FslabError, match="uint8"):
        plots.label_picture(scene.named.labels.astype(int))


def test_overlay_colours_classes_and_leaves_the_background(scene):
    drawn = plots.overlay(scene.picture, scene.named)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (48 * 7, 64 * 7, 3)
    plain = plots.overlay(scene.picture, LabelMap(np.zeros((48, 64), np.uint8), VOC.names))
    assert (drawn[:, -20:] == plain[:, -20:]).all()
    inside = (slice(35 * 7, 38 * 7), slice(6 * 7, 26 * 7))
    palette = voc_palette()[DOG].astype(float)
    wanted = 0.45 * plain[inside] + 0.55 * palette
    assert np.abs(drawn[inside] - wanted).max() <= 1


def test_overlay_writes_each_name_on_its_mask(scene):
    other = LabelMap(scene.named.labels, ("background", *["?"] * 20), {})
    differs = (
        plots.overlay(scene.picture, scene.named) != plots.overlay(scene.picture, other)
    ).any(-1)
    for label in (DOG, PERSON):
        mask = (scene.named.labels == label).repeat(7, 0).repeat(7, 1)
        assert differs[mask].any()


def test_overlay_keeps_large_pictures_and_takes_truth(scene):
    big = noise_picture(330, 400)
    labels = np.full((330, 400), VOID, np.uint8)
    assert plots.overlay(big, labels).shape == (330, 400, 3)
    assert plots.segment_picture(big, Segments(np.zeros((330, 400), np.int32))).shape == (
        330,
        400,
        3,
    )
    with pytest.raises(FslabError, match="330 x 400"):
        plots.overlay(big, scene.truth)


def test_pictures_without_much_room():
    for size in ((1, 1), (1, 200), (5, 3)):
        picture = Picture(np.full((*size, 3), 90, np.uint8))
        labels = LabelMap(np.full(size, DOG, np.uint8), VOC.names)
        drawn = plots.overlay(picture, labels)
        assert max(drawn.shape[:2]) in (320, 535, 1600)
        fslab.show(picture, labels, Segments(np.zeros(size, np.int32)))


def test_middle_lies_inside_and_deep():
    mask = np.zeros((50, 300), bool)
    mask[10:31, 20:41] = True
    mask[5:7, 100:280] = True
    row, column = middle(mask)
    assert abs(row - 20) <= 4
    assert abs(column - 30) <= 4
    assert middle(np.eye(1, 7, 4, dtype=bool)) == (0, 4)
    speck = np.zeros((400, 400), bool)
    speck[201, 203] = True
    assert middle(speck) == (201, 203)


def test_names_keep_clear_of_each_other_and_inside():
    boxes = spread([(5, 5), (5, 6), (6, 5)], [(4, 12)] * 3, (40, 40))
    assert all(
        top >= 0 and left >= 0 and bottom <= 40 and right <= 40
        for top, left, bottom, right in boxes
    )
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0]


def test_segment_colours_differ_and_classes_keep_vocs():
    assert len({tuple(colour) for colour in segment_colours(40)}) == 40
    assert (class_colours()[:256] == voc_palette()).all()
    assert (class_colours(np.zeros((2, 3), np.uint8))[2:256] == voc_palette()[2:]).all()


@pytest.fixture
def page(scene):
    names = ("background", *VOC.names[1:DOG], "<script>dog</script>", *VOC.names[DOG + 1 :])
    named = LabelMap(scene.named.labels, names, {"<script>dog</script>": 0.5})
    row = plots.GalleryRow(
        Picture(scene.picture.pixels, '"><script>name'), scene.segments, named, scene.truth,
        "a dog & <script>alert(1)</script>", {"candidates": "<script>x", "IoU <": "0.5"},
    )  # fmt: skip
    methods = [{"method": "<script>m", "mIoU": 0.12345, "images": 3}]
    return plots.gallery([row, row], "<script>title", "<script>note", methods)


def test_gallery_shows_text_as_text(page):
    assert "<script" not in page
    for words in ("title", "note", "name", "alert(1)", "dog", "x", "m"):
        assert f"&lt;script&gt;{words}" in page
    assert "a dog &amp; " in page
    assert "0.123" in page
    assert ">3</td>" in page


def test_gallery_loads_nothing(page):
    assert not re.search(
        r"https?:|//|@import|url\(|<link|<iframe", re.sub(r'src="data:[^"]*"', "", page)
    )
    assert set(re.findall(r'src="([^,]*),', page)) == {"data:image/jpeg;base64"}
    assert "default-src 'none'; img-src data:" in page
    assert page.count("<img") == page.count('alt="') == 8


def test_gallery_without_truth_says_what_was_found(scene):
    row = plots.GalleryRow(scene.picture, scene.segments, scene.named)
    page = plots.gallery([row], "t", "n")
    assert page.count("<img") == 3
    assert "dog (0.91, 25% of the pixels), person (0.42, 13% of the pixels)" in page
    assert "<table" not in page


def test_figures_and_pages_are_the_same_every_time(scene, features, page):
    def drawn():
        figures = [
            fslab.show(scene.picture, scene.segments, scene.named, scene.truth),
            plots.feature_colours(features),
            plots.similarity(features, "up.1", (0, 0)),
            plots.score_matrix(matched(), VOC.names),
        ]
        row = plots.GalleryRow(scene.picture, scene.segments, scene.named, scene.truth)
        return [figure.to_json() for figure in figures], plots.gallery([row], "t", "n")

    assert drawn() == drawn()


def test_a_figure_of_four_panels_is_small(scene):
    figure = fslab.show(scene.picture, scene.segments, scene.named, scene.truth)
    assert len(figure.to_json()) < 60_000
