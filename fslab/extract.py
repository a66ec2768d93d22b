"""From pictures to features, each map computed once: the store is asked before any model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fslab.backbones import Backbone, Layer, pick_layers
from fslab.batches import Batch, look_up
from fslab.datasets import PictureLike, read
from fslab.datasets.read import check_several
from fslab.heads import whole_of
from fslab.keys import batched, layers_key, map_key
from fslab.process import ordinary, stage
from fslab.records import Extraction, Features, FslabError, Picture
from fslab.store import Store
from fslab.tap import PROBABILITIES

if TYPE_CHECKING:
    from torch import Tensor


def complete(settings: Extraction, backbone: Backbone) -> Extraction:
    """Fill in the backbone's own layers, timestep, resolution and precision where none is named.

    Raises FslabError for timesteps asked of a backbone in which time has no meaning.
    """
    if backbone.timestep is None and settings.timesteps not in ((), (0,)):
        raise FslabError(
            f"{backbone.name} has no timesteps; leave them out, not {list(settings.timesteps)}"
        )
    return replace(
        settings,
        layers=settings.layers or backbone.default_layers,
        timesteps=settings.timesteps or (backbone.timestep or 0,),
        resolution=settings.resolution or backbone.resolution,
        precision=settings.precision or backbone.precision,
    )


@stage
def extract(
    picture: PictureLike, settings: Extraction, backbone: Backbone, store: Store
) -> Features:
    """Return the wanted layers' maps f32 [C, h, w], from the store or in one pass a timestep.

    picture: as `fslab.read` takes it. Layers of one timestep that are missing share a pass, which
    ends after the last of them. Where they are mirrored the mirror image's maps are filed too, each
    picture's by itself. Raises FslabError for an unknown layer or timestep, and for a prompt that
    is to be made of a caption.
    """
    if settings.mirrored:
        plain, picture = replace(settings, mirrored=False), read(picture)
        both = [extract(each, plain, backbone, store) for each in (picture, mirror_of(picture))]
        return mean_with_mirrored(*both)
    settings = complete(settings, backbone)
    _check_prompt(settings)
    pairs = _pairs(settings, backbone, store)
    one = _Read(read(picture), settings, backbone, store, pairs)
    if one.wanted:
        _pass([one], 1)
    return one.features()


@ordinary()
def extract_many(
    pictures: Iterable[PictureLike],
    settings: Extraction,
    backbone: Backbone,
    store: Store,
    batch: Batch,
) -> list[Features | FslabError]:
    """Return each picture's features, as `extract` does; those of one size pass together.

    With a batch of one, the bits and the keys are those of `extract`, which reads no others. What
    several passes gave together is filed under keys that say so. A picture that cannot be read, or
    fails, has its FslabError in its place. Raises FslabError as `extract` does for all.
    """
    check_several(pictures)
    if settings.mirrored:
        return _many_mirrored(pictures, settings, backbone, store, batch)
    settings = complete(settings, backbone)
    _check_prompt(settings)
    together = backbone.batches and batch.size > 1
    pairs = _pairs(settings, backbone, store)
    rest = (settings, backbone, store, pairs, together)
    opened = [_read_or_refusal(picture) for picture in pictures]
    reads = [each if isinstance(each, FslabError) else _Read(each, *rest) for each in opened]
    groups: dict[Any, list[_Read]] = {}
    for each in reads:
        if isinstance(each, _Read) and each.wanted:
            groups.setdefault((each.size, *each.wanted.items()), []).append(each)
    found: dict[_Read, FslabError | None] = {}
    for group in groups.values():
        most = batch if together else Batch(1)
        passed = most.passes(group, partial(_pass, most=most.size), _name_of)
        found.update(zip(group, passed, strict=True))
    return [
        each if isinstance(each, FslabError) else found.get(each) or each.features()
        for each in reads
    ]


def _many_mirrored(
    pictures: Iterable[PictureLike],
    settings: Extraction,
    backbone: Backbone,
    store: Store,
    batch: Batch,
) -> list[Features | FslabError]:
    """Return the means of pictures' features and their mirror images', a refusal in its place."""
    opened = [_read_or_refusal(picture) for picture in pictures]
    good = [each for each in opened if isinstance(each, Picture)]
    both = [*good, *map(mirror_of, good)]
    plain = replace(settings, mirrored=False)
    maps = extract_many(both, plain, backbone, store, batch)
    means = iter(map(_mean_or_refusal, maps[: len(good)], maps[len(good) :]))
    return [each if isinstance(each, FslabError) else next(means) for each in opened]


def _mean_or_refusal(
    given: Features | FslabError, other: Features | FslabError
) -> Features | FslabError:
    if isinstance(given, FslabError):
        return given
    return other if isinstance(other, FslabError) else mean_with_mirrored(given, other)


def mirror_of(picture: Picture) -> Picture:
    """Return a picture's mirror image, left for right."""
    return Picture(np.ascontiguousarray(picture.pixels[:, ::-1]), picture.name)


