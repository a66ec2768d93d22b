"""A bank of regions of unlabelled pictures: keys from a backbone, values from CLIP.

Own code; source of the idea: CorrCLIPv2 (2026).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from fslab.files import write_aside
from fslab.keys import content
from fslab.parts import versioned
from fslab.process import ordinary
from fslab.records import Features, FslabError, KMeans, Picture, Segments, digest_of
from fslab.vectors import unit

_UNIT = KMeans(normalise="l2")
"""How layers are joined: every cell of every layer has unit length."""

_ABOUT = "fslab bank"
"""Where a file's metadata says what is in it."""

_AT_ONCE = 256
"""Segments that are compared with the whole bank at once, to bound memory."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Regions of pictures that are not scored.

    keys: f32 [N, C] of unit length, each region's mean features. values: f32 [N, D] of unit length,
    CLIP's vector of it. pictures: the digests of the pictures. facts: what made it, plain data:
    weights, settings and versions.
    """

    keys: NDArray[np.float32]
    values: NDArray[np.float32]
    pictures: tuple[str, ...]
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Bank({len(self.keys)} regions of {len(self.pictures)} pictures)"

    @cached_property
    def digest(self) -> str:
        """Name of all that it holds."""
        held = content({"keys": self.keys, "values": self.values})
        return digest_of([held, list(self.pictures), dict(self.facts)])

    def nearest(self, keys: np.ndarray, count: int) -> NDArray[np.float32]:
        """Return f32 [K, D] of unit length: the mean value of the regions most like each key.

        keys: f32 [K, C] of unit length. count: of how many regions; all where there are fewer.
        Raises FslabError for keys of other features.
        """
        if keys.shape[1] != self.keys.shape[1]:
            raise FslabError(
                f"the features have {keys.shape[1]} channels and those of the bank "
                f"{self.keys.shape[1]}; take the layers that the bank was made of"
            )
        count = min(count, len(self.keys))
        means = np.empty((len(keys), self.values.shape[1]), np.float32)
        for start in range(0, len(keys), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            like = keys[some] @ self.keys.T
            chosen = np.argpartition(-like, count - 1, axis=1)[:, :count]
            means[some] = self.values[chosen].mean(1)
        return unit(means).astype(np.float32, copy=False)

    def check_apart(self, picture: Picture) -> None:
        """Refuse a picture that the bank was made of."""
        if picture.digest in self._known:
            raise FslabError(
                f"{picture.name} is one of the pictures that the bank was made of, which would "
                "name it by itself; make a bank of other pictures"
            )

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.pictures)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, whole or not at all."""
        from safetensors.numpy import save

        about = {"pictures": list(self.pictures), "facts": dict(self.facts), "digest": self.digest}
        arrays = {"keys": self.keys, "values": self.values}
        write_aside(path, save(arrays, metadata={_ABOUT: json.dumps(about)}))


def read_bank(path: str | os.PathLike[str]) -> Bank:
    """Read a bank that `Bank.write` wrote.

    Raises FslabError for a file that is not there, that is none, and for one that was damaged or
    changed by hand.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FslabError(f"there is no bank {str(path)!r}; `fslab bank` makes one of a folder")
    try:
        with safe_open(path, "numpy") as file:
            about = (file.metadata() or {}).get(_ABOUT)
            if about is None:
                raise FslabError(f"{path} is no bank of regions; give a file of `fslab bank`")
            keys, values = file.get_tensor("keys"), file.get_tensor("values")
        said = json.loads(about)
        bank = Bank(keys, values, tuple(said["pictures"]), said["facts"])
        whole = bank.digest == said["digest"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FslabError(f"{path} cannot be read as a bank of regions ({error})") from error
    if not whole or keys.dtype != np.float32 or values.dtype != np.float32:
        raise FslabError(f"{path} does not hold what it was written with; make the bank again")
    if len(keys) != len(values) or not len(keys):
        raise FslabError(f"{path} has {len(keys)} keys and {len(values)} values; make it again")
    return bank


@versioned(1)
@ordinary()
def region_keys(features: Features, segments: Segments) -> NDArray[np.float32]:
    """Return each segment's mean features, f32 [K, C] of unit length.

    Every layer's cells have unit length and are resized to the finest layer's grid; a cell counts
    by the share of it that the segment covers. Raises FslabError where sizes differ.
    """
    from fslab.cluster import join, unit_length

    if features.size != segments.size:
        raise FslabError(
            f"features are of a picture of {features.size} and segments of {segments.size}; give "
            "those of one picture"
        )
    joined = torch.from_numpy(unit_length(join(features, _UNIT)).astype(np.float32, copy=False))
    masks = torch.from_numpy(segments.masks().astype(np.float32))
    grid = joined.shape[1], joined.shape[2]
    covered = adaptive_avg_pool2d(masks[:, None], grid)[:, 0].flatten(1)
    return unit((covered @ joined.flatten(1).T).numpy()).astype(np.float32, copy=False)


def joined_bank(parts: Sequence[Bank]) -> Bank:
    """Return banks as one; they were made in the same way."""
    first = parts[0]
    return Bank(
        np.concatenate([each.keys for each in parts]),
        np.concatenate([each.values for each in parts]),
        tuple(digest for each in parts for digest in each.pictures),
        first.facts,
    )
