"""Whole methods as named recipes."""

from __future__ import annotations

from fslab.parts import offer
from fslab.records import (
    Agglomerative,
    Captioning,
    Extraction,
    FslabError,
    JointCrf,
    KMeans,
    MaskCrfs,
    Matching,
    Merging,
    NormalisedCut,
    Pamr,
    Recipe,
    Spectral,
    Unrefined,
    clustering,
)

FREESEG_DIFF = Recipe(
    "freeseg-diff",
    Extraction(timesteps=(0,), squash=True, resize="bilinear", posterior="sample"),
    KMeans(k=4, grid=32, upsample="nearest"),
    Captioning(
        "closed",
        "embedding",
        compounds="words",
        nouns="written",
        prompted=True,
        beams=3,
        min_length=10,
        max_length=30,
    ),
    Matching("masked", compete="vocabulary", assignment="one-per-class"),
    MaskCrfs(),
)
"""FreeSeg-Diff (Corradini et al. 2024), as its released code runs it.

Features: the preset's cross-attention queries, empty prompt, t = 0 with noise still added,
the picture squashed bilinearly; each layer resized bilinearly to 32 x 32, joined, not normalised.
Segments: k-means, K = 4, labels repeated to the picture's size. Candidates: BLIP's caption, begun
with its training's prompt, by three beams, 10 to 30 tokens; its nouns as they are written, each
the nearest class by correlation of mean text embeddings, of several words the mean over them.
Names: region on black, bare class names, softmax over the whole vocabulary, one segment a class.
Edges: one dense CRF a mask.

Where it differs, and why; docs/method.md has what each is worth:
- On mini nouns are compared by CLIP's text encoder: the diffusion model's own, which all other
  presets take as the code does, was trained with mini's UNet and is not a CLIP.
- Nouns come from TextBlob's tagger, which needs no download, and adjectives do not count;
  tagger="spacy" with adjectives=True is the code's.
- k-means is seeded, so that a result can be had twice, and has ten starts whatever the library's
  version; the precision is the lab's.
- The UNet stops after the last layer that is read; the features are the same.
- A caption's texts and a vocabulary are encoded once, not once a cluster; the same numbers.
- Classes are said with spaces ("tv monitor"): the data set's own spelling is not a word.
- On mini the layers are the 12 x 12 ones of 96 px; the 6 x 6 ones, the literal translation of
  a quarter of the latent's side, are 36 cells for a picture.
- Where two refined masks claim a pixel, the more probable one has it; the code's order of
  painting is an accident of its cluster numbers. Of segments that tie for a class the first has it.
- Beams are ranked by transformers' present rule, which leaves the prompt's tokens out.
- A caption without nouns gives a background, where the code ends in an error; in an open
  vocabulary "man" is the class person, where the code makes it a class of its own.
"""

GROUNDS = ("sky", "grass", "sea", "road", "sand", "snow", "wall", "wood", "carpet", "forest")
"""Words that mean background: what pictures have behind their things."""

FSLAB = Recipe(
    "fslab",
    Extraction(layers=("up_blocks.1.attentions.*.attn2.to_q",), timesteps=(50,)),
    KMeans(k=6, also=(4, 8, 12), normalise="l2"),
    Captioning("closed", "name"),
    Matching(
        "mean",
        tokens=True,
        views_up_to=6,
        synonyms=True,
        background=GROUNDS,
        compete="candidates",
        assignment="vote",
        attention=2.0,
        attention_layers=("up_blocks.1.attentions.*.attn2.to_q",),
        attention_timestep=300,
    ),
    JointCrf(
        gaussian_sxy=3.0,
        gaussian_compat=3.0,
        bilateral_srgb=10.0,
        bilateral_compat=10.0,
    ),
)
"""Our own recipe, training-free like the paper's; docs/method.md says what each part adds.

Features: cross-attention queries of the decoder at t = 50, unit length. Segments: k-means with
K = 4, 6, 8 and 12, features interpolated before pixels choose (DiffCut, Couairon et al. 2024, has
it so). Candidates: classes that the caption names, by name or synonym. Names: CLIP reads each
region by a mask token in one pass over the picture (MaskCLIP, Ding et al. 2023), and those of the
4 and of the 6 also on the picture's mean colour; classes compete with words for grounds, which
mean background (as in SCLIP, Wang et al. 2024); the probabilities of all of a pixel's segments
are averaged, as in cluster ensembles (Strehl and Ghosh 2002), after each is weighed by how much
the diffusion model itself looks there for the candidate's word: its cross-attention, as the
paper's last stage and DAAM (Tang et al. 2023) read it. Edges: one joint dense CRF (Kraehenbuehl
and Koltun 2011) that starts from those probabilities.
Settings were chosen on mini-VOC's search split.
"""

