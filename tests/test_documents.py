"""The documents' tables are those that the ablations wrote; the truth's "what if" runs."""

import runpy
from pathlib import Path

import pytest

from fslab.evaluate import read_table
from fslab.records import clustering
from fslab.score import METRICS

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "notebooks/experiments"
TABLES = runpy.run_path(str(EXPERIMENTS / "tables.py"))


@pytest.mark.parametrize("name", ["README.md", "docs/method.md", "docs/results.md"])
def test_tables_are_what_the_ablations_wrote(name):
    text = (ROOT / name).read_text()
    assert "<!-- table " in text
    assert TABLES["filled"](text) == text, "python notebooks/experiments/tables.py " + name


@pytest.mark.parametrize(
    ("document", "parts"), [("clusterings", clustering), ("protocols", METRICS)]
)
def test_every_part_of_a_registry_has_its_row(document, parts):
    rows = [
        line for line in (ROOT / f"docs/{document}.md").read_text().splitlines() if line[:1] == "|"
    ]
    first = " ".join(row.split("|")[1] for row in rows)
    lacking = [name for name, part in parts.items() if part.version and f"`{name}`" not in first]
    assert not lacking


def test_a_changed_figure_is_put_right():
    text = (ROOT / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| fslab |"))
    assert TABLES["filled"](text.replace(row, row.replace("(", "(9"))) == text


def test_ceilings_are_above_what_they_lift(run_ceilings):
    names = [row["name"] for row in run_ceilings]
    assert names[0] == "nothing"
    assert len(names) == len(set(names)) == 5
    nothing, _, named, refined, masks = (row["voc21"] for row in run_ceilings)
    # A majority is no upper bound: thin things lose it, and soft names may keep them.
    assert 0 < named < refined <= 1
    assert 0 < nothing < masks <= 1


@pytest.mark.parametrize("name", ["ceilings", "ceilings-hard"])
def test_ceilings_of_whole_splits_are_above_what_they_lift(name):
    nothing, *_, refined, masks = (
        row["voc21"] for row in read_table(EXPERIMENTS / f"results/{name}.csv")
    )
    assert 0 < nothing < refined <= 1
    assert nothing < masks <= 1


@pytest.fixture
def run_ceilings(tmp_path, monkeypatch):
    out = tmp_path / "ceilings.csv"
    command = ["ceilings.py", str(ROOT / "data/minivoc"), "--limit", "6", "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    runpy.run_path(str(EXPERIMENTS / "ceilings.py"), run_name="__main__")
    return read_table(out)
