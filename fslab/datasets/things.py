"""VOC's truth of things: SegmentationObject beside SegmentationClass."""

from __future__ import annotations

import numpy as np

from fslab.datasets.masks import read_mask
from fslab.datasets.places import is_file
from fslab.datasets.samples import Sample
from fslab.datasets.vocabularies import VOC
from fslab.records import VOID, WIDE_VOID, FslabError, Instances, Vocabulary, void_of

_OBJECTS = "SegmentationObject"


def read_things(sample: Sample, vocabulary: Vocabulary = VOC) -> Instances:
    """Read which thing each pixel of a sample of `voc` is of.

    A pixel of SegmentationObject/NAME.png has its thing's number, and 255 for void; the class is
    that of SegmentationClass/NAME.png, and void in either is void. Raises FslabError as
    `Sample.truth` does, where there is no such file, where its size is another, and where a thing
    has pixels of several classes or of none, or a class pixels of no thing.
    """
    labels = sample.truth()
    if labels is None or sample.truth_path is None:
        raise FslabError(f"{sample.name!r} has no truth, so its things are not known")
    path = sample.truth_path.parent.parent / _OBJECTS / sample.truth_path.name
    if not is_file(path):
        raise FslabError(
            f"{str(path)!r} does not exist: things are told apart in {_OBJECTS}, which VOC has and "
            "`fslab scenes OUT --touching` writes"
        )
    objects = read_mask(path)
    if objects.shape != labels.shape:
        raise FslabError(
            f"{str(path)!r} is {objects.shape[0]} x {objects.shape[1]} pixels (height x width), "
            f"its classes {labels.shape[0]} x {labels.shape[1]}; both belong to one picture"
        )
    void = (objects == VOID) | (labels == void_of(labels))
    objects, labels = np.where(void, 0, objects), np.where(void, 0, labels)
    pairs = np.unique(np.stack([objects.ravel(), labels.ravel()]), axis=1).T.tolist()
    numbers = [number for number, label in pairs if number or label]
    odd = [(n, c) for n, c in pairs if (n or c) and (not n or not c or numbers.count(n) > 1)]
    if odd:
        raise FslabError(
            f"{str(path)!r} and its classes disagree: object {odd[0][0]} has pixels of class "
            f"{odd[0][1]}; each object, 1 and up, is of one class, and all of a class is of objects"
        )
    place = np.zeros(VOID + 1, np.uint16)
    place[numbers] = np.arange(1, len(numbers) + 1)
    things = np.where(void, WIDE_VOID, place[objects])
    classes = tuple(label for number, label in pairs if number)
    return Instances(things, classes, vocabulary.names)
