"""The house: imports go one way, nothing heavy is imported early."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fslab"

GROUND = (
    "html", "names", "errors", "vectors", "parts", "records", "keys", "files", "overtaking", "heads", "tap",
    "edits", "process", "room", "devices", "versions", "recent",
)  # fmt: skip
SIDE_BY_SIDE = ("backbones", "cluster", "correspond", "exports", "refine", "score", "plots")
MODELS = ("extract", "captions", "match")
FLOORS = [
    *({name} for name in GROUND),
    {"store"},
    {"batches"},
    {"weights"},
    {"datasets"},
    {*SIDE_BY_SIDE},
    {*MODELS},
    {"tune"},
    {"lab"},
    {"evaluate"},
    {"widgets"},
    {"app"},
    {"cli"},
]
MAY_IMPORT = {"mini": {"errors", "records", "files", "datasets"}}
for level, floor in enumerate(FLOORS):
    for room in floor:
        MAY_IMPORT[room] = set().union(*FLOORS[:level])
MAY_IMPORT["cli"] |= {"mini"}
MAY_IMPORT["app"] |= {"mini"}


def rooms():
    return {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()} - {
        "__init__", "__main__", "__pycache__", "py",  # py.typed
    }  # fmt: skip


def imported(path):
    """Rooms of fslab that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module] if node.module != "fslab" else [f"fslab.{x.name}" for x in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("fslab."):
                yield name.split(".")[1]


def test_every_room_has_a_floor():
    assert rooms() == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_go_one_way(room):
    home = PACKAGE / room
    files = sorted(home.rglob("*.py")) if home.is_dir() else [home.with_suffix(".py")]
    attributes = {"__version__"}
    for path in files:
        beyond = set(imported(path)) - {room} - MAY_IMPORT[room] - attributes
        assert not beyond, f"{path.relative_to(ROOT)} imports {beyond}"


OPENS_PICKLES = "weights/unpickle.py"
"""The one program that does, in a process of its own, when a model is fetched."""


def test_nothing_unsafe_is_written():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for pattern in (
            r"trust_remote_code",
            r"\b(import|from) pickle\b",
            r"weights_only=False",
            r"except Exception",
            r"except:",
        ):
            assert not re.search(pattern, text), f"{path.relative_to(ROOT)}: {pattern}"
        loads = re.findall(r"torch\.load\b[^\n]*", text)
        if path.relative_to(PACKAGE).as_posix() == OPENS_PICKLES:
            assert len(loads) == 1
            assert "weights_only=True" in loads[0]
        else:
            assert not loads, path


def test_nothing_imports_the_program_that_opens_pickles():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"import.*\bunpickle\b", path.read_text(encoding="utf-8")), path


def test_the_quick_tests_are_there_and_reach_every_room():
    quick = (ROOT / "tests" / "quick.txt").read_text().split()
    assert quick == sorted(set(quick))
    reached = set()
    for name in quick:
        file, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), name
        reached.update(imported(ROOT / file))
    assert rooms() <= reached, f"no file of tests/quick.txt imports {rooms() - reached}"


def test_importing_fslab_is_light():
    code = (
        "import sys, fslab; heavy = {'torch', 'diffusers', 'transformers', 'plotly', 'sklearn', 'PIL'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import fslab

    for name in fslab.__all__:
        assert getattr(fslab, name) is not None


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_conda_environment_is_python_pip_a_compiler_and_the_package():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert {re.split(r"[ =<>]", entry)[0] for entry in plain} == {"python", "pip", "cxx-compiler"}
    (python,) = [entry for entry in plain if entry.startswith("python")]
    version = tuple(map(int, python.split("=")[1].split(".")))
    assert project()["requires-python"] == ">=3.11,<3.15"
    assert (3, 11) <= version < (3, 15)
    (editable,) = [line for line in pip if line.startswith("-e")]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", editable)[1].split(",")
    assert set(extras) <= set(project()["optional-dependencies"])
    assert "dev" in extras


def test_every_dependency_is_pinned_within_its_range():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = [*project()["dependencies"]]
    wanted += [entry for extra in project()["optional-dependencies"].values() for entry in extra]
    for entry in map(Requirement, wanted):
        name = canonicalize_name(entry.name)
        assert name in pins, f"{name} is not pinned"
        assert entry.specifier.contains(pins[name]), (
            f"{name} {pins[name]} is outside {entry.specifier}"
        )
