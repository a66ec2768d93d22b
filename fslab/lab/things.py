"""What a lab does with named pixels: which thing of its class each of them is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.keys import edges_key
from fslab.lab.banked import Banked
from fslab.lab.result import Result
from fslab.lab.settings import build
from fslab.records import Features, FslabError, Instances, LabelMap, Parting, Picture, check_kind

if TYPE_CHECKING:
    import numpy as np

    from fslab.lab.lab import Lab


class Things(Banked):
    """Regions of a class parted into things."""

    def instances(
        self, picture: PictureLike, labels: LabelMap | Result, **settings: Any
    ) -> Instances:
        """Return the things that each class's region in a picture is made of.

        labels: named pixels, or what `segment` returned, of this picture. settings: as in
        `Parting`: by="edges" parts touching things where self-attention of opposite neighbours
        differs, after TRACE; see `fslab.cluster.part` for how. Raises FslabError for labels of
        another size, and, by edges, for a backbone without self-attention and for layers that are
        none.
        """
        picture = read(picture)
        labels = labels.labels if isinstance(labels, Result) else labels
        check_kind(labels, LabelMap, "labels")
        if labels.size != picture.size:
            raise FslabError(
                f"labels are {labels.size[0]} x {labels.size[1]} pixels (height x width), "
                f"{picture.name} is {picture.size[0]} x {picture.size[1]}; both are of one picture"
            )
        from fslab.cluster import part

        how = _parting(settings)
        return part(labels, self._edges(picture, how) if how.by == "edges" else None, how)

    def edges(self, picture: PictureLike, **settings: Any) -> NDArray[np.float32]:
        """Return how strong an edge each cell of a picture is, f32 [h, w], in nats.

        settings: `layers`, `timestep`, `resolution` and `precision`, as in `Parting`. It is what
        `fslab.cluster.edges` makes of these layers. Raises FslabError as `instances` does.
        """
        return self._edges(read(picture), _parting(settings))

    def _edges(self, picture: Picture, how: Parting) -> NDArray[np.float32]:
        from fslab.cluster import edges
        from fslab.extract import complete
        from fslab.lab.words import parting_looks

        lab = cast("Lab", self)
        looks: Features = lab._extract(
            picture, complete(parting_looks(how, lab.backbone), lab.backbone)
        )
        key = edges_key(edges, lab.device, looks)
        return lab._memory.array(key, lambda: edges(looks))


def _parting(settings: dict[str, Any]) -> Parting:
    layers = settings.get("layers", ())
    one = {"layers": (layers,)} if isinstance(layers, str) else {}
    return build(Parting, **{**settings, **one})