DIFFCUT = Recipe(
    "diffcut",
    Extraction(layers=("last:down_blocks.*.attn1",), timesteps=(50,), squash=True),
    NormalisedCut(normalise="l2", tau=0.5, alpha=10.0),
    Captioning("all"),
    Matching(
        "mean",
        templates=(
            "a photo of a {}.",
            "There is a {} in the scene.",
            "a photo of a {} in the scene.",
        ),
        synonyms=True,
        background=GROUNDS,
        assignment="argmax",
    ),
    Pamr(iterations=15, dilations=(1, 2, 4, 8, 12, 24, 32, 64)),
)
"""DiffCut's way (Couairon et al., NeurIPS 2024) with the models at hand.

Features: what the encoder's last self-attention gives at t = 50, the picture squashed. Segments:
recursive normalised cut of the cells' graph, cosines to the power 10, cut while a cut costs less
than 0.5; so K is found. Pixels take the segment whose mean is nearest to their interpolated
features. Candidates: every class of the vocabulary, no caption. Names: each segment its best
class over several templates and synonyms; segments may share a class. Edges: PAMR.

Where it differs, and why:
- The paper's features are SSD-1B's at 1,024 px; here they are the preset's own UNet's, at its
  own resolution ("ssd1b" is that model).
- Names come from CLIP's view of a segment on the picture's mean colour. The code pools dense
  features of a convolutional CLIP over the segment, which transformers' CLIPs do not have.
- A few of the code's fourteen templates: those that name no size.
- Background is words for grounds, as in the recipe "fslab"; the code scores the bare word
  "background", which says little of what a region looks like.
- Every place along the eigenvector is tried as the cut, not a hundred thresholds: no dearer.
- The code scales edges to 0..1, which leaves an exact zero, and drops every cell with a zero in
  its row below the first level; here no cell is dropped.
- Means are compared by distance, not by inner product, which favours long means.
- PAMR sharpens after naming, not before: segments of one name are then one region. The code's
  median filter is left out.
- On mini the last such layer has 6 x 6 cells, too few to cut; `docs/clusterings.md` has the
  setting that reads the 12 x 12 ones, and comparisons on mini-VOC should use it.
"""

DIFFSEG = Recipe(
    "diffseg",
    Extraction(layers=("*.probs",), timesteps=(300,), squash=True),
    Merging(anchors=16, rounds=3, threshold=1.0),
    Captioning("closed", "name"),
    Matching("mean", synonyms=True, background=GROUNDS, compete="candidates", assignment="argmax"),
    Pamr(),
)
"""DiffSeg's way (Tian et al., CVPR 2024) with the models at hand.

Features: every self-attention's probabilities at t = 300, mean over heads, the picture squashed,
aggregated on the finest grid in proportion to resolution. Segments: maps around a grid of 16 x 16
anchors, merged while their symmetric Kullback-Leibler divergence is below 1, three rounds; so K
is found. A pixel takes the segment whose map is strongest there. Candidates: classes that the
caption names. Names: CLIP, classes against words for grounds. Edges: PAMR.

Where it differs, and why:
- The paper names no segments but for show, by cross-attention to the caption's nouns. Here the
  text side is that of "fslab" without its vote and its attention to words: each segment takes its
  best name.
- Maps are merged as they are; the code then offers a k-means step over all of them, "for better
  visual consistency", which is left out.
- PAMR is what DiffCut's authors add to it for their comparison.
- The paper chooses the threshold for each data set; here it is one for all. The bundled models
  look about more evenly, so that on mini it merges whole pictures; `docs/clusterings.md` has the
  setting for them.
"""

