"""What a file beside a mask says of it."""

from __future__ import annotations

from typing import Any

from fslab.lab.result import Result


def facts(result: Result, caveat: str = "") -> dict[str, Any]:
    """Return caption, candidates, classes found, recipe and seconds of one picture, for JSON.

    caveat: what `Lab.caveat` says of the picture, "" where nothing.
    """
    shares = result.labels.shares()
    background = result.vocabulary.names[0]
    return {
        "picture": result.picture.name,
        "caveat": caveat,
        "size": list(result.picture.size),
        "caption": result.caption.text,
        "nouns": list(result.caption.nouns),
        "candidates": list(result.caption.candidates),
        "classes": [
            {
                "name": name,
                "label": result.vocabulary.names.index(name),
                "score": result.labels.scores.get(name),
                "share": share,
            }
            for name, share in shares.items()
            if name != background
        ],
        "background_share": shares.get(background, 0.0),
        "segments": result.segments.count,
        "recipe": result.recipe.to_dict(),
        "seconds": dict(result.seconds),
    }
