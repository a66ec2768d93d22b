"""SigLIP 2 and MetaCLIP 2 in CLIP's place, BLIP-2 and Florence-2 in BLIP's: the same as plain
transformers gives, whole recipes, and refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from text_models import CAPTIONERS, MATCHERS, classes, save_siglip

from fslab.captions import CAPTIONERS as SAYING
from fslab.captions import Captioner, load_captioner
from fslab.datasets import VOC
from fslab.lab import Lab
from fslab.lab.opening import check_opened, check_type
from fslab.match import MATCHERS as FAMILIES
from fslab.match import Patches, load_matcher, score_segments
from fslab.match.families import Family
from fslab.records import FslabError, Matching, Picture, Segments

TEXTS = ["a dog", "a photo of a Dog", "sheep"]
PLAIN = {
    "siglip": ("SiglipModel", "Siglip2Tokenizer", "SiglipImageProcessorPil"),
    "metaclip_2": ("MetaClip2Model", "AutoTokenizer", "CLIPImageProcessorPil"),
    "blip-2": ("Blip2ForConditionalGeneration", "AutoTokenizer", "BlipImageProcessorPil"),
    "florence2": ("Florence2ForConditionalGeneration", "AutoTokenizer", "CLIPImageProcessorPil"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    saves = MATCHERS | CAPTIONERS
    return {name: save(place / name.replace(" ", "-")) for name, save in saves.items()}


def noise(size=(40, 56), seed=0):
    return Picture(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def blocks(count, size):
    labels = np.arange(size[0] * size[1]) * count // (size[0] * size[1])
    return Segments(labels.reshape(size).astype(np.int32))


def plain(folder, name):
    """The model, the tokenizer and the image processor, as a script without fslab has them."""
    return [kind.from_pretrained(folder) for kind in classes(*PLAIN[name.partition(" ")[0]])]


def words_of(tokenizer, name):
    """What a script gives the text side, by each model's own documentation."""
    if name == "siglip":
        given = tokenizer(TEXTS, padding="max_length", max_length=64, return_tensors="pt")
        assert given["input_ids"].shape == (3, 64)
        return given
    return tokenizer(TEXTS, padding=True, return_tensors="pt")


def unit(found):
    values = found.pooler_output.numpy()
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", MATCHERS)
def test_vectors_are_those_of_a_plain_call(folders, name):
    matcher, (model, tokenizer, processor) = load_matcher(folders[name]), plain(folders[name], name)
    pictures = [noise().pixels, noise((64, 20), 1).pixels]
    with torch.inference_mode():
        texts = unit(model.get_text_features(**words_of(tokenizer, name)))
        given = processor(images=list(map(Image.fromarray, pictures)), return_tensors="pt")
        images = unit(model.get_image_features(**given))
    np.testing.assert_array_equal(matcher.encode_texts(TEXTS), texts)
    np.testing.assert_array_equal(matcher.encode_images(pictures), images)
    assert matcher.encode_texts([]).shape == (0, texts.shape[1])
    assert np.abs(texts[0] - texts[2]).max() > 0.1 < np.abs(images[0] - images[1]).max()


