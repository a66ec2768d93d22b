"""How a model wants its colours: what its image processor's configuration says, without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fslab.records import FslabError
from fslab.weights.trust import read_config

BYTE = 1 / 255


@dataclass(frozen=True)
class Colours:
    """Pixels 0..255 are multiplied by `scale`; `mean` is subtracted, and the rest over `std`."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    scale: float = BYTE

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """Return u8 [H, W, 3] as f32 of the same shape, in the model's colours."""
        values = pixels.astype(np.float32)
        values = values / 255.0 if self.scale == BYTE else values * np.float32(self.scale)
        scaled: NDArray[np.float32] = (values - self.mean) / self.std
        return scaled

    def named(self) -> list[Any]:
        """Return what names the colours among what names features."""
        statistics: list[Any] = [list(map(float, part)) for part in (self.mean, self.std)]
        return statistics if self.scale == BYTE else [*statistics, self.scale]


def read_colours(folder: Path) -> Colours:
    """Return the colours that a transformers folder's image processor makes.

    They are read from preprocessor_config.json, or from processor_config.json, into which newer
    releases write an image processor with the rest. Raises FslabError where neither says them.
    """
    path, config = _image_processor(folder)
    mean, std = np.zeros(3, np.float32), np.ones(3, np.float32)
    if config.get("do_normalize", True):
        mean, std = (_channels(path, config, name) for name in ("image_mean", "image_std"))
    if not std.all():
        raise FslabError(f"{path} has an image_std of 0, by which nothing can be divided")
    return Colours(mean, std, _scale(path, config))


def _image_processor(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    path = folder / "preprocessor_config.json"
    if path.exists():
        return path, read_config(folder, path.name)
    path = folder / "processor_config.json"
    if path.exists():
        config = read_config(folder, path.name)
        nested = config.get("image_processor")
        return path, nested if isinstance(nested, dict) else config
    raise FslabError(
        f"{folder} holds no preprocessor_config.json, which says how the model wants its colours; "
        "bring it from where the weights came from"
    )


def _channels(path: Path, config: Mapping[str, Any], name: str) -> NDArray[np.float32]:
    """Return the three channels' numbers; one number stands for all three."""
    if name not in config:
        raise FslabError(f"{path} names no image_mean and image_std")
    try:
        values = np.broadcast_to(np.asarray(config[name], np.float32), 3)
        if not np.isfinite(values).all():
            raise ValueError("not finite")
    except (TypeError, ValueError) as error:
        raise FslabError(
            f"{path} has the {name} {config[name]!r}; it must be three numbers, one for each colour"
        ) from error
    return values


def _scale(path: Path, config: Mapping[str, Any]) -> float:
    if not config.get("do_rescale", True):
        return 1.0
    given = config.get("rescale_factor")
    scale = BYTE if given is None else given
    if not isinstance(scale, (int, float)) or not 0 < scale < inf:
        raise FslabError(f"{path} has the rescale_factor {scale!r}; it must be a number above 0")
    return BYTE if abs(scale - BYTE) < 1e-9 else float(scale)
