"""Parts of a recipe from keywords."""

from __future__ import annotations

from typing import Any

from fslab.records import FslabError


def build(kind: type, **settings: Any) -> Any:
    """Build a part of a recipe from keywords; FslabError for one that it does not have."""
    known = kind.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise FslabError(
                f"{kind.__name__.lower()} has no setting {name!r}; it has {', '.join(known)}"
            )
    return kind(**settings)
