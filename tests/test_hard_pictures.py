"""Awkward pictures: each is read right or refused in one sentence, and a batch goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_picture, write_dataset
from fuzz.run import fuzz
from fuzz.targets import TARGETS
from hard_pictures import corpus, lay_out, outcome
from PIL import Image
from raw_pictures import png, tiff

from fslab import datasets
from fslab.evaluate import draw, evaluate, write_page
from fslab.files import portable
from fslab.lab import Lab
from fslab.records import Clustering, FslabError, Recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

ROOT = Path(__file__).parents[1]
FILES = {hard.name: hard for hard in corpus()}
PLAIN = Recipe("plain", cluster=Clustering.of(k=2, restarts=1)).change({"caption.words": "all"})


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hard")
    return dict(zip(FILES, lay_out(folder, list(FILES.values())), strict=True))


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_each_is_read_right_or_refused_in_one_sentence(laid_out, name):
    outcome(FILES[name], laid_out[name])


def test_the_command_counts_what_is_read_and_what_is_refused():
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "hard_pictures.py")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    refused = sum(hard.wanted is None for hard in FILES.values())
    counts = f"{len(FILES)} awkward files: {len(FILES) - refused} read right, {refused} refused"
    assert done.stdout.strip() == counts
    assert len(FILES) - refused >= 60
    assert refused >= 60


def test_a_size_is_the_one_that_is_read(laid_out):
    for name, hard in FILES.items():
        if hard.wanted is not None:
            assert datasets.picture_size(laid_out[name]) == hard.wanted.shape[:2], name


BOMBS = [name for name in FILES if "bomb" in name or "13000" in name or "endless" in name]


def memory_taken(path: Path) -> int:
    """Return the bytes by which the peak of a process of its own grew as it read a file."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with Path("/proc/self/clear_refs").open("w") as peak:
            peak.write("5")  # the peak is counted anew from here
        before = _peak()
        try:
            datasets.read(path)
        except FslabError:
            os.write(writing, str(_peak() - before).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        taken = said.read()
    os.waitpid(child, 0)
    assert taken, f"{path.name} was not refused"
    return int(taken)


def _peak() -> int:
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    ]
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_memory(laid_out, name):
    assert memory_taken(laid_out[name]) < 120e6


