"""What is fuzzed: how an input is made, and what may become of it."""

from __future__ import annotations

import json
import random
import struct
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from fuzz.mutate import damaged, damaged_json
from hard_pictures import corpus
from PIL import Image

from fslab.datasets import coco, picture_size, read, read_mask, write_mask
from fslab.datasets.read import write_picture
from fslab.records import FslabError, digest_of
from fslab.store import Store, encode

SMALL = 5_000_000
"""Pillow's limit of pixels here: a bomb below it is decoded, and shall not take seconds."""


class Target(ABC):
    """One reader. `make` gives an input; `outcome` says what became of it, or raises."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def make(self, chance: random.Random) -> bytes:
        """Return an input."""

    @abstractmethod
    def outcome(self, data: bytes) -> str:
        """Feed it to the reader; raise whatever it must not raise, and AssertionError."""


class Pictures(Target):
    """Every reader of picture files, over damaged files of the whole corpus."""

    name = "pictures"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        mask = folder / "mask.png"
        write_mask(np.arange(600, dtype=np.uint8).reshape(20, 30), mask)
        made = [hard.data for hard in corpus() if hard.kind == "file" and hard.data]
        self.files = [data for data in (*made, mask.read_bytes()) if len(data) < 200_000]
        Image.MAX_IMAGE_PIXELS = SMALL

    def make(self, chance: random.Random) -> bytes:
        return damaged(chance.choice(self.files), self.files, chance)

    def outcome(self, data: bytes) -> str:
        path = self.folder / "input"
        path.write_bytes(data)
        _refused(picture_size, path)
        mask = _refused(read_mask, path)
        assert mask is None or (mask.dtype in (np.uint8, np.uint16) and mask.ndim == 2)
        picture = _refused(read, path)
        if picture is None:
            return "refused"
        assert picture.pixels.size
        assert picture_size(path) == picture.size
        return "read"


class Coco(Target):
    """The json reader and what paints its outlines."""

    name = "coco"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "annotations").mkdir()
        self.source = folder / "annotations" / "instances_val2017.json"
        for name in ("p.png", "q.png"):
            (folder / "val2017").mkdir(exist_ok=True)
            write_picture(np.zeros((20, 30, 3), np.uint8), folder / "val2017" / name)

    def make(self, chance: random.Random) -> bytes:
        data = json.dumps(damaged_json(INSTANCES, chance)).encode()
        plain = json.dumps(INSTANCES).encode()
        return damaged(data, [plain], chance) if chance.random() < 0.3 else data

    def outcome(self, data: bytes) -> str:
        self.source.write_bytes(data)
        found = _refused(coco, self.folder)
        if found is None:
            return "refused"
        truths = [_refused(sample.__class__.truth, sample) for sample in found]
        for sample, truth in zip(found, truths, strict=True):
            assert truth is None or (truth.dtype == np.uint8 and truth.shape == sample.size)
        return "truth refused" if any(truth is None for truth in truths) else "read"


class Entries(Target):
    """The store: a damaged entry is discarded, or holds to the last bit what was written."""

    name = "store"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        chance = np.random.default_rng(0)
        self.written: list[dict[str, np.ndarray]] = [
            {"map": chance.standard_normal((3, 4, 5), np.float32)},
            {"map": np.zeros((0, 4), np.float32), "flag": np.array(True)},
            {
                "paths": np.frombuffer(b"up_blocks.1", np.uint8),
                "shapes": np.arange(6).reshape(3, 2),
            },
            {"labels": np.tile(np.arange(5, dtype=np.int32), (9, 2))},
        ]
        self.store, self.key = Store(folder), digest_of("fuzz")
        self.files = [encode(arrays, self.key) for arrays in self.written]

    def make(self, chance: random.Random) -> bytes:
        data = chance.choice(self.files)
        if chance.random() < 0.5:
            return damaged(data, self.files, chance)
        (length,) = struct.unpack_from("<Q", data)
        header: Any = damaged_json(json.loads(data[8 : 8 + length]), chance)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    def outcome(self, data: bytes) -> str:
        path = Path(self.store.path(self.key))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self.store.get(self.key)
        if found is not None:
            assert any(_same(found, arrays) for arrays in self.written), "nobody wrote this entry"
            return "read"
        self.store.put(self.key, self.written[0])
        again = self.store.get(self.key)
        assert again is not None, "an entry cannot be made again where a damaged one was"
        assert _same(again, self.written[0])
        return "discarded"


INSTANCES = {
    "images": [
        {"id": 7, "file_name": "p.png", "height": 20, "width": 30},
        {"id": 9, "file_name": "q.png", "height": 20, "width": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": [[5, 5, 10, 5, 10, 10, 5, 10]]},
        {"id": 2, "image_id": 7, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [20, 30], "counts": [400, 200]}},
        {"id": 3, "image_id": 9, "category_id": 1, "segmentation": {"size": [20, 30], "counts": "T<<0O10O1O001O1O1N2N2O0O2O1O1O1O1O10000000000001OYX0"}},
        {"id": 4, "image_id": 9, "category_id": 1, "segmentation": [[0.5, 0, 22, 0, 22, 20, 0, 20], [1, 1, 2, 2, 3, 1]]},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}  # fmt: skip

TARGETS: dict[str, type[Target]] = {each.name: each for each in (Pictures, Coco, Entries)}


def _refused(reader: Any, given: Any) -> Any:
    """Return what a reader gives, or None where it refuses."""
    try:
        return reader(given)
    except FslabError as error:
        said = str(error)
    assert "\n" not in said, f"more than one line: {said}"
    return None


def _same(found: dict[str, np.ndarray], written: dict[str, np.ndarray]) -> bool:
    return found.keys() == written.keys() and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in written.items()
    )
