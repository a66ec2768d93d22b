"""Parts of a recipe from keywords."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fslab.records import Extraction, FslabError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Part = TypeVar("Part", bound="DataclassInstance")


def build(kind: type[Part], **settings: Any) -> Part:
    """Build a part of a recipe from keywords; FslabError for one that it does not have."""
    known = kind.__dataclass_fields__
    if "timestep" in settings and "timesteps" in known:
        raise FslabError(
            f"timestep is called timesteps since 0.2; write timesteps={settings['timestep']!r}"
        )
    for name in settings:
        if name not in known:
            raise FslabError(
                f"{kind.__name__.lower()} has no setting {name!r}; it has {', '.join(known)}"
            )
    return kind(**settings)


def extraction(
    layers: Sequence[str] | str, timesteps: int | Sequence[int] | None, **settings: Any
) -> Extraction:
    """Build how features are taken: of which layers, at which timesteps, the usual for None."""
    steps = () if timesteps is None else tuple(np.atleast_1d(timesteps).tolist())
    layers = (layers,) if isinstance(layers, str) else layers
    return build(Extraction, layers=layers, timesteps=steps, **settings)