def test_where_memory_runs_out_it_is_said(tmp_path):
    path = tmp_path / "large.tif"
    path.write_bytes(tiff(np.zeros(36_000_000, np.uint8).tobytes(), 6000, 6000))
    code = (
        "import resource, sys, fslab\n"
        "fslab.read(sys.argv[2])\n"  # so that all that is imported is there
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000,) * 2)\n"
        "try:\n    fslab.read(sys.argv[1])\nexcept fslab.FslabError as error:\n    print(error)\n"
    )
    small = tmp_path / "small.png"
    small.write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    command = [sys.executable, "-c", code, str(path), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "takes more memory than there is" in done.stdout
    assert repr(str(path)) in done.stdout


def as_nobody(folder: Path, work) -> str:
    """Return what a function says in a process that owns nothing and stands in a folder."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.chdir(folder)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            said = repr(work())
        except FslabError as error:
            said = f"refused: {error}"
        except BaseException as error:  # noqa: BLE001 - what it is has to reach the test
            said = f"crashed: {error!r}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as found:
        said = found.read()
    os.waitpid(child, 0)
    return said


def test_a_folder_that_may_only_be_read(tmp_path):
    data = next(hard.data for hard in FILES.values() if hard.name == "colours.png")
    (tmp_path / "open.png").write_bytes(data)
    (tmp_path / "closed.png").write_bytes(data)
    (tmp_path / "closed.png").chmod(0)
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut" / "in.png").write_bytes(data)
    (tmp_path / "shut").chmod(0)
    tmp_path.chmod(0o555)
    try:
        assert as_nobody(tmp_path, lambda: datasets.read("open.png").size) == "(24, 40)"
        said = as_nobody(tmp_path, lambda: datasets.read("closed.png"))
        assert said.startswith("refused: 'closed.png' may not be read: permission denied")
        said = as_nobody(tmp_path, lambda: datasets.read("shut/in.png"))
        assert said.startswith("refused: 'shut/in.png' may not be read: permission denied")
        labels = np.zeros((4, 4), np.uint8)
        said = as_nobody(tmp_path, lambda: datasets.write_mask(labels, "new.png"))
        assert said.startswith("refused: new.png cannot be written")
        said = as_nobody(tmp_path, lambda: datasets.write_mask(labels, "open.png"))
        assert said.startswith("refused: open.png cannot be written")
        assert (tmp_path / "open.png").read_bytes() == data
    finally:
        tmp_path.chmod(0o755)
        (tmp_path / "shut").chmod(0o755)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_that_carries_an_orientation_is_turned(tmp_path, orientation):
    from hard_pictures import stored_as

    upright = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for ending in ("png", "tif", "webp"):
        path = tmp_path / f"turned.{ending}"
        Image.fromarray(stored_as(upright, orientation)).save(path, exif=exif, lossless=True)
        np.testing.assert_array_equal(datasets.read(path).pixels, upright, err_msg=ending)


def test_a_photograph_given_as_a_mask_is_refused_without_sorting_its_pixels(tmp_path, monkeypatch):
    """The time that it takes shall not grow with the number of its colours."""
    path = tmp_path / "photo.png"
    path.write_bytes(png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
    monkeypatch.setattr(np, "unique", None)
    with pytest.raises(FslabError, match="it holds colours"):
        datasets.read_mask(path)


# A batch goes on


@pytest.fixture(scope="module")
def rgb(tiny):
    return Lab(tiny, "rgb")


@pytest.fixture(scope="module")
def hard_folder(tmp_path_factory):
    """Every file of the corpus whose name says that it is a picture, beside one another."""
    folder = tmp_path_factory.mktemp("folder")
    stems, chosen = set(), []
    for hard in FILES.values():
        stem, ending = os.path.splitext(hard.name)
        small = hard.wanted is None or hard.wanted.size < 10_000
        if ending in datasets.read.__globals__["SUFFIXES"] and stem not in stems and small:
            stems.add(stem)
            chosen.append(hard)
    lay_out(folder, chosen)
    return folder, chosen


def test_a_folder_of_them_is_drawn_and_says_what_was_left_out(rgb, hard_folder, tmp_path):
    folder, chosen = hard_folder
    drawn = draw(rgb, datasets.folder(folder), PLAIN, tmp_path / "out", named=False, progress=False)
    unread = {os.path.splitext(hard.name)[0] for hard in chosen if hard.wanted is None}
    assert len(unread) > 40
    [long] = {os.path.splitext(hard.name)[0] for hard in chosen if len(hard.name) == 255}
    assert "too long a name" in drawn.refused[long]
    unread.add(long)
    assert set(drawn.refused) == unread
    assert set(drawn.written) == {os.path.splitext(hard.name)[0] for hard in chosen} - unread
    for name in drawn.written:
        wanted = next(
            h.wanted for h in chosen if os.path.splitext(h.name)[0] == name and h.wanted is not None
        )
        written = tmp_path / "out" / f"{portable(name)}.png"
        assert datasets.read_mask(written).shape == wanted.shape[:2]


def test_the_command_line_segments_the_others(run, tiny, hard_folder, tmp_path):
    folder, chosen = hard_folder
    wanted = [hard for hard in chosen if hard.wanted is not None][:3]
    unread = [hard for hard in chosen if hard.wanted is None][:4]
    odd = next(
        hard for hard in chosen if hard.name == os.path.basename(os.fsdecode(b"latin-\xe9\xff.png"))
    )
    mixed = [unread[0], wanted[0], *unread[1:], *wanted[1:], odd]
    out = tmp_path / "out"
    words = ("--out", out, "--preset", tiny, "--backbone", "rgb", "--classes", "dog")
    code, _, err = run("segment", *(folder / hard.name for hard in mixed), *words)
    assert code == 2
    for hard in unread:
        assert sum(repr(str(folder / hard.name)) in line for line in err.splitlines()) == 1
    assert f"fslab: {len(unread)} of {len(mixed)} pictures were left out" in err
    masks = {path.name for path in out.glob("*.json")}
    assert masks == {f"{Path(hard.name).stem}.json" for hard in [*wanted, odd]}
    assert "latin-%E9%FF.overlay.png" in (out / "contact.html").read_text()


def test_a_setting_that_fits_no_picture_ends_a_batch(run, tiny, tmp_path):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(noise_picture(16, 16, number).pixels).save(paths[-1])
    words = (
        "--out",
        tmp_path / "out",
        "--preset",
        tiny,
        "--backbone",
        "rgb",
        "--set",
        "cluster.k=99999",
    )
    code, _, err = run("segment", *paths, *words)
    assert code == 2
    assert err.count("K is 99999") == 3
    assert "3 of 3 pictures were left out, as said above; 3 more were not tried" in err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory, rgb):
    """A set whose second picture is cut, third is empty and fourth has a damaged mask; evaluated."""
    root = write_dataset(tmp_path_factory.mktemp("set"), 6)
    pictures, masks = root / "JPEGImages", root / "SegmentationClass"
    odd = os.fsdecode(b"odd-\xff<b>")
    for place in (pictures, masks):
        (place / "noise_5.png").rename(place / f"{odd}.png")
    names = [*(f"noise_{number}" for number in range(5)), odd]
    listed = "\n".join(names).encode("utf-8", "surrogateescape")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(listed)
    whole = (pictures / "noise_1.png").read_bytes()
    (pictures / "noise_1.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "noise_2.png").write_bytes(b"")
    (masks / "noise_3.png").write_bytes(png(np.zeros((64, 64, 3), np.uint8)))
    out = tmp_path_factory.mktemp("report")
    data = datasets.voc(root)
    report = evaluate(rgb, data, PLAIN, "hungarian", out=out, progress=False)
    return report, data, out, odd


def test_an_evaluation_goes_on_and_its_report_lists_what_was_refused(spoilt):
    report, _, out, odd = spoilt
    assert [row.name for row in report.rows] == ["noise_0", "noise_4", odd]
    assert set(report.refused) == {"noise_1", "noise_2", "noise_3"}
    assert report.score.images == 3
    assert "3 of 6 pictures were left out" in report.left_out
    kept = json.loads((out / "report.json").read_text())
    assert kept["refused"] == dict(report.refused)
    assert [json.loads(line)["name"] for line in (out / "results.jsonl").open()] == sorted(
        ["noise_0", "noise_4", odd]
    )


def test_a_page_with_a_name_that_is_no_text_can_be_written(spoilt, rgb, tmp_path):
    report, data, _, _ = spoilt
    page = write_page(report, rgb, data, tmp_path, 3).read_bytes().decode("utf-8")
    body = page.split("<main>")[1]
    assert "odd-\\udcff&lt;b&gt;" in body
    assert "noise_2" in body


@pytest.mark.parametrize(
    "region",
    [
        [[1e300, 0, 5, 5, 0, 5]], [[float("nan")] * 6], [[0, 0, 9e7, 9e7, 0, 9e7]], [[0, 0, 5, 5, 0, "x"]],
        [7], {"counts": [600]}, {"size": [20, 30], "counts": [-1]}, {"size": [20, 30]}, 7, None,
    ],
    ids=str,
)  # fmt: skip
def test_an_outline_that_is_none_is_refused(region):
    from fslab.datasets.coco import Outline

    with pytest.raises(FslabError, match="annotation 3"):
        Outline(1, False, region, "annotation 3").mask(20, 30)


# Fuzzing, a little of it


@pytest.mark.filterwarnings("ignore:.*is not all as it should be")
@pytest.mark.parametrize(("what", "inputs"), [("pictures", 250), ("coco", 400), ("store", 400)])
def test_damaged_input_is_refused_and_nothing_else(tmp_path, monkeypatch, what, inputs):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # targets lower it
    target = TARGETS[what](tmp_path)
    tally = fuzz(target, 7, 0, inputs, 60, tmp_path / "kept")
    assert tally.inputs == inputs
    assert tally.crashes == {}
    assert tally.outcomes["read"] > 0
    assert len(tally.outcomes) > 1


def test_a_crash_would_be_found_and_kept(tmp_path):
    class Fragile(TARGETS["store"]):
        name = "fragile"

        def outcome(self, data: bytes) -> str:
            if len(data) % 2:
                raise ZeroDivisionError("odd")
            return "read"

    tally = fuzz(Fragile(tmp_path / "store"), 0, 10, 40, 60, tmp_path / "kept")
    [(kind, number)] = tally.crashes.items()
    assert kind.startswith("ZeroDivisionError at test_hard_pictures.py")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"fragile-0-{number}"]
    assert tally.outcomes["crashed"] + tally.outcomes["read"] == tally.inputs == 40
