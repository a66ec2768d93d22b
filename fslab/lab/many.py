"""A lab's stages and methods over many pictures, which pass through the networks together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from fslab.batches import Batch, chosen_batch
from fslab.datasets import VOC, PictureLike
from fslab.datasets.read import check_several
from fslab.lab.models import Models
from fslab.lab.settings import extraction
from fslab.lab.words import beside_layers
from fslab.process import ordinary
from fslab.records import Features, FslabError, Recipe, Vocabulary, words_of

if TYPE_CHECKING:
    from fslab.lab.lab import Lab
    from fslab.lab.result import Result
    from fslab.lab.stream import Source


class Many(Models):
    """What `Lab` does with many pictures.

    batch: how many pass through the networks at once; left out, one on a CPU and eight on a GPU.
    One by one, bits and keys of the store are those of `extract` and `segment`. What passed
    together is within 1e-5 of the largest value of a map in fp32, and has keys of its own.
    """

    def recipe(self, method: str | Recipe = "freeseg-diff", **stages: Any) -> Recipe:
        """Return a method's recipe for this backbone."""
        raise NotImplementedError

    @ordinary()
    def extract_many(
        self,
        pictures: Iterable[PictureLike],
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        seed: int = 0,
        batch: int | None = None,
        **settings: Any,
    ) -> list[Features | FslabError]:
        """Return each picture's features, as `Lab.extract` does, `batch` passes at once.

        Pictures that the network sees at one size pass together, and so do timesteps and draws of
        noise, of one picture too. pictures: as `fslab.read` takes them. One that cannot be read, or
        fails, has its FslabError in its place.
        """
        from fslab.extract import extract_many

        part = extraction(layers, timesteps, seed=seed, **settings)
        if part.attention != "none":
            raise FslabError(
                f"attention is {part.attention!r}, which is to words, and extract_many takes none; "
                "give them to lab.extract_all(pictures, words=...)"
            )
        at_once = Batch(chosen_batch(batch, self.device))
        return extract_many(pictures, part, self.backbone, self.store, at_once)

    def extract_all(
        self,
        pictures: Iterable[Source] | str | os.PathLike[str],
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        seed: int = 0,
        words: Sequence[str] = (),
        *,
        batch: int | None = None,
        progress: bool | None = None,
        **settings: Any,
    ) -> Iterator[Features]:
        """Yield the features of any number of pictures, in their order, as `Lab.extract` has them.

        pictures: a folder, or what `fslab.read` takes, or samples of a data set, from a generator
        too; a thread reads ahead. layers, timesteps, seed, words, settings: as in `extract`. batch:
        how many pass at once, as in `extract_many`. progress: a bar, shown in terminals and
        notebooks if left out.

        Each map is filed as soon as its batch has passed, so what was interrupted goes on where it
        was when it is asked for again. A picture that cannot be read, or fails, is named in a
        FslabWarning, and the others go on; FslabError counts them in the end, and where none of
        the first few passes it ends the work. One picture alone is refused by its own sentence.
        """
        from fslab.lab.editing import as_begun
        from fslab.lab.stream import Wanted, extract_all, sources_of

        part = extraction(layers, timesteps, seed=seed, **settings)
        wanted = Wanted(part, beside_layers(part, words))
        batch, sources = chosen_batch(batch, self.device), sources_of(pictures)
        lab = cast("Lab", self)
        return as_begun(self, extract_all(lab, sources, wanted, batch, progress))

    def segment_many(
        self,
        pictures: Iterable[PictureLike],
        method: str | Recipe = "freeseg-diff",
        vocabulary: Vocabulary = VOC,
        candidates: Sequence[str] | None = None,
        batch: int | None = None,
        processes: int | None = None,
        **stages: Any,
    ) -> Iterator[Result | FslabError]:
        """Yield what `Lab.segment` returns of each picture, in their order, faster than one by one.

        pictures: as `fslab.read` takes them; they may come from a generator, which a thread asks
        ahead. processes: how many others cluster and sharpen meanwhile; left out, one for each
        processor, and none where pictures pass one by one. stages: functions of one's own, as in
        `Lab.segment`. A picture that cannot be read, or fails, gives its FslabError, and the others
        go on.
        """
        from fslab.lab.courses import each_picture, run_many
        from fslab.lab.editing import as_begun
        from fslab.lab.processes import chosen_processes
        from fslab.lab.together import Order

        check_several(pictures)
        recipe = self.recipe(method, **stages)
        batch = chosen_batch(batch, self.device)
        processes = chosen_processes(processes, batch, self.device)
        self.check_text_side(recipe, candidates is None)
        given = None if candidates is None else words_of(candidates, "candidates")
        order = Order(recipe, vocabulary, given)
        lab, sources = cast("Lab", self), each_picture(pictures)
        return as_begun(self, run_many(lab, sources, order, batch, processes))