DSLO = Recipe(
    "dslo",
    Extraction(layers=("up_blocks.1.attentions.*.attn2.to_q",), timesteps=(0,), noise="none"),
    KMeans(k=48, grid=16, normalise="l2", upsample="nearest"),
    Captioning("all"),
    Matching(
        tokens=True,
        views_up_to=0,
        synonyms=True,
        background=GROUNDS,
        assignment="vote",
        spread_layers=("up_blocks.[01].*.attn1.probs",),
        spread_timestep=0,
        spread_noise="none",
        spread_change=0.3,
    ),
    Pamr(),
)
"""DSLO's way (CVPR 2026) with the models at hand, by its description.

Names: CLIP's scores of small places over the whole vocabulary, no caption. Each class starts where
it is the strongest, from 0 to 1, and spreads as a Markov chain: self-attention of the decoder on
the clean latent without a prompt, its rows and columns brought to one sum 15 times, until a step
changes the map by less than 0.3; a class counts for one over its steps. Edges: PAMR.

Where it differs, and why:
- The paper scores CLIP's patches one by one; here places are 48 clusters of the diffusion model's
  cells, each read by a mask token, which is what the stage `match` scores.
- Self-attention is that of the diffusers blocks up_blocks.0 and 1. In Stable Diffusion the first
  has none, so there it is 16 x 16 cells; on a finer grid it would be joined with the coarser.
- Its suppression of classes that are not there has no description here, and is left out, as is what
  it does for the background: words for grounds, as in "fslab".
- PAMR stands for its joint bilateral upsampling; both follow the picture's colours.
"""

GOCA = Recipe(
    "goca",
    Extraction(layers=("up_blocks.1.attentions.*.attn2.to_q",), timesteps=(300,)),
    KMeans(k=4, normalise="l2"),
    Captioning("closed", "name"),
    Matching(
        background=GROUNDS,
        assignment="evidence",
        attention_layers=("*attn2.to_q",),
        attention_timestep=300,
        attention_background=True,
        attention_over="words",
        attention_heads="agreement",
        attention_weights="likeness",
        attention_blur=1.1,
        attention_scaled=True,
        attention_spread=2,
    ),
    Unrefined(),
)
"""GoCA's way (CVPR 2026) with the models at hand, by its description: no CLIP.

One prompt names the candidates and words for grounds. At each cell the attention to a word is its
share of that to all words, of every cross-attention; heads weigh by their agreement with all
heads' output, layers by their likeness to the mean self-attention; maps are blurred, brought to 0
to 1 and multiplied twice by the self-attention. A pixel is what it looks at most.

Where it differs, and why:
- The paper is given the classes that are there; here the caption names candidates. Tables of this
  package have both.
- The words for grounds are those of "fslab"; its own list is not known here.
- Its blur of 5 is taken for a window of 5 cells: a deviation of 1.1.
- Self-attention multiplies on the finest grid, by the layers that have it; layers are compared
  with the mean of these.
- The timestep is the one at which "fslab" reads words.
- Its segments are shown and counted where no names are, and have no part in the label map.
"""

CORRCLIP_SD = Recipe(
    "corrclip-sd",
    Extraction(layers=("up_blocks.1.attentions.*.attn2.to_q",), timesteps=(50,)),
    KMeans(k=8, k_is="silhouette", normalise="l2"),
    Captioning("all"),
    Matching(
        views_up_to=0,
        synonyms=True,
        background=GROUNDS,
        assignment="majority",
        regions="scoped",
        regions_sharpness=4.0,
        regions_earlier=1.0,
        regions_token=0.5,
        regions_merge=0.2,
        regions_scale=1.5,
        regions_window=1.5,
        temperature=40.0,
        threshold=0.2,
    ),
    Unrefined(),
)
"""CorrCLIP's way (Zhang et al., ICCV 2025) with the models at hand, by its description.

CLIP reads the picture at one and a half times its own size, in windows a third of one apart. In
its last block a cell is the mean of the values of its own segment, weighed by exp(4 x cosine) of
the diffusion model's features, without residual and MLP; the same of earlier blocks' values joins
with weight 1, and the segment's mask token with 0.5. Segments whose mean features are within 0.2
of each other see each other's values. Every class competes with words for grounds, cosines times
40; a cell below 0.2 is background, and a segment is what most of its cells are. No caption.

Where it differs, and why:
- The paper's masks are SAM 2's and its affinities DINO's; here both are the diffusion model's.
  Segments are clusters of the decoder's queries at t = 50, up to 8, as many as have the highest
  silhouette: on 60 pictures of mini-VOC's search split that was 8 points better than 6 of them.
- A cell on a border belongs to both segments by its shares, where the paper's belongs to one.
- Synonyms and words for grounds are those of "fslab", without templates; the paper's own lists
  are not known here.
- The mask token is `fslab.match.Patches`', which reads the whole window; what the paper's reads is
  not known here.
- Labels are left as they are: its edges are SAM's, and nothing sharpens them.
"""

