"""`fslab reproduce`: ours beside the published figures, by the protocol that made them."""

import json
from pathlib import Path

MINIVOC = str(Path(__file__).parents[1] / "data" / "minivoc")


def test_both_figures_stand_beside_the_published_one_and_say_what_they_are(run, tmp_path):
    out = tmp_path / "out"
    asked = ("voc", MINIVOC, "--preset", "mini", "--limit", "4", "--out", str(out))
    code, printed, _ = run("reproduce", *asked)
    assert code == 0
    report = json.loads((out / "voc-mini" / "report.json").read_text())
    released = report["scores"]["per-image-released"]["miou"]
    standard = report["scores"]["voc21"]["miou"]
    row = next(line for line in printed.splitlines() if line.startswith("per-image-released"))
    assert f"{100 * released:.1f}" in row
    assert row.endswith("53.3")
    row = next(line for line in printed.splitlines() if line.startswith("voc21"))
    assert f"{100 * standard:.1f}" in row
    assert row.endswith("none")
    assert "mini-VOC val: 4 of 200 pictures" in printed
    assert "No reproduction: the published figure is of sd14, this one of mini" in printed
    assert report["recipe"]["name"] == "freeseg-diff"


def test_it_goes_on_where_it_was(run, tmp_path, monkeypatch):
    from fslab.evaluate import run as running

    asked = ("reproduce", "voc", MINIVOC, "--preset", "mini", "--out", str(tmp_path), "--limit")
    run(*asked, "2")
    seen = []
    score = running.score_samples

    def told(lab, job, samples, *more, **named):
        samples = list(samples)
        seen.extend(sample.name for sample in samples)
        return score(lab, job, samples, *more, **named)

    monkeypatch.setattr(running, "score_samples", told)
    run(*asked, "3")
    assert seen == ["val_0002"]


def test_all_that_is_missing_is_said_at_once(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    code, _, err = run("reproduce", "voc")
    assert code == 2
    assert "fslab fetch sd14" in err
    assert "fslab fetch voc data" in err
    code, _, err = run("reproduce", "ade")
    assert code == 2
    assert "voc and coco" in err


def test_coco_has_the_protocol_that_made_its_figure(run, tmp_path):
    from test_truth_coco import GOOD, OTHER, write_set

    data = write_set(tmp_path / "set", [GOOD, OTHER])
    code, printed, err = run("reproduce", "coco", data, "--preset", "mini", "--out", tmp_path)
    assert code == 0, err
    row = next(line for line in printed.splitlines() if line.startswith("per-image, "))
    assert row.endswith("31.0")
    assert "coco-object, the standard one" in printed
    assert "5,000 pictures of COCO val2017, this one of 2 of set val2017" in printed
