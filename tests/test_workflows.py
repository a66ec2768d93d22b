"""What runs and asks elsewhere: least permissions, pinned actions, make targets that exist."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
FORMS = [path for path in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml") if path.stem != "config"]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def steps(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_pins_its_actions(path):
    text = path.read_text()
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    assert not [use for use in used if not re.fullmatch(r"actions/[\w-]+@v\d+", use)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_targets_that_the_makefile_has(path):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    runs = "\n".join(step["run"] for step in steps(path) if "run" in step)
    made = {
        word
        for line in re.findall(r"\bmake (.+)", runs)
        for word in line.split()
        if "=" not in word
    }
    assert made
    assert made <= set(targets)


def test_the_tests_run_on_every_python_that_the_package_takes():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    run = set(jobs["test"]["strategy"]["matrix"]["python"])
    taken = SpecifierSet(project()["requires-python"])
    assert {
        version for version in ("3.10", "3.11", "3.12", "3.13", "3.14") if version in taken
    } <= run


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_every_issue_form_asks_for_what_doctor_says(path):
    asked = [part["attributes"]["label"] for part in yaml.safe_load(path.read_text())["body"]]
    assert any("fslab doctor" in label for label in asked)


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert [part["title"].partition(":")[0] for part in citation["references"]] == ["FreeSeg-Diff"]
