"""Registries, and what tells one part from another."""

import importlib
import math
import os
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Lock
from types import ModuleType

import numpy as np
import pytest

from fslab import parts
from fslab.parts import Part, Registry, identity, named_object, versioned
from fslab.records import FslabError


@dataclass(frozen=True, kw_only=True)
class Colour(Part):
    bright: bool = False


def registry():
    return Registry("colour", Colour, "fslab.colours")


def test_a_part_is_found_by_name_in_the_order_in_which_it_came():
    colour = registry()

    @colour("red", bright=True)
    def red():
        return 1

    colour.add("pi", "math:pi", version=3)
    assert list(colour) == ["red", "pi"]
    assert red() == 1
    assert colour["red"].bright
    assert colour.find("pi").function == math.pi
    with pytest.raises(FslabError, match=r"no colour 'rad'; there is red, pi; did you mean red\?"):
        colour.find("rad")
    with pytest.raises(KeyError):
        colour["rad"]


def test_a_name_is_taken_once_and_a_cell_may_run_again():
    colour = registry()

    def make():
        def red():
            return 1

        return red

    colour.add("red", make())
    colour.add("red", make())
    with pytest.raises(FslabError, match="there is a colour 'red' already"):
        colour.add("red", math.sin)
    with pytest.raises(FslabError, match=r"colour 'blue'.*unexpected keyword argument 'loud'"):
        colour("blue", loud=True)(math.sin)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes a module and offers names of it as entry points."""
    monkeypatch.syspath_prepend(tmp_path)

    def offer(text, *names):
        monkeypatch.delitem(importlib.sys.modules, "their_package", raising=False)
        (tmp_path / "their_package.py").write_text(text)
        found = [EntryPoint(name, "their_package", "fslab.colours") for name in names]
        monkeypatch.setattr(parts, "entry_points", lambda group: found)

    return offer


def test_packages_of_others_offer_parts_and_are_imported_when_asked_for(package, monkeypatch):
    colour = registry()
    monkeypatch.setattr("fslab.colours_of_a_test", colour, raising=False)
    text = "import fslab\n@fslab.colours_of_a_test('teal')\ndef teal(): return 7\n"
    package(text, "teal", "mauve")
    assert list(colour) == ["teal", "mauve"]
    assert colour.find("teal").function() == 7
    with pytest.raises(
        FslabError, match=r"package their_package offers the colour 'mauve'.*no part"
    ):
        colour.find("mauve")


def test_two_packages_of_one_name_are_told_apart(monkeypatch):
    """The one that came last was taken."""
    found = [EntryPoint("teal", home, "fslab.colours") for home in ("one_package", "other_package")]
    monkeypatch.setattr(parts, "entry_points", lambda group: found)
    assert list(registry()) == ["teal"]
    with pytest.raises(FslabError, match=r"several of colour 'teal': one_package, other_package"):
        registry().find("teal")


def test_a_broken_package_is_named(package):
    package("import no_such_module_at_all", "grey")
    with pytest.raises(FslabError, match=r"their_package.*'grey'.*ModuleNotFoundError.*mend"):
        registry().find("grey")


def test_a_dotted_name_is_read_or_refused():
    assert named_object("math:sin") is math.sin
    for wrong in ("math", "math:", ":sin", "math:sine", "no_such_module_at_all:x"):
        with pytest.raises(FslabError, match=f"{wrong.partition(':')[0] or ':sin'}"):
            named_object(wrong)


OWN = """
import numpy as np
{helper}
LEVEL = {level}
class Base:
    def near(self): return {near}
class Machine(Base):
    def __init__(self, state): self.state = state
    def __call__(self, x): return self.state * x + self.near()
def make(extra):
    def inner(x): return [y + extra for y in (lambda z: z * LEVEL)(x)]
    return inner
def work(x, by={default}):
    return [helper(each) * LEVEL for each in x]
