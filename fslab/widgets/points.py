"""Pixels that are pointed at: a click, two numbers, and points that stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ipywidgets as widgets

from fslab.records import Point
from fslab.widgets.controls import Knob, check_value, row
from fslab.widgets.explorer import Explorer, SeenSubject
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

    def _build_points(self) -> None:
        rows, columns = self._pictures.subject.picture.size
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

    def _go_to(self, row: int, column: int) -> None:
        with self._hush():
            self._row.value, self._column.value = row, column
        self._moved()

    def _show_points(self, points: Sequence[Point], size: tuple[int, int]) -> None:
        """Bring the controls to what is on screen: a picture's size, its points, the last one."""
        with self._hush():
            for control, limit, value in zip(self._point_knobs, size, points[-1], strict=True):
                control.value = min(control.value, limit - 1)
                control.max = limit - 1
                control.value = value
        self._pins = tuple(points[:-1])


def within(points: Iterable[Point], size: tuple[int, int]) -> tuple[Point, ...]:
    """Return points moved into a picture: one of the picture before may lie beyond this one."""
    return tuple((min(row, size[0] - 1), min(column, size[1] - 1)) for row, column in points)
