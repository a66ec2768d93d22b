"""Instances jsons as people have them: no field is trusted, and one bad entry costs no other."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from fslab.datasets import COCO_OBJECT, coco
from fslab.datasets.coco import Outline
from fslab.evaluate import draw, evaluate
from fslab.lab import Lab
from fslab.lab.recipes import clustering_recipe
from fslab.records import VOID, FslabError

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is not all as it should be:RuntimeWarning"),
]

HEIGHT, WIDTH = 40, 50
PERSON, DOG = COCO_OBJECT.names.index("person"), COCO_OBJECT.names.index("dog")
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def square(left, top, wide, high):
    right, bottom = left + wide, top + high
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(number, image, category, region, **more):
    return {
        "id": number, "image_id": image, "category_id": category, "segmentation": region,
        "iscrowd": 0, **more,
    }  # fmt: skip


GOOD = annotation(1, 1, 1, square(5, 5, 20, 20))
OTHER = annotation(9, 2, 18, square(10, 10, 10, 10))


def write_set(root, annotations, files=("a.png", "b.png"), dump=json.dumps, **changed):
    (root / "annotations").mkdir(parents=True)
    pixels = np.random.default_rng(0)
    images = []
    for number, file in enumerate(files, 1):
        path = root / "val2017" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        shades = pixels.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(shades).save(path)
        images.append({"id": number, "file_name": file, "height": HEIGHT, "width": WIDTH})
    data = {"images": images, "annotations": annotations, "categories": CATEGORIES, **changed}
    text = dump(data)
    source = root / "annotations/instances_val2017.json"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def truths(found):
    """The truth of each picture by name, or why it has none."""
    seen = {}
    for sample in found:
        try:
            seen[sample.name] = sample.truth()
        except FslabError as error:
            seen[sample.name] = str(error)
    return seen


def said(found):
    return " | ".join(f"{odd.kind}: {odd.why}" for odd in found.oddities)


def test_a_sound_set_has_no_oddities_and_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = coco(write_set(tmp_path, [GOOD, OTHER]))
    assert found.oddities == ()
    assert [np.unique(truth).tolist() for truth in truths(found).values()] == [
        [0, PERSON],
        [0, DOG],
    ]


# Regions

EMPTY = {
    "points in a row": ([[5, 5, 10, 5, 20, 5]], "enclose nothing"),
    "one point": ([[5, 5, 5, 5, 5, 5]], "enclose nothing"),
    "a sliver": ([[5, 5, 5.3, 5, 5.3, 8, 5, 8]], "less than a pixel"),
}


@pytest.mark.parametrize("how", EMPTY)
def test_a_region_that_paints_nothing_is_named(tmp_path, how):
    region, why = EMPTY[how]
    found = coco(write_set(tmp_path, [GOOD, annotation(3, 1, 18, region), OTHER]))
    assert why in said(found)
    assert np.unique(truths(found)["a"]).tolist() == [0, PERSON]


NO_REGION = {
    "an empty list": [],
    "null": None,
    "an empty ring": [[]],
    "two points": [[3, 3, 9, 9]],
    "an odd number": [[3, 3, 9, 3, 9, 9, 4]],
    "NaN": [[3, 3, 9, 3, float("nan"), 9]],
    "infinite": [[3, 3, 9, 3, float("inf"), 9]],
    "a text in it": [[3, 3, 9, 3, "9", 9]],
    "true in it": [[3, 3, 9, 3, True, 9]],
    "far away": [[3, 3, 9e6, 3, 9e6, 9e6]],
    "parts of the sides": [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]],
    "a text": "polygon",
    "a number": 7,
    "points as pairs": [[3, 3], [9, 3], [9, 9]],
    "a flat list": [3, 3, 9, 3, 9, 9],
    "runs that fall short": {"size": [HEIGHT, WIDTH], "counts": [100, 50]},
    "runs that go beyond": {"size": [HEIGHT, WIDTH], "counts": [100, 5000]},
    "a negative run": {"size": [HEIGHT, WIDTH], "counts": [2010, -10]},
    "runs with a fraction": {"size": [HEIGHT, WIDTH], "counts": [1000.5, 999.5]},
    "no counts": {"size": [HEIGHT, WIDTH]},
    "another size": {"size": [WIDTH, HEIGHT], "counts": [1000, 1000]},
    "no size": {"counts": [1000, 1000]},
    "packed runs that fall short": {"size": [HEIGHT, WIDTH], "counts": "0"},
    "packed runs cut short": {"size": [HEIGHT, WIDTH], "counts": "Zd"},
    "packed runs of other letters": {"size": [HEIGHT, WIDTH], "counts": "\u00e9 %"},
}


@pytest.mark.parametrize("how", NO_REGION)
def test_an_annotation_without_a_region_costs_its_box_and_nothing_else(tmp_path, how):
    bad = annotation(7, 1, 18, NO_REGION[how], bbox=[30, 30, 8, 8])
    with pytest.warns(RuntimeWarning, match=r"instances_val2017\.json.*1 x region left out"):
        found = coco(write_set(tmp_path, [bad, GOOD, OTHER]))
    truth = found.samples[0].truth()
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:25, 5:25], expected[30:38, 30:38] = PERSON, VOID
    assert (truth == expected).all()
    assert (truths(found)["b"] == DOG).sum() == 100
    assert "annotation 7" in said(found)
    assert "its box is void" in said(found)


@pytest.mark.parametrize("how", NO_REGION)
def test_without_a_box_it_is_left_out_and_named(tmp_path, how):
    found = coco(write_set(tmp_path, [annotation(7, 1, 18, NO_REGION[how]), GOOD, OTHER]))
    assert np.unique(found.samples[0].truth()).tolist() == [0, PERSON]
    assert "annotation 7" in said(found)
    assert "left out" in said(found)


def test_the_key_may_be_missing_too(tmp_path):
    boxed = {"id": 7, "image_id": 1, "category_id": 18, "bbox": [30, 30, 8, 8]}
    found = coco(write_set(tmp_path, [boxed, GOOD]))
    assert np.unique(found.samples[0].truth()).tolist() == [0, PERSON, VOID]


@pytest.mark.parametrize("stray", [[], [3, 3], [3, 3, 3, 4]])
def test_a_stray_ring_encloses_nothing_and_costs_nothing(tmp_path, stray):
    found = coco(write_set(tmp_path, [annotation(1, 1, 1, [*square(5, 5, 20, 20), stray])]))
    assert (found.samples[0].truth() == PERSON).sum() == 400
    assert "1 of 2 polygons with fewer than three points" in said(found)


@pytest.mark.parametrize("how", ["runs that fall short", "an empty list", "parts of the sides"])
def test_a_picture_that_loses_all_its_regions_is_refused_and_the_others_count(tmp_path, how):
    found = coco(write_set(tmp_path, [annotation(7, 1, 18, NO_REGION[how]), OTHER]))
    seen = truths(found)
    assert "'a.png' has annotations, and none with a region" in seen["a"]
    assert (seen["b"] == DOG).sum() == 100


@pytest.mark.parametrize("how", ["an empty list", "a box only", "parts of the sides", "no picture"])
def test_a_truth_that_would_be_all_background_is_refused(tmp_path, how):
    given = annotation(
        1, 77 if how == "no picture" else 1, 1, NO_REGION.get(how), bbox=[1, 1, 9, 9]
    )
    with pytest.raises(FslabError, match=r"no region of a listed picture in 1 annotations"):
        coco(write_set(tmp_path, [given]))


def test_runs_are_read_as_pycocotools_reads_them():
    from pycocotools import mask as coco_mask

    chance = np.random.default_rng(0)
    for _ in range(60):
        height, width = chance.integers(1, 60, 2).tolist()
        drawn = (chance.random((height, width)) < chance.random()).astype(np.uint8)
        packed = coco_mask.encode(np.asfortranarray(drawn))
        region = {"size": [height, width], "counts": packed["counts"].decode()}
        outline = Outline(1, False, region, "annotation 3")
        assert (outline.mask(height, width) == drawn).all()
        assert outline.extent(height, width)[1] == drawn.sum()


# Fields that contradict one another


def test_a_box_elsewhere_makes_both_places_void(tmp_path):
    torn = annotation(7, 1, 18, square(30, 2, 6, 6), bbox=[2, 30, 6, 6])
    found = coco(write_set(tmp_path, [torn, GOOD]))
    truth = found.samples[0].truth()
    assert (truth[2:8, 30:36] == VOID).all()
    assert (truth[30:36, 2:8] == VOID).all()
    assert (truth == PERSON).sum() == 400
    assert "a box that is elsewhere" in said(found)


@pytest.mark.parametrize(
    "box", [[5, 5, 20, 20], [5, 5, 25, 25], [4.6, 5.3, 20, 20], None, [0, 0, 0, 0], "x", [5, 5]]
)
def test_a_box_that_agrees_or_says_nothing_changes_nothing(tmp_path, box):
    found = coco(write_set(tmp_path, [{**GOOD, "bbox": box, "area": 400}]))
    assert (found.samples[0].truth() == PERSON).sum() == 400
    assert not found.oddities


@pytest.mark.parametrize("more", [{"bbox": [5, 5, 40, 40]}, {"area": 9}, {"area": 40_000}])
def test_a_milder_contradiction_is_named_and_the_segmentation_counts(tmp_path, more):
    found = coco(write_set(tmp_path, [{**GOOD, **more}]))
    assert (found.samples[0].truth() == PERSON).sum() == 400
    assert said(found).startswith("fields that disagree: annotation 1 of")


@pytest.mark.parametrize("area", [None, "large", -4, 0, float("nan")])
def test_an_area_that_is_none_says_nothing(tmp_path, area):
    assert not coco(write_set(tmp_path, [{**GOOD, "area": area}])).oddities


@pytest.mark.parametrize("given", ["yes", 2, -1, [1], "true"])
def test_a_crowd_that_is_neither_yes_nor_no_is_void(tmp_path, given):
    found = coco(write_set(tmp_path, [{**GOOD, "iscrowd": given}, OTHER]))
    assert np.unique(found.samples[0].truth()).tolist() == [0, VOID]
    assert "iscrowd" in said(found)


@pytest.mark.parametrize(
    ("given", "label"), [("0", PERSON), (0.0, PERSON), (False, PERSON), (None, PERSON),
                         ("1", VOID), (1.0, VOID), (True, VOID)],
)  # fmt: skip
def test_a_crowd_that_can_only_mean_one_thing_is_read(tmp_path, given, label):
    found = coco(write_set(tmp_path, [{**GOOD, "iscrowd": given}, OTHER]))
    assert np.unique(found.samples[0].truth()).tolist() == [0, label]
    assert not found.oddities


# Ids and categories


@pytest.mark.parametrize(("image", "given"), [("1", 1), (1, "1"), (1.0, 1), (1, 1.0)])
def test_ids_of_another_type_are_the_same_number(tmp_path, image, given):
    files = [{"id": image, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    found = coco(write_set(tmp_path, [{**GOOD, "image_id": given}], images=files))
    assert (found.samples[0].truth() == PERSON).sum() == 400


@pytest.mark.parametrize("given", [77, None, "007", True, [1], 1.5, ""])
def test_annotations_of_no_picture_are_named(tmp_path, given):
    found = coco(write_set(tmp_path, [{**GOOD, "id": 7, "image_id": given}, GOOD]))
    assert [odd.where for odd in found.oddities] == ["annotation 7"]
    assert (found.samples[0].truth() == PERSON).sum() == 400


@pytest.mark.parametrize("given", [99, None, "dog", [18], 18.5])
def test_an_unknown_category_is_void_where_it_lies(tmp_path, given):
    found = coco(write_set(tmp_path, [{**OTHER, "id": 7, "category_id": given}, GOOD]))
    truth = truths(found)["b"]
    assert (truth == VOID).sum() == 100
    assert (truth == 0).sum() == HEIGHT * WIDTH - 100
    assert "annotation 7" in said(found)


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1, "name": "dog"}, {"id": 18, "name": "person"}],
        [{"id": "18", "name": "person"}, {"id": 1.0, "name": "dog"}, {"id": 5, "name": "objects"}],
        [{"name": "dog", "id": 1}, {"name": "dog", "id": 2}, {"id": 18, "name": "person"}, 7, None],
    ],
)
def test_names_and_not_ids_or_their_order_say_the_class(tmp_path, categories):
    found = coco(write_set(tmp_path, [GOOD, OTHER], categories=categories))
    seen = truths(found)
    assert (np.unique(seen["a"]).tolist(), np.unique(seen["b"]).tolist()) == ([0, DOG], [0, PERSON])


def test_an_id_of_two_categories_is_void(tmp_path):
    categories = [*CATEGORIES, {"id": 18, "name": "cat"}]
    found = coco(write_set(tmp_path, [GOOD, OTHER], categories=categories))
    assert np.unique(truths(found)["b"]).tolist() == [0, VOID]
    assert "that of 2 categories" in said(found)


# Pictures


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("cam1/f.png", "cam2/f.png"), ["cam1/f.png", "cam2/f.png"]),
        (("f.png", "f.bmp", "g.png"), ["f.png", "f.bmp", "g"]),
        (("f.png", "x/f.png.png", "y/f.bmp"), ["f.png", "x/f.png.png", "y/f.bmp"]),
    ],
)
def test_pictures_that_share_a_stem_are_each_counted_once(tmp_path, files, names):
    region = {1: square(0, 0, 30, 30), 2: square(5, 5, 6, 6), 3: square(1, 1, 9, 9)}
    given = [
        annotation(number, number, 18 if number == 1 else 1, region[number])
        for number in range(1, len(files) + 1)
    ]
    found = coco(write_set(tmp_path / "set", given, files))
    assert [sample.name for sample in found] == names
    recipe, out = clustering_recipe("kmeans"), tmp_path / "out"
    for _ in range(2):  # the second time from the results that lie there
        report = evaluate(Lab("mini", "rgb"), found, recipe, "oracle", out=out, progress=False)
        labels = [
            {row[0] for row in one.score.parts["oracle"].cells.tolist()} for one in report.rows
        ]
        assert [row.name for row in report.rows] == names
        assert labels == [{0, DOG}, {0, PERSON}, {0, PERSON}][: len(files)]


def entry(number, file, **more):
    return {"id": number, "file_name": file, "height": HEIGHT, "width": WIDTH, **more}


@pytest.mark.parametrize(
    "again", ["a.png", "./a.png", "x/../a.png", "../val2017/a.png", "x//..//a.png"]
)
def test_one_file_listed_twice_counts_once(tmp_path, again):
    images = [entry(1, "a.png"), entry(1, again), entry(2, "b.png")]
    found = coco(write_set(tmp_path / "same", [GOOD, OTHER], images=images))
    assert [sample.name for sample in found] == ["a", "b"]
    assert "listed 2 times" in said(found)
    images[1]["id"] = 3
    agreeing = {**GOOD, "id": 5, "image_id": 3}
    found = coco(write_set(tmp_path / "ids", [GOOD, OTHER, agreeing], images=images))
    assert [type(truth) for truth in truths(found).values()] == [np.ndarray, np.ndarray]
    differing = annotation(5, 3, 18, square(0, 0, 4, 4))
    found = coco(write_set(tmp_path / "torn", [GOOD, OTHER, differing], images=images))
    seen = truths(found)
    assert "listed 2 times, under the ids 1 and 3" in seen["a"]
    assert (seen["b"] == DOG).sum() == 100


def test_an_absolute_path_is_the_same_file(tmp_path):
    images = [entry(1, "a.png"), entry(3, str(tmp_path / "val2017/a.png")), entry(2, "b.png")]
    again = [{**each, "id": 7, "image_id": 3} for each in (GOOD,)]
    found = coco(write_set(tmp_path, [GOOD, OTHER, *again], images=images))
    assert [sample.name for sample in found] == ["a", "b"]
    assert "listed 2 times" in said(found)


def test_names_that_differ_in_case_are_one_file_where_the_system_says_so(tmp_path):
    """A link stands for a file system that does not tell case."""
    images = [entry(1, "a.png"), entry(3, "A.PNG"), entry(2, "b.png")]
    root = write_set(tmp_path, [GOOD, OTHER, {**GOOD, "id": 7, "image_id": 3}], images=images)
    os.link(root / "val2017/a.png", root / "val2017/A.PNG")
    assert [sample.name for sample in coco(root)] == ["a", "b"]
    (root / "val2017/A.PNG").unlink()
    shutil.copy(root / "val2017/a.png", root / "val2017/A.PNG")
    assert [sample.name for sample in coco(root)] == ["a", "A", "b"]


def test_an_id_of_two_pictures_refuses_both_and_no_other(tmp_path):
    images = [entry(1, "a.png"), entry("1", "c.png"), entry(2, "b.png")]
    found = coco(write_set(tmp_path, [GOOD, OTHER], ("a.png", "b.png", "c.png"), images=images))
    seen = truths(found)
    assert "image id 1 is that of 2 pictures" in seen["a"]
    assert "image id 1 is that of 2 pictures" in seen["c"]
    assert (seen["b"] == DOG).sum() == 100


@pytest.mark.parametrize(
    "bad",
    [
        7, None, [], {}, entry(1, None), entry(1, ""), entry(1, 7), entry(None, "a.png"),
        entry(True, "a.png"), entry(1, "a.png", height=None), entry(1, "a.png", width="wide"),
        entry(1, "a.png", height=-40), entry(1, "a.png", width=0), entry(1, "a.png", height=40.5),
        entry(1, "a.png", height=float("nan")), entry(1, "a.png", width=HEIGHT, height=WIDTH),
        entry(1, "a.png", width=10**12), entry(1, "a.png\0b"),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_entry_of_a_picture_is_refused_by_name_and_the_others_count(tmp_path, bad):
    found = coco(write_set(tmp_path / "set", [GOOD, OTHER], images=[bad, entry(2, "b.png")]))
    assert len(found) == 2
    first, second = truths(found).values()
    assert isinstance(first, str)
    assert (second == DOG).sum() == 100
    lab, recipe = Lab("mini", "rgb"), clustering_recipe("kmeans")
    report = evaluate(lab, found, recipe, "oracle", progress=False)
    assert [row.name for row in report.rows] == ["b"]
    assert len(report.refused) == 1


def test_a_size_that_no_picture_has_is_refused_before_a_region_is_painted(tmp_path):
    """A sliver is painted to see whether it holds a pixel, which ended the process."""
    sliver = annotation(1, 1, 1, [[5, 5, 5.3, 5, 5.3, 8, 5, 8]])
    images = [entry(1, "a.png", height=10**8, width=10**8), entry(2, "b.png")]
    seen = truths(coco(write_set(tmp_path, [sliver, OTHER], images=images)))
    assert "more pixels than are read" in seen["a"]
    assert (seen["b"] == DOG).sum() == 100


@pytest.mark.parametrize("size", [(str(HEIGHT), str(WIDTH)), (float(HEIGHT), float(WIDTH))])
def test_sizes_as_text_or_with_a_point_are_numbers(tmp_path, size):
    images = [entry(1, "a.png", height=size[0], width=size[1])]
    assert (coco(write_set(tmp_path, [GOOD], images=images)).samples[0].truth() == PERSON).any()


def test_a_missing_file_in_a_folder_is_named_with_its_folder(tmp_path):
    root = write_set(tmp_path, [GOOD, OTHER], ("cam1/f.png", "cam2/f.png"))
    (root / "val2017/cam2/f.png").unlink()
    with pytest.raises(FslabError, match=r"lacks 1 file .*: 'cam2/f\.png'"):
        coco(root)
    assert [sample.name for sample in coco(root, skip_missing=True)] == ["cam1/f.png"]


# The json itself


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-8"])
def test_every_unicode_that_json_may_be_in_is_read(tmp_path, code):
    files = ("\u00e4.png", "b.png")
    root = write_set(
        tmp_path, [GOOD], files, dump=lambda data: json.dumps(data, ensure_ascii=False).encode(code)
    )
    assert [sample.name for sample in coco(root)] == ["\u00e4", "b"]


def test_what_is_no_part_of_the_truth_may_be_missing(tmp_path):
    bare = [{key: GOOD[key] for key in ("image_id", "category_id", "segmentation")}]
    found = coco(write_set(tmp_path, bare, info=None, licenses=[None]))
    assert (found.samples[0].truth() == PERSON).sum() == 400


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "x", 7, []])
def test_a_list_that_is_none_is_refused_by_its_name(tmp_path, key, value):
    root = write_set(tmp_path, **{"annotations": [GOOD], key: value})
    with pytest.raises(FslabError, match=rf"instances_val2017\.json.*{key}"):
        coco(root)


def twice(key, first, second):
    """A json text in which an annotation has a key two times."""

    def dump(data):
        text = json.dumps(data)
        return text.replace(f'"{key}": {first}', f'"{key}": {second}, "{key}": {first}', 1)

    return dump


@pytest.mark.parametrize(
    ("key", "first", "second"), [("category_id", 1, 18), ("image_id", 1, 2), ("iscrowd", 0, 1)]
)
def test_a_key_given_twice_has_neither_value(tmp_path, key, first, second):
    root = write_set(tmp_path / "two", [GOOD, OTHER], dump=twice(key, first, second))
    found = coco(root)
    assert "two values" in said(found)
    assert PERSON not in np.unique(list(truths(found).values()))
    root = write_set(tmp_path / "same", [GOOD, OTHER], dump=twice(key, first, first))
    assert not coco(root).oddities


# Every field of every entry

WRONG = [None, "", "x", -1, 10**30, 1.5, float("nan"), float("-inf"), True, [], {}, [[]], [None]]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_no_field_of_an_annotation_touches_another_picture(tmp_path, wrong):
    """Whatever one field holds: another picture keeps its truth, and nothing but refusals come."""
    runs = {"size": [HEIGHT, WIDTH], "counts": [1000, 1000]}
    for place, key in enumerate(
        ("id", "image_id", "category_id", "segmentation", "iscrowd", "bbox")
    ):
        given = copy.deepcopy([{**GOOD, key: wrong}, OTHER])
        found = truths(coco(write_set(tmp_path / f"{place}", given)))
        assert (found["b"] == DOG).sum() == 100
        assert {"a", "b"} == set(found)
    for key in ("size", "counts"):
        given = [annotation(7, 1, 18, {**runs, key: wrong}), OTHER]
        first, again = (truths(coco(path)) for path in [write_set(tmp_path / key, given)] * 2)
        assert str(first["a"]) == str(again["a"])  # and never what the memory happens to hold
        assert (first["b"] == DOG).sum() == 100


@pytest.mark.parametrize("file", ["../f.png", "../../out/f.png"])
def test_files_are_never_written_outside_their_folder(tmp_path, file):
    (tmp_path / "set").mkdir()
    root = write_set(tmp_path / "set" / "data", [GOOD, OTHER], ("f.png", file))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    drawn = draw(
        Lab("mini", "rgb"), coco(root), clustering_recipe("kmeans"), tmp_path / "set" / "drawn",
        named=False, progress=False,
    )  # fmt: skip
    assert drawn.written == ("f.png",)
    assert "leads out of the folder" in drawn.refused[file]
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in made} == {tmp_path / "set" / "drawn"}


def test_a_name_that_no_file_system_takes_is_a_file_that_is_not_there(tmp_path):
    long = {"id": 2, "file_name": f"{'x' * 5000}.png", "height": HEIGHT, "width": WIDTH}
    first = {**long, "id": 1, "file_name": "a.png"}
    with pytest.raises(FslabError, match="lacks 1 file"):
        coco(write_set(tmp_path, [GOOD, OTHER], images=[first, long]))


@pytest.mark.parametrize(("listed", "said"), [("000001", 1), (1, "000001"), ("01", "001")])
def test_a_picture_whose_annotations_may_be_under_another_number_is_refused(tmp_path, listed, said):
    """Without them its truth would be background alone."""
    root = write_set(tmp_path, [OTHER, {**GOOD, "image_id": said}])
    source = root / "annotations/instances_val2017.json"
    data = json.loads(source.read_text())
    data["images"][0]["id"] = listed
    source.write_text(json.dumps(data))
    found = coco(root)
    whole = {sample.name: sample for sample in found}
    with pytest.raises(FslabError, match="write them alike"):
        whole["a"].truth()
    assert (whole["b"].truth() == DOG).sum() == 100