"""
USUAL = {"helper": "def helper(x): return x + 1", "level": "2", "near": "1", "default": "1"}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that imports a module of one's own with some of it written otherwise."""
    monkeypatch.syspath_prepend(tmp_path)
    count = iter(range(100))

    def read(**changes):
        folder = tmp_path / f"{next(count)}"
        folder.mkdir()
        (folder / "own_module.py").write_text(OWN.format(**{**USUAL, **changes}))
        spec = importlib.util.spec_from_file_location("own_module", folder / "own_module.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(importlib.sys.modules, "own_module", module)
        spec.loader.exec_module(module)
        return module

    return read


CHANGES = {
    "its default": {"default": "2"}, "a helper": {"helper": "def helper(x): return x + 2"},
    "a constant": {"level": "3"}, "an array": {"level": "np.ones(3)"},
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_function_is_known_by_all_that_it_reads(written, what):
    same = identity(written().work)
    assert same.startswith("own_module:work#")
    assert identity(written().work) == same
    assert identity(written(**CHANGES[what]).work) != same


def test_closures_objects_methods_and_partials_are_known_by_their_state(written):
    own = written()
    for make in (
        own.make,
        own.Machine,
        lambda s: partial(own.work, by=s),
        lambda s: own.Machine(s).near,
    ):
        assert identity(make(1)) == identity(make(1)) != identity(make(2))
    first = identity(own.make(1)), identity(own.Machine(1))
    assert identity(written(level="3").make(1)) != first[0]  # which a lambda inside reads
    assert identity(written(near="2").Machine(1)) != first[1]  # a method of the base class


def test_a_file_that_was_edited_since_it_was_imported_names_no_other_results(written):
    """The old code runs on under the new source: it must get neither's results."""
    own = written()
    before = identity(own.work)
    path = Path(own.__file__)
    path.write_text(path.read_text().replace("* LEVEL for", "+ LEVEL for"))
    later = path.stat().st_mtime + 2  # Python takes bytecode of the same second for the file's own
    os.utime(path, (later, later))
    edited = identity(own.work)
    own.__spec__.loader.exec_module(own)
    assert len({before, edited, identity(own.work)}) == 3


REACHED = {
    "a helper behind a cache": (
        "import functools\n@functools.cache\ndef near(x): return x + {}\n"
        "def work(x): return near(x)"
    ),
    "a helper without gradients": (
        "import torch\n@torch.no_grad()\ndef near(x): return x + {}\ndef work(x): return near(x)"
    ),
    "a compiled helper": (
        "import numba\n@numba.njit\ndef near(x): return x + {}\ndef work(x): return near(x)"
    ),
    "a compiled function": "import numba\n@numba.njit\ndef work(x): return x + {}",
    "a function without gradients": "import torch\n@torch.no_grad()\ndef work(x): return x + {}",
    "what is imported inside": "def work(x):\n    from own_helper import near\n    return near(x)",
    "a module's number": "import own_helper\ndef work(x): return x * own_helper.LEVEL",
    "a class's number": "class Near: level = 1\nNear.level = {}\ndef work(x): return Near.level",
    "a cached property": (
        "import functools\nLEVEL = {}\nclass Near:\n    @functools.cached_property\n"
        "    def level(self): return LEVEL\ndef work(x): return Near().level"
    ),
    "a decorator around a version": (
        "import functools\nfrom fslab.parts import versioned\ndef times(n):\n"
        "    def around(g):\n        @functools.wraps(g)\n        def run(x): return n * g(x)\n"
        "        return run\n    return around\n@times({})\n@versioned(1)\ndef work(x): return x"
    ),
    "the object of a method with a version": (
        "from fslab.parts import versioned\nclass Near:\n    def __init__(self, n): self.n = n\n"
        "    @versioned(1)\n    def go(self, x): return x * self.n\nwork = Near({}).go"
    ),
    "a method of a table": "near = {{1: {}}}.get\ndef work(x): return near(x)",
    "a masked array": "import numpy as np\nM = np.ma.masked_equal([1, 2], {})\ndef work(x): return M",
    "a tensor": "import torch\nW = torch.ones(2) * {}\ndef work(x): return x * W",
    "an estimator": "from sklearn.cluster import KMeans\nwork = KMeans({}).fit_predict",
    "a pattern": "import re\nNEAR = re.compile('{}')\ndef work(x): return NEAR.match(x)",
    "a class that takes a method of Python's": (
        "class Near:\n    __hash__ = object.__hash__\n    level = {}\ndef work(x): return Near.level"
    ),
    "a slot": (
        "class Near:\n    __slots__ = ('n',)\n    def __init__(self, n): self.n = n\n"
        "near = Near({})\ndef work(x): return near.n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REACHED)
def test_what_a_function_reaches_counts(what, tmp_path, monkeypatch):
    """Each gave one name to two functions, or was refused."""
    monkeypatch.syspath_prepend(tmp_path)

    def read(number):
        for name, text in {
            "own_helper": "LEVEL = {0}\ndef near(x): return x + {0}", "own_work": REACHED[what],
        }.items():  # fmt: skip
            monkeypatch.delitem(importlib.sys.modules, name, raising=False)
            path = tmp_path / f"{name}{number}.py"
            path.write_text(text.format(number))
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(importlib.sys.modules, name, module)
            spec.loader.exec_module(module)
        return identity(module.work)

    assert read(1) == read(1) != read(2)


def test_a_number_set_anew_in_a_module_counts(monkeypatch):
    module = ModuleType("own_helper")
    module.LEVEL = 1
    monkeypatch.setitem(importlib.sys.modules, "own_helper", module)
    monkeypatch.setitem(globals(), "own_helper", module)
    monkeypatch.setattr(module, "__file__", __file__, raising=False)

    def work(x):
        return x * own_helper.LEVEL  # noqa: F821

    before = identity(work)
    module.LEVEL = 2
    assert identity(work) != before


def test_a_global_that_is_only_an_attributes_name_does_not_count(monkeypatch):
    def work(x):
        return x.registry_of_locks

    before = identity(work)
    monkeypatch.setitem(globals(), "registry_of_locks", Lock())
    assert identity(work) == before


def test_a_package_of_one_s_own_whose_init_is_empty_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "near.py").write_text("def near(x): return x + 1")

    def work(x):
        import own_package.near

        return own_package.near.near(x)

    before = identity(work)
    monkeypatch.setattr("own_package.near.near", lambda x: x + 2)
    assert identity(work) != before


def test_random_numbers_from_outside_are_refused():
    numbers = np.random.default_rng(0)
    with pytest.raises(FslabError, match=r"other numbers at every call.*inside the function"):
        identity(lambda x: numbers.random())


def test_code_beside_the_package_is_no_part_of_it():
    beside = f"{Path(parts.__file__).parent}_own.py"
    assert not beside.startswith(parts._installed_folders())


def test_what_cannot_be_told_apart_is_refused_with_what_to_do():
    spoken = eval("lambda x: x + 1")
    kept = Lock()

    def closed(x):
        return kept

    for function, why in {spoken: "source", np.dot: "compiled", closed: "no digest"}.items():
        with pytest.raises(FslabError, match=rf"cannot be told .*{why}.*parts\.versioned\(1\)"):
            identity(function)
    assert identity(versioned(1)(spoken)).endswith("<lambda>@1")
    with pytest.raises(FslabError, match="5 is not a function"):
        identity(5)


def test_a_built_in_is_its_name_and_version():
    colour = registry()
    assert identity(colour.add("pi", "math:pi", version=3)) == "pi-3"
    assert identity(colour.add("mine", test_a_built_in_is_its_name_and_version)).startswith("mine ")
