"""How segments get their names: candidates, what CLIP is shown, and how it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args, get_type_hints

import ipywidgets as widgets
import numpy as np

from fslab.lab import Lab, Result
from fslab.match import Match, views
from fslab.plots import overlay
from fslab.records import Caption, FslabError, Matching, Recipe, Unrefined
from fslab.widgets.board import TITLE, Board, Box
from fslab.widgets.code import Script
from fslab.widgets.controls import HALF, STYLE, Knob, choice, row, tags
from fslab.widgets.explorer import RecipeExplorer
from fslab.widgets.panel import Panel, fitted, side_by_side
from fslab.widgets.pictures import Given, Subject
from fslab.widgets.python import Words, call
from fslab.widgets.scores import ROW, BestTexts, Matrix, longest
from fslab.widgets.texts import note_of

_HINT = (
    "Type a word beside the candidates and press Enter to add it; its cross removes it. Click a "
    "mask, or a row of the matrix, to see exactly what CLIP was shown and its best texts. Masks "
    "have VOC's colours by class; in the matrix darker blue is more probable, and what was taken "
    "is framed."
)
_KINDS = get_type_hints(Matching)
_BARS_BESIDE, _NAMES = 640, 110
"""The figure's width from which bars stand beside the pictures, and what their names take."""

TEMPLATES = ("{}", "a photo of a {}", "a drawing of a {}", "a {} in a scene")
"""Sentences offered around a class name; any other with one {} can be typed."""


@dataclass(frozen=True)
class _View:
    subject: Subject
    candidates: tuple[str, ...] | None
    template: str
    region: str
    tokens: bool
    regions: str
    compete: str
    assignment: str
    background: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MatchResult:
    """What `explore_matching` shows.

    caption: the picture's own, whatever candidates are asked for; found: the method's way with
    those; match: CLIP's matrix; seen: what CLIP was shown of each segment, u8 [h, w, 3].
    """

    subject: Subject
    caption: Caption
    candidates: tuple[str, ...]
    found: Result
    match: Match
    seen: tuple[np.ndarray, ...]
    recipe: Recipe
    title: str


