"""How features become segments: the clusterings by name, and a record of settings for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from fslab.errors import FslabError
from fslab.records.checks import (
    check_most,
    check_positive,
    check_range,
    check_seed,
    check_types,
)
from fslab.records.stage import Method, Methods, Own, Settings, Slider


@dataclass(frozen=True, kw_only=True)
class Clustering(Settings):
    """What every clustering is set by; each method adds its own.

    grid: the side, in cells, of the common grid that layers are resized to; None takes the
    finest layer's grid. upsample: "features" interpolates before pixels choose their cluster,
    "nearest" repeats the cell's label, as the released code of FreeSeg-Diff does.
    """

    stage: ClassVar[str] = "clustering"
    usual: ClassVar[str] = "kmeans"

    grid: int | None = None
    upsample: Literal["features", "nearest"] = "features"

    def __post_init__(self) -> None:
        check_types(self)
        if self.grid is not None:
            check_positive(self, "grid")

    @property
    def facts(self) -> ClusteringMethod:
        """What the registry knows of the method."""
        return cast("ClusteringMethod", self._part)

    @staticmethod
    def of(method: str = "kmeans", **settings: Any) -> Clustering:
        """Return a method's settings by its name; FslabError for what it does not have."""
        found: Clustering = clustering.settings(method, **settings)
        return found


@dataclass(frozen=True, kw_only=True)
class CellClustering(Clustering):
    """What clusterings of cells are set by: of vectors f32 [N, C], one a cell of the grid.

    normalise: "l2" gives every cell of every layer unit length before layers are joined.
    position: weight of the cell's row and column as two more channels, relative to one
    standard deviation of the features; 0 leaves them out.
    """

    normalise: Literal["none", "l2"] = "none"
    position: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 0, "position")


@dataclass(frozen=True, kw_only=True)
class KClustering(CellClustering):
    """What clusterings into K are set by.

    k: clusters; with k_is="candidates" what is added to the number of candidate classes, and
    with "silhouette" the largest number tried, from 2 up. also: further values of K; their
    segments come beside the first ones and have a say where match.assignment is "vote".
    """

    k: int = 4
    k_is: Literal["fixed", "candidates", "silhouette"] = "fixed"
    also: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k_is == "fixed":
            check_positive(self, "k")
        if self.also and self.k_is != "fixed":
            raise FslabError(
                f"clustering.also is {list(self.also)}; it goes with a fixed K, not with "
                f"k_is={self.k_is!r}"
            )
        if min(self.also, default=1) < 1:
            raise FslabError(f"clustering.also is {list(self.also)}; each K must be 1 or more")
        if self.k_is == "silhouette" and self.k < 2:
            raise FslabError(f"clustering.k is {self.k}; a silhouette compares 2 clusters or more")


@dataclass(frozen=True, kw_only=True)
class KMeans(KClustering):
    """k-means (Lloyd 1982), Euclidean, begun by k-means++ (Arthur and Vassilvitskii 2007).

    restarts: how often it begins; the best end is kept. seed: of the beginnings.
    """

    restarts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "restarts")
        check_most(self, "restarts")
        check_seed(self)


@dataclass(frozen=True, kw_only=True)
class Agglomerative(KClustering):
    """Ward's agglomeration (J. Am. Stat. Assoc. 1963)."""


@dataclass(frozen=True, kw_only=True)
class Spectral(KMeans):
    """k-means over the first eigenvectors of the graph of cells (Ng, Jordan and Weiss 2001).

    alpha: the exponent of cosines as the graph's edges.
    """

    alpha: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 0, "alpha", above=True)


@dataclass(frozen=True, kw_only=True)
class NormalisedCut(CellClustering):
    """The graph of cells, cut in two again and again (Shi and Malik, PAMI 2000): finds K.

    tau: cuts are made while one costs less than this (0 is free, 2 the most). alpha: the exponent
    of cosines as the graph's edges.
    """

    tau: float = 0.5
    alpha: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 0, "tau")
        check_range(self, 0, "alpha", above=True)


@dataclass(frozen=True, kw_only=True)
class Merging(Clustering):
    """Self-attention maps united while they are alike (DiffSeg, Tian et al. 2024): finds K.

    anchors, rounds, threshold: it starts from a grid of anchors by anchors cells and unites, round
    after round, maps whose divergence is below the threshold.
    """

    anchors: int = 16
    rounds: int = 3
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "anchors", "rounds")
        check_most(self, "rounds")
        check_range(self, 0, "threshold", above=True)


@dataclass(frozen=True, kw_only=True)
class ClusteringMethod(Method):
    """A clustering.

    run: `run(cells, settings)` of cells f32 [N, C] returns whole numbers [N], with settings.k as
    many clusters as are asked for; where it takes "maps" instead, `run(features, settings)` of
    `Features` returns whole numbers [H, W]. finds_k: it finds K for each picture by itself.
    graph: it looks at cells once, for the edges of their graph. bytes_per_pair: what it takes for
    each pair of cells, in bytes, as often as they are there at once.
    """

    finds_k: bool = False
    takes: Literal["cells", "maps"] = "cells"
    graph: bool = False
    bytes_per_pair: int = 0

    def __post_init__(self) -> None:
        kind = Clustering if self.takes == "maps" else CellClustering
        if not self.finds_k:
            kind = KClustering
        if not (isinstance(self.settings, type) and issubclass(self.settings, kind)):
            raise FslabError(
                f"clustering {self.name!r}: its settings are {self.settings!r}; they must be a "
                f"dataclass that extends fslab.records.{kind.__name__}"
            )


clustering: Methods[ClusteringMethod] = Methods("clustering", ClusteringMethod, "fslab.clusterings")
"""All clusterings by name. `@clustering("meanshift", settings=MeanShift, finds_k=True)`, before a
function, adds one."""

_EXPONENT = Slider("alpha", "exponent", 1.0, 20.0, 0.5)

clustering.add("kmeans", "fslab.cluster.cells:kmeans", version=1, settings=KMeans)
clustering.add(
    "agglomerative", "fslab.cluster.cells:ward", version=1, settings=Agglomerative, bytes_per_pair=9
)
clustering.add(
    "spectral", "fslab.cluster.cells:by_eigenvectors", version=1, settings=Spectral,
    knobs=(_EXPONENT,), graph=True, bytes_per_pair=25,
)  # fmt: skip
clustering.add(
    "ncut", "fslab.cluster.cells:by_cuts", version=1, settings=NormalisedCut, finds_k=True,
    knobs=(Slider("tau", "cut below", 0.0, 2.0, 0.01), _EXPONENT), graph=True, bytes_per_pair=34,
)  # fmt: skip
clustering.add(
    "merge", "fslab.cluster.merging:merged", version=1, settings=Merging, finds_k=True,
    takes="maps", knobs=(Slider("threshold", "merge below", 0.05, 3.0, 0.05),),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OwnClustering(Own, Clustering):
    """A function of one's own from `Features` to `Segments`, or to whole numbers [H, W].

    A parameter called candidates is given how many classes the caption named.
    """
