"""The built-in criteria; `fslab.tune.registry.Criterion` says what each is given."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude
from sklearn import config_context
from sklearn.metrics import adjusted_rand_score, silhouette_score

from fslab.cluster import join
from fslab.cluster.cells import AT_ONCE
from fslab.cluster.merging import SMALLEST
from fslab.parts import versioned
from fslab.records import CellClustering, Clustering, Features, KMeans, Picture, Segments

BLUR = 1.0
"""Standard deviation, in pixels, of the Gaussian whose derivatives are the picture's gradient."""


@versioned(1)
def silhouette(features: Features, segments: Segments, settings: Clustering) -> float:
    """Return the mean silhouette of the cells, -1..1; 0 where they are of one segment.

    A cell's segment is the one at its middle. Cells are joined and normalised as the clustering
    has it, and to unit length where it has no cells.
    """
    how = settings if isinstance(settings, CellClustering) else KMeans(normalise="l2")
    joined = join(features, how)
    rows, columns = (
        ((np.arange(cells) + 0.5) * pixels / cells).astype(int)
        for cells, pixels in zip(joined.shape[1:], segments.size, strict=True)
    )
    labels = segments.labels[np.ix_(rows, columns)].ravel()
    if not 1 < len(np.unique(labels)) < labels.size:
        return 0.0
    with config_context(working_memory=AT_ONCE):
        return float(silhouette_score(joined.reshape(len(joined), -1).T, labels))


@versioned(1)
def stability(segments: Segments, repeats: tuple[Segments, ...]) -> float:
    """Return the mean adjusted Rand index of segments and each repeat, over pixels.

    1 where they are the same, about 0 where they agree by chance. A picture that is one segment
    is 0: it is the same each time, and says nothing.
    """
    if segments.count < 2:
        return 0.0
    flat = segments.labels.ravel()
    return float(np.mean([adjusted_rand_score(flat, each.labels.ravel()) for each in repeats]))


@versioned(1)
def contours(picture: Picture, segments: Segments) -> float:
    """Return the mean gradient on the segments' borders above the picture's, in its deviations.

    The gradient is that of a Gaussian, the strongest of the three colours. A border is a pixel
    whose label is not that of the pixel to its left or above. 0 where there is no border, or the
    picture is even.
    """
    labels, colours = segments.labels, picture.pixels.astype(np.float64)
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    channels = [gaussian_gradient_magnitude(colours[..., each], BLUR) for each in range(3)]
    gradient = np.max(channels, axis=0)
    spread = float(gradient.std())
    if not border.any() or spread == 0:
        return 0.0
    return float((gradient[border].mean() - gradient.mean()) / spread)


@versioned(1)
def divergence(attentions: tuple[Features, Features]) -> float:
    """Return the symmetric Kullback-Leibler divergence of two timesteps' self-attentions.

    Mean over cells, then over layers. TRACE (ICLR 2026) takes the timestep where consecutive
    self-attentions differ most; here the two are always equally far apart.
    """
    first, second = attentions
    return float(np.mean([_moved(first[path], second[path]) for path in first]))


def _moved(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean divergence of attention maps f32 [keys, h, w], a map a cell."""
    p, q = (np.maximum(each, SMALLEST, dtype=np.float64) for each in (first, second))
    return float(((p - q) * np.log(p / q)).sum(0).mean() / 2)