class MatchExplorer(RecipeExplorer[MatchResult]):
    """Name a picture's segments and see why each got its name.

    pictures: a data set, pictures, samples or paths; recipe: gives the segments and where the
    knobs begin. State: `picture`, `candidates` (class names or any words), `template`, `region`
    (the view of a region, as `Matching.view`), `tokens` (whether mask tokens read them too),
    `regions` (how one pass over the picture does, as `Matching.regions`), `compete`,
    `assignment`, `background`, `segment` (the one whose view is shown).
    """

    _first_words = _HINT
    _kept = ("_edited",)

    template = Knob("_template", 'The sentence around a class name; it holds one "{}".')
    region = Knob("_region", "What CLIP sees of a segment, as in `Matching.view`.")
    tokens = Knob("_tokens", "Whether mask tokens read the segments too, as in `Matching`.")
    regions = Knob("_regions", "How one pass over the picture reads regions, as in `Matching`.")
    compete = Knob("_compete", "The texts a softmax runs over, as in `Matching`.")
    assignment = Knob("_assignment", "How segments get classes, as in `Matching`.")
    segment = Knob("_segment", "The segment whose view is shown.")

    @property
    def candidates(self) -> tuple[str, ...]:
        """The classes that are looked for."""
        return tuple(self._tags.value)

    @candidates.setter
    def candidates(self, words: Iterable[str]) -> None:
        if isinstance(words, str):
            raise FslabError(f"candidates is {words!r}; give a list of words")
        with self._hush():
            self._tags.value = list(dict.fromkeys(words))
        self._edited = True
        self._moved()

    @property
    def background(self) -> tuple[str, ...]:
        """Words that compete and mean background."""
        return tuple(self._grounds.value)

    @background.setter
    def background(self, words: Iterable[str]) -> None:
        self._grounds.value = list(dict.fromkeys(words))

    @property
    def match(self) -> Match:
        """CLIP's matrix on screen."""
        return self._on_screen().match

    def caption_candidates(self) -> None:
        """Go back to the candidates that the picture's caption names."""
        self._edited = False
        self._moved()

    def _build_knobs(self) -> None:
        start = self._start.match
        self._tags, self._tag_row = tags("candidates", ())
        self._grounds, self._ground_row = tags("background", start.background)
        self._template = widgets.Combobox(
            value=start.templates[0], options=TEMPLATES, description="template",
            ensure_option=False, continuous_update=False,
            style=STYLE, layout={"width": HALF},
        )  # fmt: skip
        self._region = choice("region", get_args(_KINDS["view"]), start.view)
        self._tokens = choice("tokens", [("no", False), ("yes", True)], start.tokens)
        self._regions = choice("regions", get_args(_KINDS["regions"]), start.regions)
        self._compete = choice("compete", get_args(_KINDS["compete"]), start.compete)
        self._assignment = choice("assignment", get_args(_KINDS["assignment"]), start.assignment)
        self._segment = choice("segment", [("segment 0", 0)])
        self._again = widgets.Button(description="the caption's own", layout={"width": "150px"})
        self._again.on_click(lambda button: self.caption_candidates())
        self._caption, self._edited = widgets.HTML(), False

    def _build_figures(self) -> None:
        self._named, self._seen = Panel(), Panel()
        self._best, self._matrix = BestTexts(), Matrix()
        self._board = Board(self._named, self._seen, self._best, self._matrix)
        self._named.on_click(self._click)
        self._matrix.on_click(lambda number: setattr(self, "segment", number))

    def _lay_out(self) -> None:
        self._tags.observe(lambda change: self._edit(), "value")
        self._pictures.list.observe(lambda change: self._forget(), "value")
        self._segment.observe(lambda change: self._choose_segment(), "value")
        rows = [
            self._pictures.row, self._caption, self._tag_row, self._ground_row,
            row(self._again), row(self._template, self._region),
            row(self._tokens, self._regions), row(self._compete, self._assignment),
            row(self._segment),
            self._board.frame,
        ]  # fmt: skip
        knobs = [self._pictures.list, self._tags, self._grounds, self._template, self._region]
        knobs += [self._tokens, self._regions]
        self._begin(rows, [*knobs, self._compete, self._assignment])

    def _edit(self) -> None:
        if not self._hush:
            self._edited = True

    def _forget(self) -> None:
        if not self._hush:
            self._edited = False  # candidates belong to a picture

    def _choose_segment(self) -> None:
        if not self._hush:
            self._show_segment()

    def _click(self, row: int, column: int) -> None:
        if self._shown is not None:
            self.segment = int(self._shown.found.segments.labels[row, column])

    def _view(self) -> _View:
        return _View(
            self._pictures.subject, self.candidates if self._edited else None, self.template,
            self.region, self.tokens, self.regions, self.compete, self.assignment,
            self.background,
        )  # fmt: skip

    def _recipe_of(self, view: _View) -> Recipe:
        chosen: dict[str, Any] = {
            "view": view.region, "templates": (view.template,), "compete": view.compete,
            "assignment": view.assignment, "background": view.background, "tokens": view.tokens,
            "attention": self._start.match.attention if view.assignment == "vote" else 0.0,
            "regions": view.regions,
        }  # fmt: skip
        if view.assignment not in ("argmax", "majority"):
            chosen["threshold"] = 0.0
        if view.regions != self._start.match.regions:  # whose own settings the other has not
            chosen |= {"regions_earlier": 0.0, "regions_token": 0.0, "regions_apart": 0.0}
        match = replace(self._start.match, **chosen)
        return replace(self._start, name="explored", match=match, refine=Unrefined())

    def _compute(self, view: _View) -> MatchResult:
        recipe, picture, known = (
            self._recipe_of(view),
            view.subject.picture,
            view.subject.vocabulary,
        )
        caption = self._once(
            "caption",
            (picture.digest, known.names),
            lambda: self._lab.caption(picture, known, method=recipe.caption),
        )
        candidates = caption.candidates if view.candidates is None else view.candidates
        vocabulary = known.extended(tuple(word for word in candidates if word.strip()))
        found = self._lab.segment(picture, recipe, vocabulary, candidates)
        match = self._lab.score_segments(
            picture, found.segments, candidates, vocabulary, found.features, **asdict(recipe.match)
        )
        seen = tuple(views(picture, found.segments, recipe.match))
        read = " and ".join(_read_by(recipe.match, found.segments.count))
        title = f"{view.subject.spoken}: {found.segments.count} segments by {read}"
        return MatchResult(view.subject, caption, candidates, found, match, seen, recipe, title)

    def _draw(self, result: MatchResult) -> None:
        note_of(self._caption, f"caption: {result.caption.text}")
        options = [
            (f"segment {number}: {result.found.vocabulary.names[label]}", number)
            for number, label in enumerate(map(int, result.match.assigned))
        ]
        with self._hush():
            self._tags.value = list(result.candidates)
            chosen = min(self.segment or 0, len(options) - 1)
            self._segment.options = options
            self._segment.value = chosen
        with self._board.drawing():
            self._place(result)
            for panel in (self._named, self._seen):
                panel.resize(result.subject.picture.size)
            self._named.image(overlay(result.subject.picture, result.found.named))
            self._named.title(f"{result.subject.name}: named\nclick a mask")
        self._show_segment(result)

    def _place(self, result: MatchResult) -> None:
        self._board.arrange(*_places(result, self._board.width))

    def _show_segment(self, result: MatchResult | None = None) -> None:
        """Show one segment: where it is, what CLIP saw of it, and what CLIP made of that."""
        with self._drawing:
            result, number = result or self._on_screen(), self.segment
            outside = result.found.segments.labels != number
            shade = np.zeros((*outside.shape, 4), np.uint8)
            shade[outside, 3] = 80
            seen = result.seen[number]
            with self._board.drawing():
                self._named.layer(shade)
                self._seen.image(fitted(seen, result.subject.picture.size), photo=False)
                sides = f"{seen.shape[0]} x {seen.shape[1]} pixels"
                self._seen.title(f"what CLIP was shown of {number}\n{sides}")
                self._best.show(result.match, number)
                votes = result.recipe.match.assignment == "vote"
                framed = "what each votes for" if votes else "assigned"
                self._matrix.show(result.match, result.found.vocabulary.names, number, framed)

    def _code_of(self, result: MatchResult) -> str:
        script = Script(self._lab)
        script.use("dataclasses", "asdict")
        script.use("fslab.match", "views")
        picture = script.picture(result.subject)
        recipe = script.recipe(self._lab, result.recipe, self._start.name)
        words = script.words("candidates", result.candidates)
        known = script.extended(result.subject.vocabulary, result.candidates, words)
        found = call("lab.segment", picture, recipe, known, words)
        found = script.set("result", found)
        parts = [Words(f"{found}.{name}") for name in ("segments", "vocabulary", "features")]
        settings = Words(f"{found}.recipe.match")
        asked = [picture, parts[0], words, *parts[1:], Words(f"**asdict({settings})")]
        match = script.set("match", call("lab.score_segments", *asked))
        script.draw("fslab.show", picture, Words(f"{found}.named"))
        script.draw("score_matrix", match, Words(f"{parts[1]}.names"))
        seen = call("views", picture, parts[0], settings)
        script.draw("region_views", {"shown to CLIP": seen})
        return str(script)