FA_SEG = Recipe(
    "fa-seg",
    Extraction(
        layers=("up_blocks.1.attentions.*.attn2.to_q",),
        timesteps=(300,),
        prompted="caption",
        mirrored=True,
    ),
    KMeans(k=4, normalise="l2"),
    Captioning("closed", "name"),
    Matching(
        background=GROUNDS,
        assignment="evidence",
        attention_layers=("*attn2.to_q",),
        attention_timestep=300,
        attention_background=True,
        attention_over="words",
        attention_pass="features",
        attention_grids=(0.15, 0.7, 0.15, 0.0),
        attention_scaled=True,
        attention_spread=2,
        attention_spread_grids=(0.1, 0.1, 0.5, 0.3),
    ),
    Unrefined(),
)
"""FA-Seg's way (2026) with the models at hand, by its description: no CLIP.

The pass is conditioned on the caption, with the candidates behind it that it does not name; its
cells' queries meet the keys of a prompt of the candidates alone. Cross-attention of the grids of
8, 16, 32 and 64 cells weighs 0.15, 0.7, 0.15 and 0, self-attention, which multiplies it twice,
0.1, 0.1, 0.5 and 0.3; the maps are the mean with the mirror image's. A pixel is what it looks at
most.

Where it differs, and why:
- The paper's network is a rectified flow of Stable Diffusion 1.5 and passes almost no noise; here
  it is the preset's own, at the timestep at which "fslab" reads words.
- A map is averaged on a coarser grid, multiplied by its self-attention and brought back, in the
  place of one matrix on the finest grid.
- What the background is there is not known here: words for grounds compete in the second prompt,
  shares are of the words alone, and each map goes from 0 to 1, as in "goca".
- A network with fewer grids has the first weights: of mini's two, 0.15 and 0.7, and 0.1 and 0.1.
- Nothing sharpens labels; what the paper does at the end is not known here.
- Its segments are shown and counted where no names are, and have no part in the label map.
"""

METHODS = {
    recipe.name: recipe
    for recipe in (FREESEG_DIFF, FSLAB, DIFFCUT, DIFFSEG, DSLO, GOCA, CORRCLIP_SD, FA_SEG)
}
"""Whole methods by name: the paper's, our own, and six neighbours'."""

CLUSTERINGS = {
    recipe.name: recipe
    for recipe in (
        Recipe("kmeans", cluster=KMeans(k=6, normalise="l2")),
        Recipe("agglomerative", cluster=Agglomerative(k=6, normalise="l2")),
        Recipe("spectral", cluster=Spectral(k=6, normalise="l2")),
        Recipe("silhouette", cluster=KMeans(k=8, k_is="silhouette", normalise="l2")),
        Recipe("ncut", cluster=NormalisedCut(normalise="l2")),
        Recipe("merge", Extraction(layers=("*.probs",)), Merging()),
    )
}
"""Class-agnostic recipes by name: the picture keeps its aspect, nothing is captioned or named.

Cells have unit length and pixels follow interpolated features. "silhouette" is k-means with K of
2 to 8 by the highest silhouette; "ncut" and "merge" find K too, and take no other.
"""


def clustering_recipe(method: str) -> Recipe:
    """Return a class-agnostic recipe by name, or one of a clustering that the registry has from
    elsewhere; FslabError lists the names."""
    if method in CLUSTERINGS:
        return CLUSTERINGS[method]
    if method in clustering:
        return Recipe(method, cluster=clustering.settings(method))
    raise FslabError(f"there is no clustering {method!r}; {offer(method, clustering_names())}")


def clustering_names() -> tuple[str, ...]:
    """Return the names that `clustering_recipe` knows."""
    return tuple(dict.fromkeys((*CLUSTERINGS, *clustering)))


def find_recipe(method: str | Recipe) -> Recipe:
    """Return a recipe as it is, or a method's by name; FslabError offers the nearest names."""
    if isinstance(method, Recipe):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise FslabError(f"there is no method {method!r}; {offer(str(method), METHODS)}")
    return METHODS[method]
