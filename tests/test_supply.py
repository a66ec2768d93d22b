"""What is installed is what was tried: every package pinned, every file known by its hash."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
INSTALLED = ("requirements.txt", "requirements-build.txt", "requirements-book.txt")
LOCKED = (*INSTALLED, "requirements-reference.txt")


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Package -> (version, its files' hashes); every line of the file is accounted for."""
    found: dict[str, tuple[str, list[str]]] = {}
    package = None
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("#"):
            continue
        digest = re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})( \\)?", line)
        if digest:
            found[package][1].append(digest[1])
            continue
        pin = re.fullmatch(r"([\w.-]+)==([\w.]+)( ; .+?)? \\", line)
        assert pin, f"{name}: {line!r} is no pin with hashes"
        package = canonicalize_name(pin[1])
        found[package] = pin[2], []
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", LOCKED)
def test_every_package_has_hashes(name):
    found = locked(name)
    assert found
    assert not [package for package, (_, hashes) in found.items() if not hashes]


@pytest.mark.parametrize("name", LOCKED)
def test_the_versions_are_those_that_were_tried(name):
    known = pins()
    differing = {
        package: (version, known[package])
        for package, (version, _) in locked(name).items()
        if package in known and version != known[package]
    }
    assert not differing, "run .ci/lock"


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_every_package_runs_on_the_first_release_of_each_python(python):
    known = locked("requirements.txt") | locked("requirements-build.txt")
    installed = [one for one in distributions() if canonicalize_name(one.name) in known]
    assert len(installed) > 50
    asked = {one.name: one.metadata.get("Requires-Python", "") for one in installed}
    refusing = {name: asks for name, asks in asked.items() if python not in SpecifierSet(asks)}
    assert not refusing, (
        "a system's Python is seldom its newest: pin an older version, run .ci/lock"
    )


def test_what_the_project_asks_for_is_locked():
    found = locked("requirements.txt")
    asked = project()["project"]
    extras = asked["optional-dependencies"]
    for entry in map(Requirement, asked["dependencies"] + extras["dev"] + extras["lab"]):
        name = canonicalize_name(entry.name)
        if name == "torch":  # the registry's file and a CPU build differ: see docs/security.md
            assert name not in found
            continue
        assert name in found, f"{name} is not in requirements.txt; run .ci/lock"
        assert entry.specifier.contains(found[name][0])


def test_what_makes_the_book_is_locked_in_the_versions_of_the_rest():
    found, rest = locked("requirements-book.txt"), locked("requirements.txt")
    for entry in map(Requirement, project()["project"]["optional-dependencies"]["book"]):
        assert entry.specifier.contains(found[canonicalize_name(entry.name)][0])
    assert not [name for name in found if rest.get(name, found[name]) != found[name]]


def test_what_builds_the_project_is_locked():
    found = locked("requirements-build.txt")
    asked = map(Requirement, project()["build-system"]["requires"])
    assert {canonicalize_name(entry.name) for entry in asked} <= set(found)


def test_installing_asks_for_hashes():
    makefile = (ROOT / "Makefile").read_text()
    installs = [line for line in makefile.splitlines() if " pip install " in line]
    for name in INSTALLED:
        (line,) = [line for line in installs if line.endswith(f"-r {name}")]
        assert "--require-hashes" in line
        assert "--no-deps" in line


def test_every_dependency_s_licence_is_listed():
    rows = re.findall(
        r"^\| ([\w.-]+) \| (\S+) \| (.+) \|$", (ROOT / "docs" / "licences.md").read_text(), re.M
    )
    listed = {canonicalize_name(name): version for name, version, _ in rows}
    found = locked("requirements.txt") | locked("requirements-build.txt")
    for entry in map(Requirement, project()["project"]["dependencies"]):
        name = canonicalize_name(entry.name)
        if name == "torch":
            assert name in listed
            continue
        assert listed.get(name) == found[name][0], f"run .ci/licences.py: {name}"


def test_every_sheet_of_sprites_has_its_licence():
    sprites = ROOT / "fslab" / "mini" / "sprites"
    text = (sprites / "LICENSES.md").read_text()
    sheets = [path.name for path in sprites.glob("*.webp")]
    assert sheets
    assert not [name for name in sheets if f"`{name}`" not in text]