def explore_matching(
    lab: Lab, pictures: Given | Iterable[Given], recipe: str | Recipe = "fslab", **state: Any
) -> MatchExplorer:
    """Open a `MatchExplorer`; state: where it begins, such as `region="box"`."""
    return MatchExplorer(lab, pictures, recipe).change(**state)


def _read_by(settings: Matching, segments: int) -> list[str]:
    """Say what the matrix of so many segments is made of."""
    shown = settings.shows(segments)
    regions = [f"{settings.regions} regions"] * (settings.regions != "none")
    return [f"{settings.view} view"] * shown + ["mask tokens"] * settings.tokens + regions


def _places(result: MatchResult, width: int) -> tuple[float, list[Box]]:
    """Return the figure's height, and where the two pictures, bars and matrix go.

    The bars stand beside the pictures where there is room, and below them else.
    """
    beside = width >= _BARS_BESIDE
    room = 0.64 * width if beside else width
    named, seen = side_by_side(2, result.subject.picture.size, room, tallest=330)
    bottom = max(named.bottom, seen.bottom)
    if beside:
        left = seen.left + seen.width + _NAMES
        bars = Box(left, TITLE, width - left - 10, max(named.height - 20, 120))
    else:
        bars = Box(_NAMES, bottom + TITLE, width - _NAMES - 10, 120)
    top = TITLE + max(bottom, bars.bottom + 20) + 10
    matrix = Box(84, top, width - 84 - 96, ROW * len(result.match.probabilities))
    below = 26 + 6.5 * longest(result.match)
    return top + max(matrix.height + below, 190), [named, seen, bars, matrix]