@pytest.mark.parametrize("name", MATCHERS)
def test_text_states_are_those_of_a_plain_call(folders, name):
    model, tokenizer, _ = plain(folders[name], name)
    longest = model.config.text_config.max_position_embeddings
    given = tokenizer(TEXTS, padding="max_length", max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        states = model.text_model(given["input_ids"]).last_hidden_state.mean(1).numpy()
    np.testing.assert_array_equal(load_matcher(folders[name]).mean_states(TEXTS), states)


@pytest.mark.parametrize("name", MATCHERS)
def test_logits_are_those_of_a_plain_call(folders, name):
    matcher, (model, tokenizer, processor) = load_matcher(folders[name]), plain(folders[name], name)
    picture = noise((32, 32))
    given = processor(images=Image.fromarray(picture.pixels), return_tensors="pt")
    texts = list(VOC.classes[:3])
    padding = {"padding": "max_length", "max_length": 64} if name == "siglip" else {"padding": True}
    words = tokenizer(texts, return_tensors="pt", **padding)
    with torch.inference_mode():
        logits = model(**words, **given).logits_per_image.double()
    whole = Segments(np.zeros(picture.size, np.int32))
    asked = Matching("box", compete="candidates", assignment="argmax")
    found = score_segments(picture, whole, VOC, texts, asked, matcher)
    np.testing.assert_allclose(found.probabilities, logits.softmax(1), atol=1e-6)
    if name == "siglip":
        apart = Matching("box", compete="candidates", probabilities="sigmoid")
        found = score_segments(picture, whole, VOC, texts, apart, matcher)
        np.testing.assert_allclose(found.probabilities, logits.sigmoid(), atol=1e-6)
        assert abs(float(found.probabilities.sum()) - 1) > 0.05


def test_siglip_reads_words_in_lower_case_as_it_was_trained(folders):
    matcher = load_matcher(folders["siglip"])
    upper, lower = matcher.encode_texts(["A Dog", "a dog"])
    np.testing.assert_array_equal(upper, lower)


@pytest.mark.parametrize("name", MATCHERS)
def test_a_region_that_is_the_whole_square_picture_gets_the_models_own_vector(folders, name):
    matcher, picture = load_matcher(folders[name]), noise((48, 48))
    found = Patches(picture, matcher).encode([np.ones(picture.size, bool)])
    np.testing.assert_allclose(found, matcher.encode_images([picture.pixels]), atol=3e-6)


def test_siglips_head_reads_a_regions_patches_and_no_others(folders):
    matcher, picture = load_matcher(folders["siglip"]), noise((32, 64))
    masks = np.zeros((2, 32, 64), bool)  # 4 x 8 patches of 8 pixels
    masks[0, :16, 8:40], masks[1, 24:] = True, True
    tower = matcher.model.vision_model
    given = matcher.image_processor(
        images=Image.fromarray(picture.pixels), size={"height": 16, "width": 32},
        return_tensors="pt",
    )  # fmt: skip
    with torch.inference_mode():
        patches = tower(**given, interpolate_pos_encoding=True).last_hidden_state[0]
        grids = [mask[::8, ::8].ravel() for mask in masks]
        alone = torch.cat([tower.head(patches[torch.from_numpy(grid)][None]) for grid in grids])
    wanted = torch.nn.functional.normalize(alone, dim=-1).numpy()
    np.testing.assert_allclose(Patches(picture, matcher).encode(masks), wanted, atol=3e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.1


def test_a_region_beyond_what_is_seen_of_a_long_picture_is_finite(folders):
    matcher, picture = load_matcher(folders["siglip"]), noise((16, 200))
    mask = np.zeros(picture.size, bool)
    mask[:, :8] = True
    assert np.isfinite(Patches(picture, matcher).encode([mask])).all()


def generated(folder, name, images, **settings):
    """What a plain script generates for pictures, by each model's own documentation."""
    from transformers import Blip2Processor, Florence2Processor

    model, tokenizer, pictures = plain(folder, name)
    if name == "florence2":
        settings["text"] = ["<CAPTION>"] * len(images)
        processor = Florence2Processor(pictures, tokenizer)
    else:
        processor = Blip2Processor(pictures, tokenizer, num_query_tokens=4)
    text = settings.pop("text", None)
    given = processor(images=images, text=text, return_tensors="pt")
    tokens = model.generate(**given, num_beams=3, do_sample=False, **settings)
    return [said.strip() for said in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


@pytest.mark.parametrize("name", CAPTIONERS)
def test_captions_are_those_of_a_plain_call(folders, name):
    pictures = [noise().pixels, np.full((32, 24, 3), 20, np.uint8), noise((64, 48), 1).pixels]
    images = list(map(Image.fromarray, pictures))
    wanted = generated(folders[name], name, images, max_new_tokens=8)
    captioner = load_captioner(folders[name])
    assert captioner.captions(pictures, max_new_tokens=8, beams=3) == wanted
    assert len(set(wanted)) > 1
    assert captioner.caption(pictures[1], max_new_tokens=8, beams=3) == wanted[1]


@pytest.mark.parametrize("name", ["blip-2 opt", "blip-2 t5"])
def test_a_prompt_is_read_and_not_returned(folders, name):
    pixels, captioner = noise().pixels, load_captioner(folders[name])
    text = {"text": ["a dog"], "max_new_tokens": 6}
    [wanted] = generated(folders[name], name, [Image.fromarray(pixels)], **text)
    said = captioner.caption(pixels, max_new_tokens=6, beams=3, prompt="a dog")
    assert said == wanted.removeprefix("a dog").strip()
    assert said != captioner.caption(pixels, max_new_tokens=6, beams=3)


@pytest.mark.parametrize("name", CAPTIONERS)
def test_lengths_count_the_start_token_and_the_prompt(folders, name):
    captioner, ends = load_captioner(folders[name]), []
    generate = captioner.model.generate

    def counted(**given):
        ends.append((given["max_new_tokens"], given["min_new_tokens"]))
        return generate(**given)

    captioner.model.generate = counted
    captioner.caption(noise().pixels, min_length=5, max_length=9)
    assert ends == [(8, 4)]
    with pytest.raises(FslabError, match="max_length is 1"):
        captioner.caption(noise().pixels, max_length=1)


def test_florence_is_given_a_task_and_no_beginning(folders):
    with pytest.raises(FslabError, match="takes a task; leave the prompt out"):
        load_captioner(folders["florence2"]).caption(noise().pixels, prompt="a picture of ")


@pytest.mark.parametrize("name", CAPTIONERS)
def test_whole_recipes_run_with_another_captioner(folders, name):
    lab = Lab("mini", captioner=folders[name])
    found = lab.segment(noise((48, 64)), "freeseg-diff")
    assert found.labels.labels.shape == (48, 64)
    prompt = {"blip-2": "a photo of", "florence2": ""}[name.partition(" ")[0]]
    asked = {"beams": 3, "prompt": prompt, "min_length": 10, "max_length": 30}
    assert found.caption.text == lab.captioner.caption(noise((48, 64)).pixels, **asked)


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("method", ["freeseg-diff", "fslab"])
def test_whole_recipes_run_with_another_clip(folders, name, method):
    picture = noise((48, 64))
    lab, usual = Lab("mini", clip=folders[name]), Lab("mini")
    assert lab.clip_fingerprint != usual.clip_fingerprint
    found = lab.segment(picture, method, candidates=("dog", "sheep", "bicycle"))
    known = usual.segment(picture, method, candidates=("dog", "sheep", "bicycle"))
    np.testing.assert_array_equal(found.segments.labels, known.segments.labels)
    assert found.labels.scores != known.labels.scores
    recipe = lab.recipe(method).change({"caption.words": "closed", "caption.encoder": "clip"})
    assert lab.segment(picture, recipe).labels.labels.shape == (48, 64)


@pytest.mark.parametrize("name", [*MATCHERS, *CAPTIONERS])
def test_half_precision_is_computed_in_and_named(folders, name):
    part = "clip" if name in MATCHERS else "captioner"
    lab, usual = (Lab("mini", precision=each, **{part: folders[name]}) for each in ("bf16", "fp32"))
    assert getattr(lab, f"{part}_fingerprint") == getattr(usual, f"{part}_fingerprint") + "-bf16"
    if name in CAPTIONERS:
        assert isinstance(lab.captioner.caption(noise().pixels), str)
        return
    half, full = (each.matcher.encode_images([noise().pixels]) for each in (lab, usual))
    assert 0 < np.abs(half - full).max() < 0.1
    assert np.isfinite(Patches(noise(), lab.matcher).encode([np.ones((40, 56), bool)])).all()


@pytest.mark.parametrize("name", [*MATCHERS, *CAPTIONERS])
def test_what_was_fetched_is_opened(folders, name):
    kind, other = ("clip", "captioner") if name in MATCHERS else ("captioner", "clip")
    check_type(folders[name], kind)
    check_opened(folders[name], kind)
    with pytest.raises(FslabError, match="place fslab reads"):
        check_type(folders[name], other)
    with pytest.raises(FslabError, match="place fslab reads"):
        getattr(Lab("mini", **{other: folders[name]}), "matcher" if other == "clip" else other)


def changed(folder, place, file, **entries):
    shutil.copytree(folder, place, dirs_exist_ok=True)
    known = json.loads((place / file).read_text())
    (place / file).write_text(json.dumps(known | entries))
    return place


@pytest.mark.parametrize(
    ("file", "entries", "reason"),
    [
        ("config.json", {"model_type": "siglip2"}, "any resolution .NaFlex.; take one of fixed"),
        ("config.json", {"model_type": "altclip"}, "place fslab reads clip, metaclip_2, siglip"),
        ("config.json", {"auto_map": {"AutoModel": "own.Model"}}, "code of its own"),
        ("tokenizer_config.json", {"tokenizer_class": "SiglipTokenizer"}, "take a SigLIP 2"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "own.T"}}, "code of its own"),
    ],
)
def test_what_cannot_be_read_in_clips_place_is_refused(folders, tmp_path, file, entries, reason):
    with pytest.raises(FslabError, match=reason):
        load_matcher(changed(folders["siglip"], tmp_path / "other", file, **entries))


def test_a_siglip_without_its_head_is_refused(tmp_path):
    with pytest.raises(FslabError, match="no pooling head"):
        load_matcher(save_siglip(tmp_path / "headless", vision_use_head=False))


def test_florence_as_its_authors_published_it_needs_code_and_is_refused(folders, tmp_path):
    entries = {"auto_map": {"AutoModelForCausalLM": "modeling_florence2.Florence2"}}
    with pytest.raises(FslabError, match="which fslab never runs"):
        load_captioner(changed(folders["florence2"], tmp_path / "own", "config.json", **entries))


def test_pickles_are_refused(folders, tmp_path):
    for name, load in {"siglip": load_matcher, "blip-2 opt": load_captioner}.items():
        place = shutil.copytree(folders[name], tmp_path / name)
        (place / "model.safetensors").rename(place / "pytorch_model.bin")
        with pytest.raises(FslabError, match="pickled"):
            load(place)


def test_clip_has_no_sigmoid(clip):
    picture, recipe = noise(), Matching(probabilities="sigmoid")
    with pytest.raises(FslabError, match="CLIP was trained with a softmax"):
        score_segments(picture, blocks(2, (40, 56)), VOC, ("dog",), recipe, load_matcher(clip))


class Plain(Family):
    """Another's family: CLIP's parts without mask tokens."""

    name, model = "own", "CLIPModel"
    tokenizer, image_processor = "CLIPTokenizer", "CLIPImageProcessorPil"

    def width(self, model):
        return model.config.projection_dim


class Calm(Captioner):
    """Another's captioner, which says less."""

    def captions(self, pictures, **settings):
        return ["a dog"] * len(pictures)


@pytest.fixture
def others(monkeypatch):
    """The registries with families of somebody else's in the place of two of ours."""
    for registry, name, kind in ((FAMILIES, "clip", Plain), (SAYING, "blip", Calm)):
        kept = {key: registry[key] for key in registry if key != name}
        monkeypatch.setattr(registry, "_parts", kept)
        registry.add(name, kind)


def test_another_family_can_be_added_and_may_lack_mask_tokens(clip, others):
    matcher, picture = load_matcher(clip), noise((32, 32))
    assert matcher.encode_texts(["a dog"]).shape == (1, 8)
    with pytest.raises(FslabError, match=r"own has no mask tokens.*set matching.tokens to False"):
        Patches(picture, matcher).encode([np.ones((32, 32), bool)])


def test_code_of_others_is_part_of_the_keys(clip, blip, request):
    usual = Lab("mini", clip=clip, captioner=blip)
    usual_prints = usual.clip_fingerprint, usual.captioner_fingerprint
    request.getfixturevalue("others")
    lab = Lab("mini", clip=clip, captioner=blip)
    assert lab.clip_fingerprint != usual_prints[0]
    assert lab.captioner_fingerprint != usual_prints[1]
    assert lab.caption(noise()).candidates == ("dog",)
