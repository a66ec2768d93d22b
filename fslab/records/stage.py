"""What the settings of all stages have in common, and a function of one's own in their place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from fslab.errors import FslabError
from fslab.parts import Part, Registry, identity, qualified
from fslab.records.checks import PLAIN, is_plain

M = TypeVar("M", bound="Method")


class Stage:
    """A stage's settings; stage: what refusals call it."""

    stage: ClassVar[str] = "stage"

    def to_dict(self) -> dict[str, Any]:
        """Return what changes the stage's result, for JSON and for keys."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]

    def renewed(self) -> Self:
        """Return the same settings, with the function behind them looked at again."""
        return self


class _Known:
    """Settings that carry the identity of the code behind them; other processes trust it where
    they have no source."""

    _was_sent = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _was_sent=True)

    def _look_again(self, code: Part | Callable[..., Any], known: str) -> str:
        try:
            return identity(code)
        except FslabError:
            if self._was_sent:
                return known
            raise


class Settings(_Known, Stage):
    """Settings of a stage that several methods can do: each method has a record of its own.

    part: the method, which the registry sets when it takes the record in. usual: the one that is
    taken where none is named.
    """

    usual: ClassVar[str]

    part: ClassVar[Method | None] = None

    def __new__(cls, *given: Any, **settings: Any) -> Self:
        """Refuse the record that all methods of a stage extend, which 0.1 made of any method."""
        if Settings in cls.__bases__:
            raise FslabError(
                f"{cls.__name__} is not made without a method since 0.2; write "
                f"{cls.__name__}.of(method, ...), such as "
                f"fslab.{cls.__name__}.of('{cls.usual}'), or a method's own record"
            )
        return super().__new__(cls)

    @property
    def method(self) -> str:
        """The method's name."""
        return self._part.name

    @property
    def identity(self) -> str:
        """Name of the code behind the method, see `fslab.parts.identity`."""
        if self._part.version is not None:
            return identity(self._part)
        if "_identity" not in self.__dict__:
            self.__dict__["_identity"] = identity(self._part)
        found: str = self.__dict__["_identity"]
        return found

    @property
    def run(self) -> Callable[..., Any]:
        """What does the method's work."""
        return self._part.function

    @property
    def _part(self) -> Method:
        if self.part is None:
            raise FslabError(
                f"{type(self).__name__} is not the settings of any method; give it to the registry "
                f"with a function: @{self.stage}(name, settings={type(self).__name__})"
            )
        return self.part

    def to_dict(self) -> dict[str, Any]:
        """Return the method's name, its settings and, of somebody else's, its identity."""
        own = {} if self._part.version is not None else {"identity": self.identity}
        return {"method": self.method, **super().to_dict(), **own}

    def renewed(self) -> Self:
        """Return the same settings, with the function behind them looked at again."""
        if self._part.version is not None:
            return self
        found = self._look_again(self._part, self.identity)
        if found == self.identity:
            return self
        again = replace(self)  # type: ignore[type-var]
        again.__dict__["_identity"] = found
        return again


@dataclass(frozen=True)
class Slider:
    """How an explorer offers a setting: what stands beside it, its limits and its step."""

    name: str
    words: str
    low: float
    high: float
    step: float


@dataclass(frozen=True, kw_only=True)
class Method(Part):
    """A method of a stage, and the record of its settings. knobs: what explorers offer of them."""

    settings: type[Any]
    knobs: tuple[Slider, ...] = ()

    @property
    def reads(self) -> tuple[type, ...]:
        """The settings: keys leave out those that have their defaults."""
        return (self.settings,)


class Methods(Registry[M]):
    """The methods of one stage, whose settings are made by name."""

    def add(self, name: str, run: Callable[..., Any] | str, **facts: Any) -> M:
        """Add a method, as `Registry.add`, and have its record of settings know it.

        Raises FslabError for a record of another method, which would be this one's from then on,
        and for one whose fields have no defaults or hold anything but plain data.
        """
        kind: Any = facts.get("settings")
        before = getattr(kind, "__dict__", {}).get("part")
        if before is not None and before.name != name:
            raise FslabError(
                f"{self.kind} {name!r}: its settings are {kind.__name__}, which are those of "
                f"{before.name!r}; extend them by a dataclass of its own: "
                f"class Mine({kind.__name__})"
            )
        if isinstance(kind, type) and is_dataclass(kind):
            _check_settings(f"{self.kind} {name!r}: its settings {kind.__name__}", kind)
        part = super().add(name, run, **facts)
        part.settings.part = part
        return part

    def settings(self, method: str, /, **given: Any) -> Any:
        """Return a method's settings; FslabError for what it does not have, and who has it."""
        kind = self.find(method).settings
        known = [entry.name for entry in fields(kind)]
        for name in given:
            if name not in known:
                raise FslabError(
                    f"{self.kind} by {method!r} has no setting {name!r}; it has "
                    f"{', '.join(known)}{self._hint(name)}"
                )
        return kind(**given)

    def without_others(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out settings of other methods that say nothing: those that have their defaults."""
        own = {entry.name for entry in fields(self.find(method).settings)}
        defaults = {
            entry.name: entry.default
            for part in self._parts.values()
            for entry in fields(part.settings)
        }
        return {
            name: value
            for name, value in given.items()
            if name in own or name not in defaults or _plain(value) != defaults[name]
        }

    def _hint(self, name: str) -> str:
        others = [
            part.name
            for part in self._parts.values()
            if name in (entry.name for entry in fields(part.settings))
        ]
        return f"; {name} is a setting of {', '.join(others)}" if others else ""


def _check_settings(what: str, kind: type[Any]) -> None:
    """Refuse settings that cannot be made by name, kept and written down."""
    if "__dataclass_fields__" not in vars(kind) and inspect.get_annotations(kind):
        raise FslabError(
            f"{what} are not a dataclass; write @dataclass(frozen=True) before the class"
        )
    for entry in fields(kind):
        made: Any = entry.default_factory
        default = entry.default if made is MISSING else made()
        if default is MISSING:
            raise FslabError(f"{what} have no default for {entry.name!r}; give it one")
        if not is_plain(default):
            raise FslabError(f"{what} have {default!r:.60} for {entry.name!r}; it must be {PLAIN}")
        if hasattr(Settings, entry.name):
            raise FslabError(
                f"{what} have a field {entry.name!r}, which is something else in all settings; "
                "give it another name"
            )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Own(_Known):
    """A function of one's own in the place of a stage's settings.

    identity: names its code, see `fslab.parts.identity`; found where it is not given.
    """

    function: Callable[..., Any] = field(compare=False)
    identity: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise FslabError(
                f"{self.function!r} is not a function; give one, or its name as "
                '"package.module:function"'
            )
        object.__setattr__(self, "identity", self.identity or identity(self.function))

    @property
    def method(self) -> str:
        """The function's name."""
        return qualified(self.function)

    def to_dict(self) -> dict[str, Any]:
        """Return the function's name and its identity."""
        return {"own": self.method, "identity": self.identity}

    def renewed(self) -> Self:
        """Return the same function, looked at again: what it reads may have changed."""
        found = self._look_again(self.function, self.identity)
        return self if found == self.identity else replace(self, identity=found)
