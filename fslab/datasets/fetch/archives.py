"""Which archives there are: the one place that names their addresses, sizes and checksums."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Archive:
    """A publisher's archive, .tar or .zip.

    size: in bytes; sha256: of the whole file, in hexadecimal digits; brings: the folder that
    unpacking it makes, relative to where it is unpacked.
    """

    url: str
    size: int
    sha256: str
    brings: str

    @property
    def name(self) -> str:
        """The file's name, the last part of its address."""
        return urlsplit(self.url).path.rpartition("/")[2]


# Neither publisher gives checksums. The sizes and SHA-256 are those that TensorFlow Datasets
# records in url_checksums/voc.txt and url_checksums/coco.txt; the VOC file is the one that
# torchvision knows by its md5 6cd6e144f989b92b3379bac3b3de84fd. Both hosts are addressed by
# plain http, as their publishers do: what vouches for the content is the checksum.
SETS: dict[str, tuple[Archive, ...]] = {
    "voc": (
        Archive(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            1_999_639_040,
            "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            "VOCdevkit/VOC2012",
        ),
    ),
    "coco": (
        Archive(
            "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
            252_907_541,
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            "annotations",
        ),
        Archive(
            "http://images.cocodataset.org/zips/val2017.zip",
            815_585_330,
            "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            "val2017",
        ),
    ),
}
"""The archives of each data set."""
