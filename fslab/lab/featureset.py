"""Features, and labels if wanted, as a map-style data set of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from fslab.batches import Batch, chosen_batch
from fslab.datasets import VOC, Dataset, Sample
from fslab.errors import FslabError
from fslab.lab.editing import check_no_edit
from fslab.lab.settings import extraction
from fslab.lab.stream import Wanted, extract_all, features_of, opened, sources_of
from fslab.lab.words import beside_layers
from fslab.records import Recipe, Vocabulary
from fslab.records.base import described

if TYPE_CHECKING:
    from fslab.lab.lab import Lab

TRUTH = "truth"
"""As labels: those that belong to a data set's samples."""


class FeatureSet(TorchDataset[dict[str, Any]]):
    """A map-style data set of torch: each picture's features, and its labels if wanted.

    An item is a dict: "name", the picture's; "features", by layer, tensors f32 [C, h, w]; and
    where there are labels "labels", a tensor i64 [H, W] of the picture's own size, in which 255
    (65535 of more than 255 classes) is void: `ignore_index` of torch's losses. Pictures of several
    sizes have maps of several, which `collate_fn` is to bring together; squash=True makes features
    of one size.

    lab: what features come from. pictures: a folder, a list of what `fslab.read` takes, or a
    `fslab.datasets.Dataset`. labels: None; "truth", which a data set's samples have; or a method,
    whose `lab.segment(picture, method, vocabulary).labels` they are. layers, timesteps, seed,
    words, batch, settings: as in `Lab.extract_all`.

    It pickles, so DataLoader's workers (num_workers) each open the lab again. Everything comes from
    the store where it is there: `compute()` first, and workers load no model. A worker that is
    forked from a process that uses CUDA cannot: give `multiprocessing_context="spawn"`.

    Raises FslabError for what has no length, for truth that is not there, and as the lab does;
    an item that cannot be read raises it when it is asked for.
    """

    def __init__(
        self,
        lab: Lab,
        pictures: Any,
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        seed: int = 0,
        words: Sequence[str] = (),
        *,
        labels: str | Recipe | None = None,
        vocabulary: Vocabulary | None = None,
        batch: int | None = None,
        **settings: Any,
    ) -> None:
        check_no_edit(lab, "a FeatureSet, whose workers are other processes,")
        found = sources_of(pictures)
        if not isinstance(found, (Sequence, Dataset)):
            raise FslabError(
                f"pictures are {described(found)}, which has no length; give a list, a folder or a "
                "data set"
            )
        part = extraction(layers, timesteps, seed=seed, **settings)
        self._lab, self._sources = lab, tuple(found)
        self._wanted = Wanted(part, beside_layers(part, words))
        self._batch = chosen_batch(batch, lab.device)
        own = found.vocabulary if isinstance(found, Dataset) else VOC
        self.vocabulary = own if vocabulary is None else vocabulary
        self._recipe: Recipe | None = None
        self._has_truth = labels == TRUTH
        if labels is not None and not self._has_truth:
            self._recipe = lab.recipe(labels)
            lab.check_text_side(self._recipe, captioned=True)
        if self._has_truth:
            self._check_truth()

    def _check_truth(self) -> None:
        for source in self._sources:
            if not isinstance(source, Sample) or not source.has_truth:
                named = source.name if isinstance(source, Sample) else described(source)
                raise FslabError(
                    f"labels are to be the truth, and {named} has none; give a data set with masks "
                    "(fslab.datasets.load), or a method's name for labels that it makes"
                )

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source = self._sources[index]
        picture = opened(source)
        (found,) = features_of(self._lab, [picture], self._wanted, Batch(self._batch))
        if isinstance(found, FslabError):
            raise found
        name = source.name if isinstance(source, Sample) else picture.name
        item = {"name": name, "features": found.torch()}
        labels: np.ndarray | None = None
        if self._has_truth and isinstance(source, Sample):
            labels = source.truth()
        elif self._recipe is not None:
            labels = self._lab.segment(picture, self._recipe, self.vocabulary).labels.labels
        if labels is not None:
            item["labels"] = torch.from_numpy(labels.astype(np.int64))
        return item

    def compute(self, progress: bool | None = None) -> None:
        """Put into the store what it lacks of all features, in this process; see `extract_all`."""
        for _ in extract_all(self._lab, self._sources, self._wanted, self._batch, progress):
            pass
