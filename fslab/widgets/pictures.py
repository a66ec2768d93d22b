"""Which picture is looked at: a list of those given, and an upload of the reader's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import ipywidgets as widgets
import numpy as np
from PIL import Image

from fslab.datasets import VOC, PictureLike, read
from fslab.datasets.places import Url, place
from fslab.datasets.read import is_one, shown_name
from fslab.datasets.samples import SPOKEN, Dataset, Sample
from fslab.records import FslabError, Picture, Vocabulary
from fslab.records.base import described
from fslab.widgets.controls import Hush, choice, row

Given = Dataset | Sample | PictureLike
"""What can be looked at: a data set, or one or several samples or pictures, as `fslab.read` takes
these."""

MOST_UPLOADED = 64 * 2**20
"""Bytes that an upload may have."""


@dataclass(frozen=True)
class Subject:
    """A picture that can be chosen, read when it is, and what is known of it.

    origin: the data set's name, empty where there is none; truth: u8 [H, W] or None.
    """

    name: str
    source: PictureLike | Sample
    vocabulary: Vocabulary = VOC
    origin: str = ""

    @cached_property
    def picture(self) -> Picture:
        """The pixels; raises FslabError where they cannot be read."""
        return self.source.picture() if isinstance(self.source, Sample) else read(self.source)

    @cached_property
    def truth(self) -> np.ndarray | None:
        """The truth where it is known."""
        return self.source.truth() if isinstance(self.source, Sample) else None

    @property
    def spoken(self) -> str:
        """The picture's name with its data set's: a mini score is never VOC's."""
        return f"{self.origin} {self.name}".strip()


def subjects_of(pictures: Given | Iterable[Given]) -> dict[str, Subject]:
    """Return what can be chosen, by name; of one name, later ones get a number.

    Raises FslabError where nothing is given, or anything but pictures.
    """
    one = isinstance(pictures, (Dataset, Sample)) or is_one(pictures)
    if not one and not isinstance(pictures, Iterable):
        raise FslabError(
            f"pictures are {described(pictures)}; give a data set, pictures, samples or paths"
        )
    entries: list[Any] = [pictures] if one else list(cast("Iterable[Given]", pictures))
    found: dict[str, Subject] = {}
    for entry in entries:
        for subject in _subjects(entry):
            _add(found, subject)
    if not found:
        raise FslabError("there are no pictures; give a data set, pictures or paths")
    return found


def _subjects(entry: Given) -> list[Subject]:
    if isinstance(entry, Dataset):
        samples, origin = entry.samples, f"{entry.name} {entry.split}"
        return [Subject(sample.name, sample, entry.vocabulary, origin) for sample in samples]
    if isinstance(entry, Picture):
        return [Subject(entry.name, entry)]
    if isinstance(entry, Sample):
        home = entry.path.parent.parent.name
        return [Subject(entry.name, entry, origin=SPOKEN.get(home, home))]
    if isinstance(entry, (str, os.PathLike, Url)):
        return [Subject(place(entry).stem, entry)]
    if isinstance(entry, (Image.Image, np.ndarray)):
        picture = read(entry)
        return [Subject(picture.name, picture)]
    kind = type(entry).__name__
    raise FslabError(f"pictures hold {kind}; give a data set, pictures, samples or paths")


def _add(found: dict[str, Subject], subject: Subject) -> str:
    given = shown_name(subject.name)
    subject, name, number = replace(subject, name=given), given, 2
    while name in found:
        name, number = f"{given} ({number})", number + 1
    found[name] = subject
    return name


class PicturePicker:
    """A list of pictures and a button for one's own; `list.value` is the chosen one's name.

    refuse: told in one sentence why an upload is not a picture.
    """

    def __init__(
        self, pictures: Given | Iterable[Given], hush: Hush, refuse: Callable[[str], None]
    ) -> None:
        self.subjects = subjects_of(pictures)
        self._hush, self._refuse = hush, refuse
        self.list = choice("picture", list(self.subjects))
        self.upload = widgets.FileUpload(
            accept="image/*", multiple=False, description="your own picture",
            layout={"width": "190px"},
        )  # fmt: skip
        self.upload.observe(self._take, "value")
        self.row = row(self.list, self.upload)

    @property
    def subject(self) -> Subject:
        """The chosen picture."""
        return self.subjects[self.list.value]

    def add(self, subject: Subject) -> None:
        """Put a picture into the list and choose it."""
        name = _add(self.subjects, subject)
        with self._hush():
            chosen = self.list.value
            self.list.options = list(self.subjects)
            self.list.value = chosen
        self.list.value = name

    def _take(self, change: Mapping[str, Any]) -> None:
        for entry in change["new"]:
            try:
                picture = read_upload(entry)
            except FslabError as error:
                self._refuse(str(error))
            else:
                self.add(Subject(picture.name, picture))


def read_upload(entry: Mapping[str, Any]) -> Picture:
    """Read what a FileUpload holds: its `name` and its bytes, `content`.

    Raises FslabError as `fslab.read` does, naming the file as the reader knows it, and where it is
    larger than `MOST_UPLOADED`.
    """
    name = Path(str(entry["name"]).replace("\\", "/").replace("\0", "")).name[-80:]
    name = name if name.strip(". ") else "upload"
    if len(entry["content"]) > MOST_UPLOADED:
        size, most = len(entry["content"]) / 2**20, MOST_UPLOADED // 2**20
        raise FslabError(f"{name!r} has {size:.0f} MiB; upload a picture of at most {most}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"  # its own name may be one that this machine cannot write
        path.write_bytes(bytes(entry["content"]))
        try:
            return replace(read(path), name=shown_name(Path(name).stem))
        except FslabError as error:
            raise FslabError(str(error).replace(repr(str(path)), repr(name))) from error
