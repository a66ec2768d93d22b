"""Parts that are found by name, this package's and others', and what tells two parts apart."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import inspect
import json
import linecache
import os
import random
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import version as version_of
from pathlib import Path
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, TypeVar

import numpy as np
import xxhash
from numpy.ma import MaskedArray

from fslab.errors import FslabError
from fslab.names import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound="Part")

_VERSION = "__fslab_version__"
_BROKEN = (
    ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, LookupError,
    OSError, RuntimeError,
)  # fmt: skip
"""What importing a package of somebody else's may raise."""


_NAMESPACES = (ModuleType, type, type(None))
"""What a built-in function is bound to where it is not a method of an object."""


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

    @property
    def reads(self) -> tuple[type, ...]:
        """Classes whose code and defaults count beside the function's."""
        return ()


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
        if not isinstance(name, str) or not name or ":" in name:
            raise FslabError(
                f"{name!r} cannot name a {self.kind}; give a text without a colon, which stands in "
                "package.module:function"
            )
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
        if not isinstance(name, str) or not name:
            raise FslabError(f"{name!r} is not the name of a {self.kind}; {self.offer(str(name))}")
        if name in self._parts:
            return self._parts[name]
        offered = [entry for entry in self._offered() if entry.name == name]
        if not offered:
            raise FslabError(f"there is no {self.kind} {name!r}; {self.offer(name)}")
        if len({entry.value for entry in offered}) > 1:
            raise FslabError(
                f"there are several of {self.kind} {name!r}: {', '.join(map(_origin, offered))}; "
                "remove all but one of these packages, or import the module that you mean"
            )
        return self._load(offered[0])

    def offer(self, name: str) -> str:
        """Say which names there are, and which of them are near one that is not."""
        return offer(name, self)

    def __getitem__(self, name: str) -> P:
        if name not in self:
            raise KeyError(name)
        return self.find(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self._parts or any(entry.name == name for entry in self._offered())
        )

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._parts, *(entry.name for entry in self._offered()))))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _offered(self) -> Sequence[EntryPoint]:
        return list(entry_points(group=self.group))

    def _load(self, entry: EntryPoint) -> P:
        what = f"the package {_origin(entry)} offers the {self.kind} {entry.name!r}"
        mend = "mend that package, or remove it"
        try:
            entry.load()
        except _BROKEN as error:
            said = f"{type(error).__name__}: {error}"
            raise FslabError(f"{what}, and it cannot be imported: {said}; {mend}") from error
        if entry.name not in self._parts:
            raise FslabError(f"{what}, and it adds no part of that name; {mend}")
        return self._parts[entry.name]


