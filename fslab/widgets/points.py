"""Pixels that are pointed at: a click, two numbers, and points that stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import ipywidgets as widgets

from fslab.records import FslabError, Point
from fslab.widgets.controls import Knob, check_value, row
from fslab.widgets.explorer import Explorer, SeenSubject
from fslab.widgets.layers import LayerPicker
from fslab.widgets.pictures import PicturePicker


class PointExplorer(Explorer[SeenSubject]):
    """An explorer of given pictures, in the chosen one of which pixels are pointed at.

    A subclass makes `_pictures`, then calls `_build_points`, and lays out `_points_row` and
    `_point_knobs`.
    """

    picture = Knob("_pictures.list", "The chosen picture's name.")
    _pictures: PicturePicker
    _row: widgets.BoundedIntText
    _column: widgets.BoundedIntText
    _pins: tuple[Point, ...] = ()
    _kept = ("_pins",)
    _carried: tuple[Point, ...] = ()
    _pointed_at: tuple[tuple[Point, ...], tuple[int, int]]

    def change(self, **state: Any) -> Self:
        """Set several parts of the state as one move: the picture first, which points lie in."""
        if "picture" in state:
            state = {"picture": state.pop("picture"), **state}
        return super().change(**state)

    @property
    def point(self) -> Point:
        """The pixel that all cells are compared with, (row, column)."""
        return self._row.value, self._column.value

    @point.setter
    def point(self, at: Point) -> None:
        for control, value, name in zip(self._point_knobs, at, ("row", "column"), strict=True):
            check_value(control, value, name)
        self._go_to(*map(int, at))

    @property
    def pins(self) -> tuple[Point, ...]:
        """Further pixels that are compared with."""
        return self._pins

    @pins.setter
    def pins(self, points: Iterable[Point]) -> None:
        points = tuple((int(row), int(column)) for row, column in points)
        for place in points:
            check_value(self._row, place[0], "row")
            check_value(self._column, place[1], "column")
        self._pins = points
        self._moved()

    def _build_points(self, *pickers: LayerPicker) -> None:
        """Make the controls; pickers: the lists of layers, which say how many cells these have."""
        self._pickers, picture = pickers, self._pictures.subject.picture
        rows, columns = self._size = picture.size
        layout, style = {"width": "150px"}, {"description_width": "60px"}
        self._row, self._column = (
            widgets.BoundedIntText(
                (limit - 1) // 2, 0, limit - 1, description=name, layout=layout, style=style
            )
            for name, limit in (("row", rows), ("column", columns))
        )
        self._point_knobs = (self._row, self._column)
        pin, clear = (
            widgets.Button(description=name, layout={"width": "120px"})
            for name in ("pin this point", "clear pins")
        )
        pin.on_click(lambda button: setattr(self, "pins", (*self._pins, self.point)))
        clear.on_click(lambda button: setattr(self, "pins", ()))
        self._points_row = row(self._row, self._column, pin, clear)
        self._pictures.list.observe(lambda change: self._carry(), "value")
        for picker in pickers:
            picker.look_at(picture)

    def _go_to(self, row: int, column: int) -> None:
        with self._hush():
            self._row.value, self._column.value = row, column
        self._moved()

    def _carry(self) -> None:
        """Take the points along to the picture that is chosen now, at the same shares of its sides.

        They are counted from the picture in which they were pointed at, so that there and back
        they are the same.
        """
        try:
            picture = self._pictures.subject.picture
        except FslabError:
            return  # which the view says
        now = *self._pins, self.point
        if now != self._carried:
            self._pointed_at = now, self._size
        self._carried, self._size = moved_to(*self._pointed_at, picture.size), picture.size
        self._pins = self._carried[:-1]
        with self._hush():
            for control, limit, value in zip(
                self._point_knobs, self._size, self._carried[-1], strict=True
            ):
                control.value = min(control.value, limit - 1)
                control.max = limit - 1
                control.value = value
        for picker in self._pickers:
            picker.look_at(picture)


def moved_to(
    points: Iterable[Point], size: tuple[int, int], other: tuple[int, int]
) -> tuple[Point, ...]:
    """Return where points of a picture of one size are in a picture of another."""
    return tuple(
        (int((row + 0.5) * other[0] / size[0]), int((column + 0.5) * other[1] / size[1]))
        for row, column in points
    )
