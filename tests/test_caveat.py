"""The preset mini knows drawn scenes only, and says so of anything else; the default preset."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_picture

import fslab
from fslab.lab.drawn import looks_drawn, statistics
from fslab.mini.scenes import scene
from fslab.records import FslabError, Picture

MINIVOC = Path(__file__).parents[1] / "data" / "minivoc"
SAID = "drawn world"


def photograph_like(seed=0, size=(240, 320)):
    """A picture with a photograph's power by frequency, which falls as one over it, and grain."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    radius = np.maximum(np.hypot(rows, columns), 1 / max(size))
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=size)) / radius, size) for _ in range(2)]
    grey, tint = (plane / plane.std() for plane in planes)
    image = 120 + 45 * grey[..., None] + 9 * tint[..., None] * np.array([1.0, 0.2, -1.0])
    return Picture(np.clip(image, 0, 255).astype(np.uint8), f"photo-{seed}")


def test_most_scenes_are_drawn_and_most_other_pictures_are_not():
    scenes = [Picture(scene(31, number).pixels) for number in range(40)]
    assert sum(map(looks_drawn, scenes)) >= 37
    assert not any(looks_drawn(photograph_like(seed)) for seed in range(8))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (96, 96), (3000, 20)])
@pytest.mark.parametrize("value", [0, 120, 255])
def test_blank_pictures_have_finite_statistics_and_are_no_scenes(size, value):
    blank = np.full((*size, 3), value, np.uint8)
    assert np.isfinite(statistics(blank)).all()
    assert not looks_drawn(Picture(blank))


def test_noise_and_stripes_are_no_scenes():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[::8] = 255
    assert not looks_drawn(noise_picture(128, 128))
    assert not looks_drawn(Picture(stripes))


def test_a_lab_says_it_of_minis_text_side_only(blip, clip):
    lab, photo = fslab.Lab("mini"), photograph_like()
    assert "fslab fetch sd15" in lab.caveat(photo)
    assert lab.caveat(Picture(scene(31, 0).pixels)) == ""
    assert fslab.Lab("mini", backbone="rgb").caveat(photo)
    assert fslab.Lab("mini", captioner=str(blip), clip=str(clip)).caveat(photo) == ""


def test_segment_says_it_once_and_in_each_json(run, tmp_path):
    from PIL import Image

    for seed in range(2):
        Image.fromarray(photograph_like(seed).pixels).save(tmp_path / f"photo{seed}.png")
    drawn = MINIVOC / "JPEGImages" / "val_0001.png"
    given = [str(tmp_path / "photo0.png"), str(tmp_path / "photo1.png"), str(drawn)]
    code, _, err = run("segment", *given, "--out", str(tmp_path / "out"))
    assert code == 0
    assert err.count(SAID) == 1
    assert "2 of 3 pictures do not look like" in err
    said = {
        name: json.loads((tmp_path / "out" / f"{name}.json").read_text())["caveat"]
        for name in ("photo0", "photo1", "val_0001")
    }
    assert SAID in said["photo0"]
    assert said["val_0001"] == ""


def dataset_of(root, pictures):
    from PIL import Image

    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture.pixels).save(root / "JPEGImages" / f"p{number}.png")
        mask = np.zeros(picture.size, np.uint8)
        mask[:20, :20] = 12
        Image.fromarray(mask).save(root / "SegmentationClass" / f"p{number}.png")
    names = [f"p{number}" for number in range(len(pictures))]
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names))
    return root


def test_an_evaluation_says_it_in_its_report_and_page(run, tmp_path):
    photos = dataset_of(tmp_path / "photos", [photograph_like(seed) for seed in range(3)])
    _, _, err = run("evaluate", str(photos), "--out", str(tmp_path / "out"))
    assert err.count(SAID) == 1
    assert SAID in (tmp_path / "out" / "report.html").read_text()
    assert SAID in json.loads((tmp_path / "out" / "report.json").read_text())["caveat"]
    _, out, err = run("evaluate", str(MINIVOC), "--limit", "3", "--json")
    assert SAID not in err
    assert json.loads(out.splitlines()[-1])["caveat"] == ""
    code, _, err = run("evaluate", str(photos), "--cluster", "kmeans", "--metric", "hungarian")
    assert code == 0
    assert SAID not in err


def test_explorers_say_it_of_the_picture_on_screen():
    from fslab.widgets import explore_refinement

    pictures = [photograph_like(), Picture(scene(31, 0).pixels, "scene")]
    explorer = explore_refinement(fslab.Lab("mini"), pictures)
    explorer.wait()
    assert explorer._caveat.layout.display is None
    assert SAID in explorer._caveat.value
    explorer.picture = "scene"
    explorer.wait()
    assert explorer._caveat.layout.display == "none"


def test_the_environment_names_the_default_preset(monkeypatch, run, diffusion_folders):
    folder = diffusion_folders["sd1"]
    monkeypatch.setenv("FSLAB_PRESET", str(folder))
    assert fslab.Lab().preset.diffusion == str(folder)
    assert folder.name in run("layers")[1]
    assert "mini" in run("layers", "mini")[1]
    monkeypatch.setenv("FSLAB_PRESET", "  ")
    assert fslab.Lab().preset.name == "mini"
    monkeypatch.setenv("FSLAB_PRESET", "sd51")
    with pytest.raises(FslabError, match=r"FSLAB_PRESET is 'sd51'.*did you mean"):
        fslab.Lab()


def test_the_command_line_takes_another_text_side(run, blip, clip, tmp_path):
    picture = MINIVOC / "JPEGImages" / "val_0001.png"
    text = ("--captioner", str(blip), "--clip", str(clip))
    code, _, err = run("segment", str(picture), *text, "--out", str(tmp_path / "out"))
    assert (code, err.count("fslab:")) == (0, 0)
    said = json.loads((tmp_path / "out" / "val_0001.json").read_text())
    plain = fslab.Lab("mini").caption(fslab.read(picture)).text
    assert said["caption"] != plain
    code, _, err = run("segment", str(picture), "--clip", "no/clip", "--out", str(tmp_path))
    assert code == 2
    assert "no/clip" in err