def offer(name: str, names: Iterable[str]) -> str:
    """Say which names there are, and which of them are near one that is not."""
    known = list(names)
    return f"there is {', '.join(known)}{did_you_mean(str(name), known)}"


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
    """Call a function of somebody's own, with those named arguments that it has parameters for.

    Raises FslabError for one that takes other arguments.
    """
    signature = inspect.signature(function)
    named = {name: value for name, value in by_name.items() if name in signature.parameters}
    try:
        signature.bind(*given, **named)
    except TypeError as error:
        raise FslabError(
            f"{qualified(function)}{signature} cannot stand here: it is called with "
            f"{', '.join(type(each).__name__ for each in given)}, and {error}"
        ) from error
    return function(*given, **named)


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
        read = "".join(f" {identity(each)}" for each in part.reads)
        return f"{part.name} {identity(part.function)}{read}"
    if not callable(part):
        raise FslabError(f"{part!r} is not a function; give one, or an object that can be called")
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
        if _is_numbers(value):
            content = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(value).tobytes())
            return ["array", repr(value.dtype), value.shape, content]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._held.append(value)
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(self.said, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", sorted(json.dumps(self.said(each)) for each in value)]
        if isinstance(value, Mapping):
            return ["dict", [[self.said(key), self.said(each)] for key, each in value.items()]]
        if isinstance(value, Path):
            return ["path", str(value)]
        return self._said_of_code(value) if _is_code(value) else self._said_of_object(value)

    def _said_of_code(self, value: Any) -> Any:
        if _version_of(value) is not None:
            return [qualified(value), _version_of(value)]
        if isinstance(value, MethodType):
            return ["method", self.said(value.__func__), self.said(value.__self__)]
        if isinstance(value, BuiltinMethodType) and not isinstance(value.__self__, _NAMESPACES):
            return ["method", value.__name__, self.said(value.__self__)]
        inside = _decorated(value)
        if inside is not None and not _is_installed(inside):
            return self._said_of_decorated(value, inside)
        if value is not self._asked and _is_installed(value):
            return ["installed", *_installed(value)]
        if isinstance(value, FunctionType):
            return self._said_of_function(value)
        if isinstance(value, type):
            return self._said_of_class(value)
        if isinstance(value, ModuleType):
            return self._said_of_module(value)
        raise self._unknown("it is compiled, and has no source")

    def _said_of_object(self, value: Any) -> Any:
        if _version_of(value) is not None:
            return [qualified(value), _version_of(value)]
        if isinstance(value, functools.partial):
            return ["partial", *map(self.said, (value.func, value.args, value.keywords))]
        if hasattr(value, "fingerprint"):  # of a model: it names its weights
            return [self.said(type(value)), self.said(value.fingerprint)]
        if hasattr(value, "__dict__") and not _is_installed(type(value)):
            return [self.said(type(value)), self.said(vars(value))]
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            raise self._unknown(
                f"it uses {value!r:.60}, which gives other numbers at every call (make it inside "
                "the function, from a seed)"
            )
        return self._said_by_parts(value)

    def _said_by_parts(self, value: Any) -> Any:
        """Say what an object is that its class can take apart, as to pickle it."""
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):  # whose parts hold addresses
            plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return ["tensor", str(value.dtype), list(value.shape), self.said(plain)]
        try:
            known = copyreg.dispatch_table.get(type(value))
            parts = value.__reduce_ex__(4) if known is None else known(value)
        except (TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise self._unknown(
                f"it uses {value!r:.60}, a {type(value).__name__}, whose content no digest can name"
            ) from error
        if isinstance(parts, str):
            return ["named", qualified(value), parts]
        whole = [list(each) if isinstance(each, Iterator) else each for each in parts]
        return ["made", *map(self.said, whole)]

    def _said_of_function(self, function: FunctionType) -> Any:
        code = function.__code__
        read = _names(code)
        around: dict[str, Any] = {}
        for name in read.imported:
            module = _imported(name, function.__globals__)
            around[f"import {name}"] = module
        around |= {n: function.__globals__[n] for n in read.around if n in function.__globals__}
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        around |= {name: _content(cell) for name, cell in cells}
        for name, each in list(around.items()):  # what modules of one's own hold may be set anew
            if isinstance(each, ModuleType) and not _is_installed(each):
                held = [inner for inner in read.attributes if inner in vars(each)]
                around |= {f"{name}.{inner}": vars(each)[inner] for inner in held}
        return [
            qualified(function), self._source(function), _code(code),
            self.said([function.__defaults__, function.__kwdefaults__]),
            [[name, self.said(around[name])] for name in sorted(around)],
        ]  # fmt: skip

    def _said_of_decorated(self, value: Any, inside: Any) -> Any:
        """Say what a function is that a decorator took in: both, and what the decorator keeps."""
        if isinstance(value, FunctionType) and not _is_installed(value):
            return self._said_of_function(value)
        if isinstance(value, FunctionType):
            kept: Any = [_content(cell) for cell in value.__closure__ or ()]
            by = _installed(sys.modules[value.__globals__["__name__"]])
        else:
            kept = getattr(value, "targetoptions", None)  # of numba's
            by = _installed(type(value))
        return ["decorated", *by, value.__qualname__, self.said(inside), self.said(kept)]

    def _said_of_class(self, kind: type) -> Any:
        """Say what a class of one's own is: its methods, its data and what it extends."""
        members = [
            [name, [self.said(part) for part in _behind(each)]]
            for name, each in sorted(vars(kind).items())
            if _counts(name, each)
        ]
        made_by = [
            [entry.name, self.said(entry.default_factory)]
            for entry in (fields(kind) if is_dataclass(kind) else ())
            if entry.default_factory is not MISSING
        ]
        return [_called(kind), self.said(list(kind.__bases__)), members, made_by]

    def _said_of_module(self, module: ModuleType) -> Any:
        """Say what a module of one's own is: its source, and the code that is defined in it."""
        own = [
            each
            for each in vars(module).values()
            if _is_code(each) and getattr(each, "__module__", None) == module.__name__
        ]
        source = linecache.getlines(getattr(module, "__file__", None) or "")  # "" of a bare package
        return [module.__name__, source, self.said(own)]

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
    """Return a version that was given to this very thing.

    A subclass, a decorated function, to which `functools.wraps` passes it on, and a method, beside
    which its object counts, have something of their own.
    """
    if isinstance(thing, MethodType):
        return None
    around = getattr(thing, "__dict__", {})
    version: int | str | None = around.get(_VERSION)
    taken_in = getattr(around.get("__wrapped__"), "__dict__", {})
    return None if version == taken_in.get(_VERSION) else version


def _code(code: CodeType) -> list[Any]:
    """Return compiled code as data: a file may have been edited since it was imported."""
    constants = [
        _code(each) if isinstance(each, CodeType)
        else sorted(map(repr, each)) if isinstance(each, frozenset) else repr(each)
        for each in code.co_consts
    ]  # fmt: skip
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


@dataclass
class _Names:
    """What code looks up beyond its own variables: global names, modules, attributes."""

    around: set[str]
    imported: set[str]
    attributes: set[str]


def _names(code: CodeType) -> _Names:
    """Return the names that code, and code inside it, looks up."""
    found = _Names(set(), set(), set(code.co_names))
    level = 0
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            found.around.add(step.argval)
        elif step.opname == "IMPORT_NAME":
            found.imported.add("." * level + step.argval)
        elif step.opname.startswith("LOAD_") and isinstance(step.argval, int):
            level = step.argval  # before an import: how far up its package is
    for each in code.co_consts:
        if isinstance(each, CodeType):
            inner = _names(each)
            found.around |= inner.around
            found.imported |= inner.imported
            found.attributes |= inner.attributes
    return found


def _imported(name: str, around: Mapping[str, Any]) -> ModuleType | None:
    """Return a module that a function imports, and None where there is none."""
    try:
        return import_module(name, around.get("__package__"))
    except ImportError:
        return None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is not set yet
        return None


def _decorated(thing: Any) -> Any:
    """Return the innermost function that decorators took in; None where there is none."""
    inside = getattr(thing, "py_func", None)  # numba's
    if inside is None and not isinstance(thing, (type, ModuleType)):
        inside = inspect.unwrap(thing)
    return None if inside is thing or not isinstance(inside, FunctionType) else inside


def _behind(member: Any) -> list[Any]:
    """Return the functions behind a class's attribute that stands for some, else the attribute."""
    if isinstance(member, (staticmethod, classmethod)):
        return [member.__func__]
    if isinstance(member, property):
        return [each for each in (member.fget, member.fset, member.fdel) if each is not None]
    if isinstance(member, functools.cached_property):
        return [member.func]
    if isinstance(member, functools.partialmethod):
        return [member.func, member.args, member.keywords]
    return [member]


def _counts(name: str, member: Any) -> bool:
    """Tell a class's own methods and data from what Python and its dataclasses add."""
    if _behind(member) != [member]:
        return True
    if isinstance(member, Part) or inspect.isdatadescriptor(member):
        return False
    if not _is_code(member):
        return not name.startswith("__") and name != "_abc_impl"
    made = getattr(inspect.unwrap(member), "__code__", None)
    return getattr(made, "co_filename", "") != "<string>"


def _called(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", None) or thing.__name__)


def _origin(entry: EntryPoint) -> str:
    """Name who offers an entry point, and where."""
    return f"{entry.dist.name} ({entry.value})" if entry.dist else entry.value


def _place(run: Callable[..., Any] | str) -> str:
    return run if isinstance(run, str) else qualified(run)


def _is_numbers(value: Any) -> bool:
    """Tell arrays whose bytes say all."""
    if isinstance(value, MaskedArray) or not isinstance(value, (np.ndarray, np.generic)):
        return False
    return not value.dtype.hasobject


def _is_code(thing: Any) -> bool:
    """Tell functions, classes and modules, compiled ones too, from other objects."""
    if isinstance(thing, (FunctionType, type, ModuleType, np.ufunc)):
        return True
    return inspect.isroutine(thing) and hasattr(thing, "__qualname__")


def _is_installed(thing: Any) -> bool:
    """Tell code of installed packages, of Python's own and of fslab, which versions name."""
    try:
        return inspect.getfile(thing).startswith(_installed_folders())
    except TypeError:  # compiled code has no file, and its module may have one
        if isinstance(thing, np.ufunc):  # which any function can be made
            return getattr(np, thing.__name__, None) is thing
        if isinstance(thing, ModuleType):
            return True
        home = sys.modules.get(getattr(thing, "__module__", None) or "builtins")
        file = getattr(home, "__file__", None)
        return _module_name(home) != "__main__" and (
            file is None or file.startswith(_installed_folders())
        )
    except OSError:
        return False


def _module_name(module: ModuleType | None) -> str:
    return "__main__" if module is None else module.__name__


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parent)]
    return tuple(f"{folder}{os.sep}" for folder in folders)


def _installed(thing: Any) -> tuple[str, str, str]:
    """Return the module, the name and the package's version of installed code."""
    module = getattr(thing, "__module__", None) or "builtins"  # which slots of C have not
    module = thing.__name__ if isinstance(thing, ModuleType) else module
    package = module.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None and package not in sys.stdlib_module_names:
        try:
            version = version_of(package)
        except PackageNotFoundError:
            version = ""
    return module, _called(thing), str(version)
