"""FreeSeg-Diff written straight down, in the structure of the authors' released code.

Models are loaded and the classes are embedded once, as there, except that the code loads BLIP for
every picture. For every picture: the whole UNet runs while hooks keep the wanted layers, k-means is
followed by the silhouette that the code reports, each noun is embedded by itself, CLIP is asked for
each cluster by itself with all class names encoded again, and each class's mask gets a CRF of its
own. What it writes and draws is left out. Steps are made of the libraries that the code used, and
none is the package's own. Chance, sizes, spoken class names, the text encoder that mini has for
words and the rule for pixels that two masks claim are the recipe's, so that labels can be compared.

`python tests/bench/authors.py data/minivoc` holds the recipe against it and says what differs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.metrics import silhouette_score
from textblob.en import tag
from torch.nn.functional import interpolate
from transformers import (
    BertTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
)
from transformers.utils import logging

from fslab.records import Picture, Vocabulary

if TYPE_CHECKING:
    from fslab.backbones import Diffusion
    from fslab.datasets import Sample
    from fslab.lab import Lab
    from fslab.score import ImageScore


def textblob_words(caption: str) -> list[str]:
    """Return a caption's nouns that are no stop words, as often as they are said."""
    return [
        word for word, kind in tag(caption) if kind[:2] == "NN" and word not in ENGLISH_STOP_WORDS
    ]


def spacy_words(model: str = "en_core_web_sm") -> Callable[[str], list[str]]:
    """Return the released code's own rule: nouns, and an adjective as the word it belongs to."""
    import spacy

    parse = spacy.load(model)

    def words(caption: str) -> list[str]:
        kept = [token for token in parse(caption) if not token.is_stop]
        return [
            (token if token.pos_ == "NOUN" else token.head).text
            for token in kept
            if token.pos_ in ("NOUN", "ADJ")
        ]

    return words


