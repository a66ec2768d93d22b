"""What an explorer has on screen as Python that makes it anew: the lab, pictures, a recipe."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fslab.datasets import COCO_OBJECT, VOC, Sample
from fslab.datasets.checkout import home
from fslab.datasets.places import Url
from fslab.lab import METHODS, Lab
from fslab.records import STAGES, Extraction, Own, Recipe, Vocabulary
from fslab.records.recipe import METHODS as WAYS
from fslab.records.stage import Settings
from fslab.widgets.pictures import Subject
from fslab.widgets.python import Code, Group, Words, call, code, imports, statement, then

PICTURE = Words("picture")
"""The picture's name in all code."""


class Script:
    """Code put together line by line; the modules that it names stand on top of it.

    `str` gives all of it. lab: made by the first line, where there is one.
    """

    def __init__(self, lab: Lab | None) -> None:
        self._imports: dict[str, set[str]] = {}
        self._lines: list[str] = []
        self._truth: list[Code] = []
        self._vocabularies: dict[str, Vocabulary] = {}
        if lab is not None:
            self._open(lab)

    def _open(self, lab: Lab) -> None:
        self.use("fslab")
        asked = lab_code(lab)
        if asked is None:
            self.note("lab: the one that the explorer was given, which has models of your own")
        else:
            self.set("lab", asked)

    def __str__(self) -> str:
        return f"{imports(self._imports)}\n\n" + "\n".join(self._lines)

    def use(self, module: str, *names: str) -> None:
        """Import names from a module."""
        self._imports.setdefault(module, set()).update(names)

    def note(self, text: str) -> None:
        """Write a comment."""
        self._lines.append(f"# {' '.join(text.split())}")

    def set(self, name: str, value: Code) -> Words:
        """Write an assignment, and return the name as code."""
        self._lines.append(statement(value, name))
        return Words(name)

    def do(self, value: Code) -> None:
        """Write a statement that gives nothing a name."""
        self._lines.append(statement(value))

    def draw(self, function: str, *given: Any, **named: Any) -> None:
        """Write that one of `fslab.plots`' figures, or that of `fslab.show`, is shown."""
        if not function.startswith("fslab."):
            self.use("fslab.plots", function)
        self.do(then(call(function, *given, **named), "show"))

    def picture(self, subject: Subject, name: str = PICTURE) -> Words:
        """Write how a picture is read, or whose pixels a name stands for that no file has."""
        place = place_code(subject)
        if place is not None:
            return self.set(name, call("fslab.read", place))
        height, width = subject.picture.size
        self.note(
            f"{name}: {subject.name!r}, {height} x {width} pixels, was given without a path; "
            f"give your own this name"
        )
        return Words(name)

    def places(self, subjects: Iterable[Subject], name: str) -> list[Code]:
        """Return where pictures lie; of those without a path, names that are explained."""
        found: list[Code] = []
        for number, subject in enumerate(subjects, 1):
            place = place_code(subject)
            found.append(self.picture(subject, f"{name}_{number}") if place is None else place)
        return found

    def read(self, place: Code, name: str) -> Words:
        """Write that a picture is read where it lies, if it has no name yet."""
        if isinstance(place, Words) and place.isidentifier():
            return place
        return self.set(name, call("fslab.read", place))

    def recipe(self, lab: Lab, recipe: Recipe, name: str) -> Code:
        """Write a recipe by its differences from a method's, and return what stands for it.

        name: the method's; of any other, differences are from the defaults.
        """
        known = name in METHODS
        changed = changes(lab.recipe(name if known else Recipe()), recipe)
        if not changed:
            return code(name) if known else call("fslab.Recipe")
        base = call("lab.recipe", name) if known else call("fslab.Recipe")
        return self.set("recipe", then(base, "change", changed))

    def words(self, name: str, words: Sequence[str]) -> Words:
        """Write a list of classes."""
        return self.set(name, code(list(words)))

    def extended(self, vocabulary: Vocabulary, words: Sequence[str], name: Code) -> Code:
        """Return the vocabulary with the words of a list, where it lacks any of them.

        name: the list's.
        """
        known = self._named(vocabulary)
        if vocabulary.extended(tuple(words)) == vocabulary:
            return known
        return call(f"{known}.extended", name)

    def truth(self, subject: Subject) -> list[Code]:
        """Write how the truth is read, where there is any, and return its name."""
        source = subject.source
        if not isinstance(source, Sample) or source.truth_path is None:
            return []
        self.use("fslab.datasets", "read_mask")
        return [self.set("truth", call("read_mask", path_code(str(source.truth_path))))]

    def score(self, metric: str, subject: Subject, *guess: Code, **segments: Code) -> None:
        """Write what a guess, or segments, are worth by the truth, where there is one."""
        known = self._truth or self.truth(subject)
        if not known:
            return
        self._truth = known
        self.use("fslab.score", "score_image", "summarise")
        names = Words(f"{self._named(subject.vocabulary)}.names")
        counted = call("score_image", known[0], names, *guess, **segments)
        score = call("summarise", metric, [counted])
        self.do(call("print", Words(f"{score}.miou")))

    def vocabulary(self, vocabulary: Vocabulary) -> list[Code]:
        """Return the argument that a vocabulary is; none for VOC's, which is the usual one."""
        return [] if vocabulary == VOC else [self._named(vocabulary)]

    def _named(self, vocabulary: Vocabulary) -> Words:
        """Return a vocabulary's name, which it is given where it has none."""
        named = {"fslab.VOC": VOC, "fslab.COCO_OBJECT": COCO_OBJECT, **self._vocabularies}
        for name, known in named.items():
            if known == vocabulary:
                return Words(name)
        beside = {"spoken": vocabulary.spoken, "synonyms": vocabulary.synonyms}
        said = {name: words for name, words in beside.items() if words}
        made = call("fslab.Vocabulary", list(vocabulary.names), **said)
        self._vocabularies["vocabulary"] = vocabulary
        return self.set("vocabulary", made)