def mean_maps(
    given: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the mean of maps [h, w] of a picture and of its mirror image, mirrored back."""
    return {name: (each + other[name][:, ::-1]) / 2 for name, each in given.items()}


def mean_with_mirrored(given: Features, other: Features) -> Features:
    """Return the mean of a picture's features and its mirror image's, mirrored back.

    Self-attention's channels are cells too, and are mirrored with the map. Raises FslabError for
    self-attention whose channels are not its own cells.
    """
    maps = {key: (each + _mirrored_back(key, other[key])) / 2 for key, each in given.items()}
    return Features(maps, given.size, given.name)


def _mirrored_back(key: str, value: np.ndarray) -> np.ndarray:
    """Return a mirror image's map, f32 [C, h, w], as one of the picture."""
    channels, rows, columns = value.shape
    if not whole_of(key.partition("@")[0]).endswith(PROBABILITIES):
        return value[:, :, ::-1]
    if channels != rows * columns:
        raise FslabError(
            f"{key!r} has {channels} channels for {rows} x {columns} cells, so what they stand for "
            "cannot be mirrored; leave out this layer, or mirrored=True"
        )
    return value.reshape(rows, columns, rows, columns)[:, ::-1, :, ::-1].reshape(value.shape)


def _check_prompt(settings: Extraction) -> None:
    """Refuse a prompt that is to be made of what only a whole method finds."""
    if settings.prompted != "given":
        raise FslabError(
            f"extraction.prompted is {settings.prompted!r}, which is found by a whole method; run "
            "lab.segment, or give prompt='...'"
        )


def _read_or_refusal(picture: PictureLike) -> Picture | FslabError:
    try:
        return read(picture)
    except FslabError as error:
        return error


def _pairs(settings: Extraction, backbone: Backbone, store: Store) -> list[tuple[str, int]]:
    layers = pick_layers(settings.layers, listed_layers(backbone, store))
    return [(layer.path, timestep) for timestep in settings.timesteps for layer in layers]


class _Read:
    """What is known of one picture's maps, and what is missing: `wanted`, timestep -> paths."""

    def __init__(
        self,
        picture: Picture,
        settings: Extraction,
        backbone: Backbone,
        store: Store,
        pairs: Sequence[tuple[str, int]],
        together: bool = False,
    ) -> None:
        self.picture, self.settings, self.backbone, self.store = picture, settings, backbone, store
        self.size = backbone.input_size(picture, settings)
        self._keys = {pair: map_key(backbone, picture, self.size, pair, settings) for pair in pairs}
        self._found: dict[tuple[str, int], Mapping[str, np.ndarray]] = {}
        for pair, key in self._keys.items():
            entry = look_up(store, key) if together else store.get(key)
            if entry is not None:
                self._found[pair] = entry
        self.wanted: dict[int, tuple[str, ...]] = {}
        for path, timestep in pairs:
            if (path, timestep) not in self._found:
                self.wanted[timestep] = (*self.wanted.get(timestep, ()), path)

    def keep(self, maps: Mapping[tuple[str, int], Tensor], several: bool) -> None:
        """File what a pass gave; several: whether there was more in it."""
        for pair, value in maps.items():
            array = np.ascontiguousarray(value.numpy())
            array.setflags(write=False)  # as the store gives them
            self._found[pair] = {"map": array}
            key = self._keys[pair]
            self.store.put(batched(key) if several else key, self._found[pair])

    def features(self) -> Features:
        """Return all maps, by path, or by path@timestep where there is more than one."""
        several = len(self.settings.timesteps) > 1
        maps = {
            f"{path}@{step}" if several else path: self._found[path, step]["map"]
            for path, step in self._keys
        }
        return Features(maps, self.picture.size, self.picture.name)


def _pass(reads: Sequence[_Read], most: int) -> list[None]:
    """Pass pictures of one size through the network, at most so many at once, and file the maps."""
    first = reads[0]
    passes = len(reads) * len(first.wanted) * first.settings.draws
    several = most > 1 and passes > 1
    if several:
        pictures = [each.picture for each in reads]
        found = first.backbone.run_many(pictures, first.size, first.wanted, first.settings, most)
    else:
        found = [
            each.backbone.run(each.picture, each.size, each.wanted, each.settings) for each in reads
        ]
    for each, maps in zip(reads, found, strict=True):
        each.keep(maps, several)
    return [None] * len(reads)


def _name_of(one: _Read) -> str:
    return one.picture.name


@ordinary()
def listed_layers(backbone: Backbone, store: Store) -> tuple[Layer, ...]:
    """Return the backbone's layers, from the store if they were listed before."""
    if backbone.listing is None:
        backbone.listing = _filed_layers(backbone, store)
    return backbone.listing


def _filed_layers(backbone: Backbone, store: Store) -> tuple[Layer, ...]:
    key = layers_key(backbone)
    entry = store.get(key)
    if entry is None:
        layers = backbone.layers()
        paths = json.dumps([layer.path for layer in layers]).encode()
        shapes = np.array(
            [(layer.channels, layer.stride, layer.entry, layer.heads) for layer in layers]
        )
        store.put(key, {"paths": np.frombuffer(paths, np.uint8), "shapes": shapes})
        return layers
    paths = json.loads(entry["paths"].tobytes())
    return tuple(Layer(*one) for one in zip(paths, *entry["shapes"].T.tolist(), strict=True))
