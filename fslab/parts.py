"""Parts that are found by name, this package's and others', and what tells two parts apart."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import version as version_of
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, TypeVar

import numpy as np

from fslab.errors import FslabError

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound="Part")

_VERSION = "__fslab_version__"
_BROKEN = (
    ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, LookupError,
    OSError, RuntimeError,
)  # fmt: skip
"""What importing a package of somebody else's may raise."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a registry knows of a part; each kind of part adds its own facts.

    run: what does the work, or where it is, "package.module:function", imported when it is needed.
    version: kept by hand, and raised where `run` gives other results; a part without one is known
    by its source.
    """

    name: str
    run: Callable[..., Any] | str
    version: int | None = None

    @property
    def function(self) -> Callable[..., Any]:
        """What does the work."""
        return named_object(self.run) if isinstance(self.run, str) else self.run


class Registry(Mapping[str, P], Generic[P]):
    """Parts of one kind by name, in the order in which they came.

    kind: in words, "clustering". record: the class of its parts. group: the entry points by which
    other packages offer parts, one a name; a package is imported when its part is asked for.

    As a decorator it takes a function in: `@clustering("meanshift", settings=MeanShift)`.
    """

    def __init__(self, kind: str, record: type[P], group: str) -> None:
        self.kind, self.group = kind, group
        self._record = record
        self._parts: dict[str, P] = {}

    def __call__(self, name: str, **facts: Any) -> Callable[[F], F]:
        """Return a decorator that adds a function under a name; facts as in the kind's record."""

        def take(function: F) -> F:
            self.add(name, function, **facts)
            return function

        return take

    def add(self, name: str, run: Callable[..., Any] | str, **facts: Any) -> P:
        """Add a part and return it; the same function again, as a cell is run again, replaces it.

        Raises FslabError for a name that is taken, and for facts that parts of this kind lack.
        """
        before = self._parts.get(name)
        if before is not None and _place(before.run) != _place(run):
            raise FslabError(
                f"there is a {self.kind} {name!r} already, {_place(before.run)}; give another name"
            )
        try:
            part = self._record(name=name, run=run, **facts)
        except TypeError as error:
            raise FslabError(f"{self.kind} {name!r}: {error}") from error
        self._parts[name] = part
        return part

    def find(self, name: str) -> P:
        """Return a part by name; FslabError offers the nearest names, and lists all."""
        if name in self._parts:
            return self._parts[name]
        offered = self._offered().get(name)
        if offered is None:
            raise FslabError(f"there is no {self.kind} {name!r}; {self.offer(name)}")
        return self._load(offered)

    def offer(self, name: str) -> str:
        """Say which names there are, and which of them are near one that is not."""
        near = get_close_matches(str(name), list(self), n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"there is {', '.join(self)}{hint}"

    def __getitem__(self, name: str) -> P:
        if name not in self:
            raise KeyError(name)
        return self.find(name)

    def __contains__(self, name: object) -> bool:
        return name in self._parts or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._parts, *self._offered())))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _offered(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _load(self, entry: EntryPoint) -> P:
        package = entry.dist.name if entry.dist else entry.value
        what = f"the package {package} offers the {self.kind} {entry.name!r} ({entry.value})"
        mend = "mend that package, or remove it"
        try:
            entry.load()
        except _BROKEN as error:
            said = f"{type(error).__name__}: {error}"
            raise FslabError(f"{what}, and it cannot be imported: {said}; {mend}") from error
        if entry.name not in self._parts:
            raise FslabError(f"{what}, and it adds no part of that name; {mend}")
        return self._parts[entry.name]


def named_object(dotted: str) -> Any:
    """Return what "package.module:name" names; FslabError where there is nothing."""
    module, _, name = dotted.partition(":")
    if not module or not name:
        raise FslabError(f"{dotted!r} names no function; write package.module:function")
    try:
        return functools.reduce(getattr, name.split("."), import_module(module))
    except _BROKEN as error:
        said = f"{type(error).__name__}: {error}"
        raise FslabError(f"{dotted!r} cannot be imported: {said}") from error


def call(function: Callable[..., Any], *given: Any, **by_name: Any) -> Any:
    """Call a function of somebody's own, with those named arguments that it has parameters for."""
    known = inspect.signature(function).parameters
    return function(*given, **{name: value for name, value in by_name.items() if name in known})


def versioned(version: int | str) -> Callable[[F], F]:
    """Return a decorator that gives a function a version by hand, in the place of its source.

    For what cannot be told apart by source: raise it whenever results change.
    """

    def mark(function: F) -> F:
        setattr(function, _VERSION, version)
        return function

    return mark


def qualified(function: Callable[..., Any]) -> str:
    """Return a callable's name as "module:name"; of an object the name of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def identity(part: Part | Callable[..., Any]) -> str:
    """Name a part so that two with one name give the same results, as far as code can tell.

    A part with a version: its name and version. Another, and any callable: its qualified name and
    a digest of its source, its compiled code, its defaults, and what it reads from around it:
    closures, data, and functions, classes and modules of one's own; those of installed packages
    count by their version. A callable object and a bound method have their object's state too.
    Raises FslabError where that cannot be known (no source, data that cannot be written down),
    and says what to do.
    """
    if isinstance(part, Part):
        if part.version is not None:
            return f"{part.name}-{part.version}"
        return f"{part.name} {identity(part.function)}"
    if not callable(part):
        raise FslabError(f"{part!r} is no function; give one, or an object that can be called")
    version = _version_of(part)
    if version is not None:
        return f"{qualified(part)}@{version}"
    said = json.dumps(_Reader(part).said(part))
    return f"{qualified(part)}#{hashlib.sha256(said.encode()).hexdigest()[:32]}"


class _Reader:
    """Says in plain data what a callable is made of; each thing once, so that circles end."""

    def __init__(self, asked: Callable[..., Any]) -> None:
        self._asked = asked
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []  # an id is an object's own only while it is alive

    def said(self, value: Any) -> Any:
        """Return a value as JSON has it: data by content, code by its source."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return [type(value).__name__, repr(value)]
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufcSUmM":
            array = np.ascontiguousarray(value)
            return [
                "array",
                array.dtype.str,
                array.shape,
                hashlib.sha256(array.tobytes()).hexdigest(),
            ]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._held.append(value)
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(self.said, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", sorted(map(repr, value))]
        if isinstance(value, Mapping):
            return ["dict", [[self.said(key), self.said(each)] for key, each in value.items()]]
        if isinstance(value, Path):
            return ["path", str(value)]
        return self._said_of_code(value)

    def _said_of_code(self, value: Any) -> Any:
        if _version_of(value) is not None:
            return [qualified(value), _version_of(value)]
        if isinstance(value, functools.partial):
            return ["partial", *map(self.said, (value.func, value.args, value.keywords))]
        if isinstance(value, MethodType):
            return ["method", self.said(value.__func__), self.said(value.__self__)]
        if value is not self._asked and _is_code(value) and _is_installed(value):
            return ["installed", *_installed(value)]
        if isinstance(value, FunctionType):
            return self._said_of_function(value)
        if isinstance(value, (type, ModuleType)):
            return self._said_of_members(value)
        if _is_code(value):
            raise self._unknown("it is compiled, and has no source")
        if hasattr(value, "fingerprint"):  # of a model: it names its weights
            return [self.said(type(value)), self.said(value.fingerprint)]
        if hasattr(value, "__dict__") and not _is_installed(type(value)):
            return [self.said(type(value)), self.said(vars(value))]
        raise self._unknown(
            f"it uses {value!r:.60}, a {type(value).__name__}, whose content no digest can name"
        )

    def _said_of_function(self, function: FunctionType) -> Any:
        code = function.__code__
        known = function.__globals__
        around = {name: known[name] for name in _names(code) if name in known}
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        around |= {name: cell.cell_contents for name, cell in cells}
        return [
            qualified(function), self._source(function), _code(code),
            self.said([function.__defaults__, function.__kwdefaults__]),
            [[name, self.said(around[name])] for name in sorted(around)],
        ]  # fmt: skip

    def _said_of_members(self, owner: type | ModuleType) -> Any:
        """Say what a class or a module of one's own is: its source, and what is defined in it."""
        home = owner.__name__ if isinstance(owner, ModuleType) else owner.__module__
        members = [getattr(each, "__func__", each) for each in vars(owner).values()]
        members = [each.fget if isinstance(each, property) else each for each in members]
        own = [
            each for each in members
            if isinstance(each, FunctionType | type) and each.__module__ == home
            and getattr(getattr(each, "__code__", None), "co_filename", "") != "<string>"
        ]  # fmt: skip
        bases = list(owner.__bases__) if isinstance(owner, type) else []
        return [_called(owner), self._source(owner), self.said(bases), self.said(own)]

    def _source(self, thing: Any) -> str:
        try:
            return inspect.getsource(thing)
        except (OSError, TypeError) as error:
            raise self._unknown(f"the source of {_called(thing)} is not to be had") from error

    def _unknown(self, why: str) -> FslabError:
        return FslabError(
            f"{qualified(self._asked)} cannot be told from another function of that name: {why}; "
            "results are kept by what made them, so write it as a function in a file or in a "
            "notebook's cell, or give it a version that you keep by hand: "
            "@fslab.parts.versioned(1)"
        )


def _version_of(thing: Any) -> int | str | None:
    """Return a version that was given to this very thing: a subclass has code of its own."""
    version: int | str | None = getattr(thing, "__dict__", {}).get(_VERSION)
    return version


def _code(code: CodeType) -> list[Any]:
    """Return compiled code as data: a file may have been edited since it was imported."""
    constants = [
        _code(each) if isinstance(each, CodeType)
        else sorted(map(repr, each)) if isinstance(each, frozenset) else repr(each)
        for each in code.co_consts
    ]  # fmt: skip
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and code inside it, looks up beyond its own variables."""
    inner = [_names(each) for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*inner)


def _called(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", None) or thing.__name__)


def _place(run: Callable[..., Any] | str) -> str:
    return run if isinstance(run, str) else qualified(run)


def _is_code(thing: Any) -> bool:
    """Tell functions, classes and modules, compiled ones too, from other objects."""
    return isinstance(thing, (FunctionType, type, ModuleType, np.ufunc)) or inspect.isroutine(thing)


def _is_installed(thing: Any) -> bool:
    """Tell code of installed packages, of Python's own and of fslab, which versions name."""
    try:
        return inspect.getfile(thing).startswith(_installed_folders())
    except TypeError:  # compiled code has no file
        return getattr(thing, "__module__", "") != "__main__"
    except OSError:
        return False


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parent)
    return (*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), own)


def _installed(thing: Any) -> tuple[str, str, str]:
    """Return the module, the name and the package's version of installed code."""
    module = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__ or "builtins"
    package = module.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None and package not in sys.stdlib_module_names:
        try:
            version = version_of(package)
        except PackageNotFoundError:
            version = ""
    return module, _called(thing), str(version)
