"""Features of many pictures, one after the other: read ahead, with progress, and none is lost."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from fslab.batches import Batch
from fslab.datasets import PictureLike, Sample, place, read
from fslab.datasets.folders import said_of_folder, sorted_out
from fslab.datasets.places import Url
from fslab.datasets.read import SUFFIXES, check_several
from fslab.errors import FslabError, FslabWarning
from fslab.lab.courses import read_ahead
from fslab.process import memory_refused, ordinary
from fslab.records import Extraction, Features, Picture

if TYPE_CHECKING:
    from fslab.lab.lab import Lab

HOPELESS = 3
"""After so many pictures that were read, and none that passed, the work ends."""

_NAMED = 3
"""So many refusals stand in the sentence at the end."""

Source = PictureLike | Sample


@dataclass(frozen=True)
class Wanted:
    """What is read of each picture; words: whose attention maps join the layers."""

    settings: Extraction
    words: Sequence[str] = ()


def sources_of(pictures: Iterable[Source] | str | os.PathLike[str] | Url) -> Iterable[Source]:
    """Return pictures, or those in a folder, sorted by name; what else it holds is warned of.

    Raises FslabError for one picture, and for a folder that is not there or holds none.
    """
    if not isinstance(pictures, (str, os.PathLike, Url)):
        check_several(pictures)
        return pictures
    folder = place(pictures)
    if folder.suffix.lower() in SUFFIXES and not folder.is_dir():
        check_several(pictures)
    taken, left = sorted_out(folder, SUFFIXES)
    if not taken:
        raise FslabError(f"{str(folder)!r} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    if left:
        said = said_of_folder(str(folder), len(taken), left)
        warnings.warn(said, FslabWarning, stacklevel=3)
    return taken


def opened(source: Source) -> Picture:
    """Read a picture, or a data set's sample."""
    return source.picture() if isinstance(source, Sample) else read(source)


@ordinary()
def features_of(
    lab: Lab, pictures: Sequence[Picture], wanted: Wanted, batch: Batch
) -> list[Features | FslabError]:
    """Return each picture's features, or what it is refused for; those of one size pass together.

    Of one by one, bits and keys of the store are those of `Lab.extract`.
    """
    from fslab.extract import extract_many

    found = extract_many(pictures, wanted.settings, lab.backbone, lab.store, batch)
    return [
        each if isinstance(each, FslabError) else _with_words(lab, each, wanted) for each in found
    ]


def _with_words(lab: Lab, features: Features, wanted: Wanted) -> Features | FslabError:
    try:
        with memory_refused(features.name):
            return lab._with_words(features, wanted.settings, wanted.words)
    except FslabError as error:
        return error


def extract_all(
    lab: Lab, sources: Iterable[Source], wanted: Wanted, batch: int, progress: bool | None
) -> Generator[Features]:
    """Yield the features of pictures in their order; see `Lab.extract_all`."""
    refused: list[FslabError] = []
    worked, failed, several = 0, 0, Batch(batch)
    reading = (partial(opened, each) for each in sources)
    with _bar(sources, lab.backbone.name, progress) as bar, read_ahead(reading, 2 * batch) as ahead:
        for group in _groups(ahead, batch):
            pictures = [each for each in group if isinstance(each, Picture)]
            passed = iter(features_of(lab, pictures, wanted, several))
            for each in group:
                found = next(passed) if isinstance(each, Picture) else each
                bar.update()
                if isinstance(found, Features):
                    worked += 1
                    yield found
                    continue
                failed += isinstance(each, Picture)
                refused.append(found)
                warnings.warn(str(found), FslabWarning, stacklevel=3)
            if not worked and failed >= HOPELESS:
                break
    if refused:
        raise _left_out(refused, worked + len(refused))


def _groups(
    ahead: Iterator[Future[Picture | None]], size: int
) -> Iterator[list[Picture | FslabError]]:
    """Yield so many pictures at a time, each or its refusal, until there are no more."""
    coming = _each(ahead)
    while group := list(islice(coming, size)):
        yield group


def _each(ahead: Iterator[Future[Picture | None]]) -> Iterator[Picture | FslabError]:
    for future in ahead:
        try:
            with memory_refused("a picture"):
                found = future.result()
        except FslabError as error:
            yield error
            continue
        if found is None:
            return
        yield found


def _left_out(refused: Sequence[FslabError], given: int) -> FslabError:
    """Return the one refusal of a picture that was alone, or the sentence that counts several."""
    if given == 1:
        return refused[0]
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    named = "; ".join(map(str, refused[:_NAMED]))
    return FslabError(f"{len(refused)} of {given} pictures were left out: {named}{more}")


def _bar(sources: Iterable[Source], title: str, progress: bool | None) -> Any:
    """Return a progress bar; None shows it where somebody is looking: a terminal or a notebook."""
    from tqdm.auto import tqdm

    total = len(sources) if isinstance(sources, Sized) else None
    if progress is None and _in_a_notebook():
        return tqdm(desc=title, total=total, unit=" pictures")
    hidden = None if progress is None else not progress
    return tqdm(desc=title, total=total, unit=" pictures", disable=hidden)


def _in_a_notebook() -> bool:
    """Tell a notebook's kernel, whose output is no terminal and yet is looked at."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")