def lab_code(lab: Lab) -> Code | None:
    """Return what opens a lab like this one; None where models came as objects."""
    preset, *given = lab.specification
    _, *usual = Lab(preset).specification
    names = [*inspect.signature(Lab).parameters][1:]
    changed = {
        name: value
        for name, value, other in zip(names, given, usual, strict=True)
        if value != other
    }
    if not all(value is None or isinstance(value, str) for value in changed.values()):
        return None
    return call("fslab.Lab", preset, **changed)


def settings_code(settings: Settings) -> Group:
    """Return a record of settings, with what differs from its defaults."""
    return call(f"fslab.{type(settings).__name__}", **_changed(settings))


def stage_code(function: str, settings: Settings | Own, *given: Code) -> Group:
    """Return the call of a stage by its method's name and what differs from its defaults."""
    changed = {} if isinstance(settings, Own) else _changed(settings)
    return call(function, *given, method=settings.method, **changed)


def _changed(settings: Any) -> dict[str, Any]:
    usual = type(settings)()
    return {
        entry.name: value
        for entry in fields(settings)
        if (value := getattr(settings, entry.name)) != getattr(usual, entry.name)
    }


def place_code(subject: Subject) -> Code | None:
    """Return where a picture lies; None where it was given as pixels."""
    source = subject.source.path if isinstance(subject.source, Sample) else subject.source
    if not isinstance(source, (str, os.PathLike, Url)):
        return None
    return path_code(os.fspath(source) if isinstance(source, os.PathLike) else str(source))


def path_code(path: str) -> Code:
    """Return a path; of a file that comes with fslab, wherever fslab lies."""
    shelf, plain = home(), Path(os.path.normpath(path))
    if shelf is not None and plain.is_relative_to(shelf):
        return call("fslab.checkout", plain.relative_to(shelf).as_posix())
    return code(path)


def extraction_code(lab: Lab, extract: Extraction) -> dict[str, Any]:
    """Return how features were taken, as arguments of `Lab.extract`: what the lab has otherwise.

    The timestep is always among them, where the backbone has one.
    """
    plain = Extraction(layers=extract.layers)
    filled_in = lab.recipe(Recipe(extract=plain)).extract
    changed: dict[str, Any] = {"layers": list(extract.layers)}
    for entry in fields(Extraction):
        value = getattr(extract, entry.name)
        if value not in (getattr(plain, entry.name), getattr(filled_in, entry.name)):
            changed[entry.name] = value
    if lab.backbone.timestep is not None:
        steps = extract.timesteps
        changed["timesteps"] = steps[0] if len(steps) == 1 else list(steps)
    return changed


def changes(usual: Recipe, recipe: Recipe) -> dict[str, Any]:
    """Return what `usual.change` makes this recipe of."""
    changed: dict[str, Any] = {}
    for stage in STAGES:
        part, before = getattr(recipe, stage), getattr(usual, stage)
        if isinstance(part, Own):
            changed[stage] = part.method
            continue
        if stage in WAYS and part.method != before.method:
            changed[f"{stage}.method"] = part.method
            before = getattr(usual.change({f"{stage}.method": part.method}), stage)
        for entry in fields(part):
            value = getattr(part, entry.name)
            if value != getattr(before, entry.name):
                changed[f"{stage}.{entry.name}"] = (
                    list(value) if isinstance(value, tuple) else value
                )
    return changed