class Script:
    """Models, hooks, and one method a step. folder: weights as the package bundles them."""

    prompt = "a photo of "
    """What mini's captions begin with; BLIP base's begin with "a picture of "."""

    def __init__(
        self,
        folder: Path,
        layers: tuple[str, ...],
        vocabulary: Vocabulary,
        words: Callable[[str], list[str]] = textblob_words,
    ) -> None:
        self.load(folder)
        self.side = self.unet.config.sample_size * 2 ** (
            len(self.vae.config.block_out_channels) - 1
        )
        self.classes = vocabulary.classes
        self.said = [vocabulary.texts(name)[0] for name in self.classes]
        with torch.inference_mode():
            self.class_states = np.stack([self.class_state(name) for name in self.said])
        self.words, self.layers, self.kept = words, layers, {}
        for path in layers:
            self.unet.get_submodule(path).register_forward_hook(
                lambda module, given, output, path=path: self.kept.__setitem__(path, output)
            )

    def load(self, folder: Path) -> None:
        """Load every model, once."""
        logging.disable_progress_bar()
        diffusion, blip, clip = folder / "stable-diffusion", folder / "blip", folder / "clip"
        self.vae = AutoencoderKL.from_pretrained(diffusion / "vae").float().eval()
        self.unet = UNet2DConditionModel.from_pretrained(diffusion / "unet").float().eval()
        self.text = CLIPTextModel.from_pretrained(diffusion / "text_encoder").float().eval()
        self.tokens = CLIPTokenizer.from_pretrained(diffusion / "tokenizer")
        self.scheduler = DDPMScheduler.from_pretrained(diffusion / "scheduler")
        self.blip = BlipForConditionalGeneration.from_pretrained(blip).float().eval()
        self.blip_tokens = BertTokenizer.from_pretrained(blip)
        self.blip_pixels = BlipImageProcessorPil.from_pretrained(blip)
        self.clip = CLIPModel.from_pretrained(clip).float().eval()
        self.clip_tokens = CLIPTokenizer.from_pretrained(clip)
        self.clip_pixels = CLIPImageProcessorPil.from_pretrained(clip)

    @torch.inference_mode()
    def segment(self, picture: Picture) -> np.ndarray:
        """Return labels u8 [H, W]; 0 is the background."""
        masks = self.masks(picture)
        candidates = self.candidates(self.caption(picture))
        if not candidates:
            return np.zeros(picture.size, np.uint8)
        return self.sharpen(picture, masks, self.name(picture, masks, candidates))

    @torch.inference_mode()
    def masks(self, picture: Picture) -> list[np.ndarray]:
        """Return a mask for each cluster, bool [H, W]."""
        features = self.features(picture)
        cells = self.cluster(features)
        self.silhouette(features, cells)
        # cv2.resize with INTER_NEAREST: a float64 ratio is inverted, then multiplied.
        rows, columns = (
            [min(int(place * (1.0 / (side / 32.0))), 31) for place in range(side)]
            for side in picture.size
        )
        clusters = cells[np.ix_(rows, columns)]
        return [clusters == number for number in np.unique(clusters)]

    def features(self, picture: Picture) -> np.ndarray:
        """Return the hooked layers of one whole pass, f32 [C, 32, 32]."""
        image = Image.fromarray(picture.pixels).resize((self.side,) * 2, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]
        posterior = self.vae.encode(2 * pixels.contiguous() - 1).latent_dist
        chance = torch.Generator().manual_seed(0)
        noise = torch.randn(posterior.mean.shape, generator=chance)
        sample = posterior.mean + posterior.std * torch.randn(noise.shape, generator=chance)
        latent = sample * self.vae.config.scaling_factor
        time = torch.tensor([0])
        ids = self.tokens(
            "", padding="max_length", max_length=self.tokens.model_max_length, return_tensors="pt"
        ).input_ids
        self.unet(self.scheduler.add_noise(latent, noise, time), time, self.text(ids)[0])
        maps = []
        for path in self.layers:
            value = self.kept[path][0].T
            side = round(value.shape[1] ** 0.5)
            value = value.reshape(1, -1, side, side)
            maps.append(interpolate(value, (32, 32), mode="bilinear", align_corners=False)[0])
        return torch.cat(maps).numpy()

    def cluster(self, features: np.ndarray) -> np.ndarray:
        """Return k-means' four clusters of the cells, [32, 32]."""
        cells = features.reshape(len(features), -1).T
        return KMeans(4, n_init=10, random_state=0).fit_predict(cells).reshape(32, 32)

    def silhouette(self, features: np.ndarray, labels: np.ndarray) -> float:
        """Return the clusters' mean silhouette; no label depends on it."""
        return silhouette_score(features.reshape(len(features), -1).T, labels.ravel())

    @torch.inference_mode()
    def caption(self, picture: Picture) -> str:
        """Return BLIP's sentence as LAVIS 1.0.2 decodes it, the prompt cut off by its letters."""
        pixels = self.blip_pixels(images=[Image.fromarray(picture.pixels)], return_tensors="pt")
        tokens = self.blip.generate(
            pixels["pixel_values"],
            input_ids=self.blip_tokens(self.prompt, return_tensors="pt").input_ids,
            num_beams=3,
            min_length=10,
            max_length=30,
            repetition_penalty=1.0,
            do_sample=False,
        )
        text = self.blip_tokens.decode(tokens[0, 1:], skip_special_tokens=True)
        return text[len(self.prompt) :]

    @torch.inference_mode()
    def caption_as_then(self, picture: Picture) -> str:
        """Return the sentence as transformers 4.26.1 ranked beams, which LAVIS 1.0.2 pins.

        It divides a sentence's log probability by all of its tokens but the end; transformers 5
        by those that follow the prompt, the end counted.
        """
        beams, shortest, longest = 3, 10, 30
        pixels = self.blip_pixels(images=[Image.fromarray(picture.pixels)], return_tensors="pt")
        seen = self.blip.vision_model(pixels["pixel_values"])[0].expand(beams, -1, -1)
        start = self.blip_tokens(self.prompt).input_ids[:-1]
        start[0] = self.blip.config.text_config.bos_token_id
        end = self.blip.config.text_config.sep_token_id
        running = [(0.0 if number == 0 else -1e9, start) for number in range(beams)]
        finished: list[tuple[float, list[int]]] = []
        for length in range(len(start), longest):
            ids = torch.tensor([words for _, words in running])
            logits = self.blip.text_decoder(ids, encoder_hidden_states=seen).logits[:, -1]
            scores = logits.log_softmax(-1)
            if length < shortest:
                scores[:, end] = -torch.inf
            scores += torch.tensor([score for score, _ in running])[:, None]
            best, places = scores.flatten().topk(2 * beams)
            beyond = []
            for rank, (score, place) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
                beam, token = divmod(place, scores.shape[1])
                if token != end:
                    beyond.append((score, [*running[beam][1], token]))
                elif rank < beams:
                    finished.append((score / length, running[beam][1]))
                if len(beyond) == beams:
                    break
            finished = sorted(finished, key=lambda pair: -pair[0])[:beams]
            running = beyond
            if len(finished) == beams and finished[-1][0] >= best[0].item() / length:
                break
        else:
            finished += [(score / longest, words) for score, words in running]
        text = self.blip_tokens.decode(max(finished)[1][1:], skip_special_tokens=True)
        return text[len(self.prompt) :]

    @torch.inference_mode()
    def candidates(self, caption: str) -> list[str]:
        """Return the class nearest to each noun, far nouns left out."""
        words = self.words(caption)
        if not words:
            return []
        states = np.concatenate([self.embed([word]) for word in words])
        distances = cdist(states, self.class_states, "correlation")
        least = distances.min(1)
        near = distances.argmin(1)[least <= least.mean() + 1e-12]
        return [self.classes[index] for index in near]

    def class_state(self, name: str) -> np.ndarray:
        """Return a class's mean token state, f32 [D], of several words the mean over them."""
        return np.mean([self.embed([f"A photo of {word}"])[0] for word in name.split()], axis=0)

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return each text's mean token state, f32 [N, D]."""
        limit = self.clip.config.text_config.max_position_embeddings
        tokens = self.clip_tokens(
            texts, padding="max_length", truncation=True, max_length=limit, return_tensors="pt"
        )
        return self.clip.text_model(tokens["input_ids"]).last_hidden_state.mean(1).numpy()

    @torch.inference_mode()
    def name(self, picture: Picture, masks: list[np.ndarray], candidates: list[str]) -> list[int]:
        """Return each mask's label, 0 where no candidate is left to it."""
        rows = np.stack([self.probabilities(picture.pixels * mask[..., None]) for mask in masks])
        rows[:, [name not in candidates for name in self.classes]] = 0
        rows *= np.arange(len(rows))[:, None] == rows.argmax(0)
        return [int(row.argmax()) + 1 if row.max() > 0 else 0 for row in rows]

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return CLIP's softmax over all classes for one picture, f32 [classes]."""
        limit = self.clip.config.text_config.max_position_embeddings
        tokens = self.clip_tokens(
            self.said, padding=True, truncation=True, max_length=limit, return_tensors="pt"
        )
        image = self.clip_pixels(images=[Image.fromarray(pixels)], return_tensors="pt")
        return self.clip(**tokens, **image).logits_per_image.softmax(1)[0].numpy()

    def paint(self, picture: Picture, masks: list[np.ndarray], found: list[int]) -> np.ndarray:
        """Return the labels as the code paints them: the first cluster has what two claim."""
        labels = np.zeros(picture.size, np.uint8)
        for label, mask in zip(found, masks, strict=True):
            if label:
                labels[(self.crf(picture.pixels, mask) > 0.5) & (labels == 0)] = label
        return labels

    def sharpen(self, picture: Picture, masks: list[np.ndarray], found: list[int]) -> np.ndarray:
        """Return the labels after one CRF for each mask that has a name."""
        named = {label: mask for label, mask in zip(found, masks, strict=True) if label}
        labels = np.zeros(picture.size, np.uint8)
        best = np.full(picture.size, 0.5, np.float32)
        for label, mask in sorted(named.items()):
            claim = self.crf(picture.pixels, mask)
            labels[claim > best] = label
            best = np.maximum(best, claim)
        return labels

    def crf(self, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return one mask's probability after mean-field inference, f32 [H, W]."""
        from pydensecrf.densecrf import DenseCRF2D
        from pydensecrf.utils import unary_from_labels

        height, width = mask.shape
        field = DenseCRF2D(width, height, 2)
        field.setUnaryEnergy(unary_from_labels(mask.astype(int), 2, 0.9, zero_unsure=False))
        field.addPairwiseGaussian(sxy=20, compat=5)
        field.addPairwiseBilateral(sxy=20, srgb=20, rgbim=pixels.copy(), compat=100)
        return np.array(field.inference(10), np.float32)[1].reshape(height, width)


def main() -> None:
    """Hold the recipe against the script on pictures as they are, and cut to other sizes."""
    from fslab.backbones import pick_layers
    from fslab.datasets import VOC, voc
    from fslab.lab import Lab
    from fslab.mini import __file__ as mini

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--spacy", action="store_true", help="tagger and parser of the code")
    parser.add_argument("--effects", action="store_true", help="of what no setting can change")
    parser.add_argument("--spacy-model", default="en_core_web_sm")
    asked = parser.parse_args()
    samples = voc(asked.dataset, "val").samples[: asked.limit]
    pictures = [sample.picture() for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab("mini", store=folder)
        recipe = lab.recipe("freeseg-diff")
        words = textblob_words
        if asked.spacy:
            words = spacy_words(asked.spacy_model)
            recipe = recipe.change({"caption.tagger": "spacy", "caption.adjectives": True})
        paths = pick_layers(lab.backbone.default_layers, lab.backbone.layers())
        layers = tuple(layer.path for layer in paths)
        script = Script(Path(mini).parent / "weights", layers, VOC, words)
        if asked.effects:
            spelled = Vocabulary(VOC.names)
            other = Script(Path(mini).parent / "weights", layers, spelled, words)
            effects(pictures, [sample.truth() for sample in samples], script, other)
            open_words(samples, lab)
            attention(samples, lab)
        else:
            compare([cut(*pair) for pair in enumerate(pictures)], script, lab, recipe)


def effects(
    pictures: list[Picture], truths: list[np.ndarray], script: Script, spelled: Script
) -> None:
    """Print what no setting can change, in pairs: painting in the clusters' order, the data set's
    spelling of its classes, and beams as transformers 4.26.1 ranked them.

    Beside them, how many pictures have no noun, a tie between segments, another caption.
    """
    from fslab.datasets import VOC
    from fslab.score import count_pairs, paired_bootstrap

    maps: dict[str, list[np.ndarray]] = {"as it is": [], "painted": [], "spelled": [], "beams": []}
    silent = tied = other = 0
    for picture in pictures:
        masks, caption = script.masks(picture), script.caption(picture)
        silent += not script.words(caption)
        with torch.inference_mode():
            rows = [script.probabilities(picture.pixels * mask[..., None]) for mask in masks]
        best = np.stack(rows)
        tied += bool(((best == best.max(0)).sum(0) > 1).any())
        named = script.name(picture, masks, script.candidates(caption))
        maps["as it is"].append(script.sharpen(picture, masks, named))
        maps["painted"].append(script.paint(picture, masks, named))
        then = script.caption_as_then(picture)
        other += then != caption
        named = script.name(picture, masks, script.candidates(then))
        maps["beams"].append(script.sharpen(picture, masks, named))
        named = spelled.name(picture, masks, spelled.candidates(caption))
        maps["spelled"].append(spelled.sharpen(picture, masks, named))
    scores = {
        what: count_pairs(
            zip([one.name for one in pictures], truths, found, strict=True), VOC.names
        )
        for what, found in maps.items()
    }
    print(
        f"of {len(pictures)} pictures {silent} without a noun, {tied} with a tie, "
        f"{other} with another caption"
    )
    for what in ("painted", "spelled", "beams"):
        for metric in ("voc21", "per-image-released"):
            print(what, metric, paired_bootstrap(metric, scores["as it is"], scores[what]))


def open_words(samples: Sequence[Sample], lab: Lab) -> None:
    """Print what it changes in an open vocabulary that a synonym is no class of its own.

    In the released code "tv" stands beside the class "tvmonitor" and competes with it. To be
    scored, a word counts as the class that it names.
    """
    from fslab.datasets import VOC
    from fslab.score import count_pairs, paired_bootstrap

    recipe = lab.recipe("freeseg-diff").change({"caption.words": "open"})
    found: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
    other = 0
    for sample in samples:
        ours = lab.segment(sample.picture(), recipe, VOC)
        theirs = lab.segment(sample.picture(), recipe, Vocabulary(VOC.names, VOC.spoken))
        other += set(ours.caption.candidates) != set(theirs.caption.candidates)
        for who, result in (("ours", ours), ("theirs", theirs)):
            named = [VOC.find(name) or VOC.names[0] for name in result.labels.names]
            table = np.array([VOC.names.index(name) for name in named], np.uint8)
            found[who].append(table[result.labels.labels])
    print(f"open vocabulary: of {len(samples)} pictures {other} with other candidates")
    truths = [sample.truth() for sample in samples]
    pairs = [
        count_pairs(zip([one.name for one in samples], truths, maps, strict=True), VOC.names)
        for maps in found.values()
    ]
    for metric in ("voc21", "per-image-released"):
        print("open vocabulary", metric, paired_bootstrap(metric, *pairs))


def attention(samples: Sequence[Sample], lab: Lab) -> None:
    """Print what the released code's words for attention change, in pairs.

    It reads the words of all classes, and pools the first tokens behind the start of "A photo of
    {class}", one more than the bare class has; of several words the mean over them.
    """
    from fslab.backbones import words
    from fslab.datasets import VOC
    from fslab.lab import Lab
    from fslab.score import count_pairs, paired_bootstrap

    def pooled(backbone: Diffusion, word: str, precision: str | None) -> torch.Tensor:
        stop = len(backbone.token_spans(word))
        said = [backbone.text_states(f"A photo of {one}", precision)[0] for one in word.split()]
        return torch.stack(said).mean(0)[1:stop].mean(0)

    def counted(read: str, lab: Lab) -> list[ImageScore]:
        recipe = lab.recipe("freeseg-diff").change({"extract.attention": read})
        maps = [lab.segment(sample.picture(), recipe).labels.labels for sample in samples]
        truths = [sample.truth() for sample in samples]
        return count_pairs(zip([one.name for one in samples], truths, maps, strict=True), VOC.names)

    ours = counted("candidates", lab)
    with tempfile.TemporaryDirectory() as folder, patch.object(words, "_own_state", pooled):
        other = Lab("mini", store=folder)
        theirs = {read: counted(read, other) for read in ("candidates", "vocabulary")}
    for read, found in theirs.items():
        for metric in ("voc21", "per-image-released"):
            print("attention, first tokens,", read, metric, paired_bootstrap(metric, ours, found))


def cut(number: int, picture: Picture) -> Picture:
    """Return every other picture as it is, the others as 98 by 74 px: not square, and seldom."""
    if number % 2 == 0:
        return picture
    image = Image.fromarray(picture.pixels).resize((98, 74))
    return Picture(np.asarray(image), f"{picture.name}, 98 x 74")


def compare(pictures: list[Picture], script: Script, lab: object, recipe: object) -> None:
    """Print what differs, picture by picture, then how many are the same."""
    same = {"captions": 0, "candidates": 0, "label maps": 0}
    for picture in pictures:
        found = lab.segment(picture, recipe)
        caption = script.caption(picture)
        candidates = set(script.candidates(caption))
        agree = {
            "captions": caption == found.caption.text,
            "candidates": candidates == set(found.caption.candidates),
            "label maps": np.array_equal(script.segment(picture), found.labels.labels),
        }
        for what, equal in agree.items():
            same[what] += equal
        if not all(agree.values()):
            print(f"{picture.name}: {agree}", caption, found.caption, candidates, sep="; ")
    print(f"of {len(pictures)} pictures the same:", same)


if __name__ == "__main__":
    main()
