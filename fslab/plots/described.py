"""What a figure shows, in words: for those who cannot see it, and for a picture's alt text."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fslab.records import FslabError

MOST = 8
"""So many names or values are said one by one; of more, only how many there are and their range."""


def described(figure: go.Figure | Mapping[str, Any]) -> str:
    """Say what is on a figure: its title, its panels, and what its bars, lines and cells hold.

    figure: a plotly figure, or the JSON of one as a notebook's output has it. Returns one line of
    plain text; the numbers are the figure's own. Raises FslabError for what is no figure.
    """
    if isinstance(figure, go.Figure):
        figure = figure.to_plotly_json()
    if not isinstance(figure, Mapping) or not {"data", "layout"} <= set(figure):
        raise FslabError(
            f"described takes a plotly figure or its JSON, with data and layout; this is a "
            f"{type(figure).__name__}"
        )
    layout = figure["layout"]
    panels = _panels(layout)
    parts = [_words(layout.get("title")), panels]
    for kind, say in _SAY.items():
        if panels and kind == "heatmap":  # its panels' titles have the ranges
            continue
        found = [trace for trace in figure["data"] if trace.get("type", "scatter") == kind]
        parts.append(say(found, layout) if found else "")
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def _words(text: Any) -> str:
    """Return a title's text without its HTML, on one line."""
    text = (text.get("text") or "") if isinstance(text, Mapping) else (text or "")
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def _panels(layout: Mapping[str, Any]) -> str:
    notes = [note for note in layout.get("annotations", ()) if note.get("yref") == "paper"]
    titles = [words for note in notes if (words := _words(note.get("text")))]
    return f"Panels: {'; '.join(titles)}" if titles else ""


def _bars(traces: list[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    flat = traces[0].get("orientation") == "h"
    measure = _words(layout.get("xaxis" if flat else "yaxis", {}).get("title"))
    said = []
    for trace in traces:
        values, names = (trace.get(axis, ()) for axis in (("x", "y") if flat else ("y", "x")))
        pairs = _pairs(_named(names, layout.get("yaxis" if flat else "xaxis", {})), _array(values))
        name = _words(trace.get("name"))
        said.append(f"{name}: {pairs}" if name and len(traces) > 1 else pairs)
    return f"Bars{f' of {measure}' if measure else ''}: {'; '.join(said)}"


def _named(places: Any, axis: Mapping[str, Any]) -> list[str]:
    """Return what stands beside bars: their own names, or the axis' words at their places."""
    ticks = dict(zip(_array(axis.get("tickvals", ())), axis.get("ticktext", ()), strict=False))
    return [_words(str(ticks.get(place, place))) for place in _array(places)]


def _pairs(names: list[str], values: np.ndarray) -> str:
    numbers = [float(value) for value in values]
    pairs = list(zip(names, numbers, strict=False))
    if len(pairs) <= MOST:
        return ", ".join(f"{name} {value:.3g}" for name, value in pairs)
    most, least = max(pairs, key=lambda pair: pair[1]), min(pairs, key=lambda pair: pair[1])
    return (
        f"{len(pairs)} of them, the longest {most[0]} {most[1]:.3g}, "
        f"the shortest {least[0]} {least[1]:.3g}"
    )


def _lines(traces: list[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    """Say the series that are drawn as lines, and count points; unseen traces are left out."""
    said, counted = [], []
    for trace in traces:
        name, y = _words(trace.get("name")), _array(trace.get("y", ()))
        unseen = (trace.get("marker") or {}).get("opacity") == 0
        if unseen or not len(y) or y.dtype == object:
            continue
        if "lines" in trace.get("mode", "") and name and len(y) > 1:
            x = _array(trace.get("x", range(len(y))))
            said.append(
                f"{name} from {y[0]:.3g} at {_short(x[0])} to {y[-1]:.3g} at {_short(x[-1])}"
            )
        elif "markers" in trace.get("mode", "") and name and len(y) > 1:
            counted.append(name if name.endswith(f"({len(y)})") else f"{name} ({len(y)})")
    measure = _words(layout.get("yaxis", {}).get("title"))
    over = _words(layout.get("xaxis", {}).get("title"))
    words = [f"Lines of {measure or 'values'} over {over or 'places'}: {'; '.join(said)}"]
    return ". ".join(
        (words if said else []) + ([f"Points: {', '.join(counted)}"] if counted else [])
    )


def _cells(traces: list[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    return "; ".join(_table(trace) for trace in traces)


def _table(trace: Mapping[str, Any]) -> str:
    values = np.array(_array(trace["z"]), float)
    if not np.isfinite(values).any():
        return f"{values.shape[0]} rows by {values.shape[1]} columns of cells"
    place = np.unravel_index(np.nanargmax(values), values.shape)
    names = []
    for axis, at in (("y", place[0]), ("x", place[1])):
        named = _array(trace[axis]) if axis in trace else ()
        names += [_words(str(named[at]))] if len(named) == values.shape[axis == "x"] else []
    where = f", the highest at {', '.join(names)}" if names else ""
    return (
        f"{values.shape[0]} rows by {values.shape[1]} columns of cells, "
        f"{np.nanmin(values):.3g} to {np.nanmax(values):.3g}{where}"
    )


def _pictures(traces: list[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    return "" if _panels(layout) else f"{len(traces)} picture{'s' if len(traces) > 1 else ''}"


_SAY = {"image": _pictures, "bar": _bars, "heatmap": _cells, "scatter": _lines}


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{float(value):.3g}"


def _array(values: Any) -> np.ndarray:
    """Return a trace's values; plotly's JSON has long ones as bytes in base64."""
    if isinstance(values, Mapping):
        flat = np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))
        shape = [int(side) for side in str(values.get("shape", len(flat))).split(",")]
        return flat.reshape(shape)
    found = list(values)
    return np.array(found, object if any(isinstance(one, str) for one in found) else None)
