"""`fslab evaluate` and `fslab ablate` as a user types them."""

import json

import pytest
from conftest import write_dataset

from fslab.evaluate import read_table
from fslab.evaluate.log import RESULTS
from fslab.evaluate.page import PAGE
from fslab.evaluate.run import REPORT

PLAIN = ("--backbone", "rgb", "--cluster", "kmeans", "--metric", "oracle")


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "set", 3)


def test_a_folder_gets_results_report_and_page(run, root, tmp_path):
    out = tmp_path / "out"
    code, said, _ = run("evaluate", root, *PLAIN, "--out", out)
    assert code == 0
    assert {RESULTS, REPORT, PAGE} <= {path.name for path in out.iterdir()}
    assert str(out / PAGE) in said
    report = json.loads((out / REPORT).read_text())
    for name, score in report["scores"].items():
        assert f"{name} {100 * score['figure']:.1f} over 3 pictures, 95 % interval" in said
    assert next(iter(report["scores"])) == "oracle"
    assert "seconds" not in report
    assert json.loads(run("evaluate", root, *PLAIN, "--json")[1])["scores"] == report["scores"]


def test_missing_files_are_all_named_and_nothing_runs(run, root, tmp_path):
    names = [f"gone_{number}" for number in range(30)]
    listed = root / "ImageSets" / "Segmentation" / "val.txt"
    listed.write_text(listed.read_text() + "\n".join(names) + "\n")
    words = ("evaluate", root, *PLAIN, "--out", tmp_path / "out")
    code, said, wrong = run(*words)
    assert code == 2
    assert not said
    for name in names:
        assert f"JPEGImages/{name}.jpg\n" in wrong
        assert f"SegmentationClass/{name}.png\n" in wrong
    assert "lacks 60 files" in wrong.splitlines()[-1]
    assert "--skip-missing leaves them out" in wrong.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    code, said, _ = run(*words, "--skip-missing")
    assert code == 0
    assert "oracle" in said
    assert "30 of 33 pictures were left out of every figure" in said


def test_a_bad_picture_is_said_at_the_end_and_the_rest_is_kept(run, root, tmp_path):
    (root / "JPEGImages" / "noise_1.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    code, said, wrong = run("evaluate", root, *PLAIN, "--out", tmp_path / "out")
    assert code == 2
    assert "over 2 pictures" in said
    assert wrong.splitlines()[-1].startswith("fslab: 1 of 3 pictures were left out of every figure")
    assert "noise_1.png" in wrong
    assert "noise_1.png" in (tmp_path / "out" / PAGE).read_text()


def test_pictures_without_truth_give_pictures_and_no_score(run, root, tmp_path):
    pictures = root / "JPEGImages"
    code, _, wrong = run("evaluate", pictures, *PLAIN)
    assert code == 2
    assert "has no truth, so there is no score; give --out" in wrong
    code, said, _ = run("evaluate", pictures, *PLAIN, "--out", tmp_path / "out", "--limit", 2)
    assert code == 0
    assert "no score; labels and overlays of 2 pictures" in said
    names = {f"noise_{number}{end}" for number in (0, 1) for end in (".png", ".overlay.png")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


@pytest.mark.parametrize("words", [("--preset", ""), ("--backbone", ""), ("--backbone", " ")])
def test_an_empty_name_is_not_the_current_folder(run, root, words):
    code, _, wrong = run("evaluate", root, "--cluster", "kmeans", "--metric", "oracle", *words)
    assert code == 2
    assert "no preset and no folder ''" in wrong or "backbone is empty" in wrong


def test_coco_metrics_are_not_for_voc(run, root):
    code, _, wrong = run("evaluate", root, "--metric", "coco-object")
    assert code == 2
    assert "take voc21" in wrong


def test_ablate_prints_and_writes_a_table(run, root, tmp_path):
    file = tmp_path / "k.toml"
    file.write_text(
        'title = "K"\nmetrics = ["oracle"]\n[base]\ncluster = "kmeans"\nbackbone = "rgb"\n'
        '[grid]\n"cluster.k" = [2, 5]\n'
    )
    words = ("ablate", file, "--dataset", root, "--out", tmp_path / "out")
    code, said, _ = run(*words)
    assert code == 0
    table = read_table(tmp_path / "out" / "table.csv")
    assert [row["images"] for row in table] == [3, 3]
    lines = [line for line in said.splitlines() if line.startswith("k ")]
    for line, row in zip(lines, table, strict=True):
        assert f"{100 * row['oracle']:.1f} (" in line
    assert f"{100 * table[1]['oracle_gain']:+.1f}" in lines[1]
    assert run(*words)[1] == said
    file.write_text(file.read_text().replace("oracle", "nosuch"))
    code, said, wrong = run(*words)
    assert code == 2
    assert not said
    assert "k.toml: there is no metric 'nosuch'" in wrong
