"""The lab: stages that agree with the parts, a store that spares the models, clear refusals."""

import json
import pickle
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import MINI, noise_picture
from text_models import save_siglip

import fslab
from fslab.backbones import Diffusion
from fslab.backbones.components import Components
from fslab.captions import closest_classes, load_captioner
from fslab.cluster import cluster
from fslab.extract import listed_layers, mirror_of
from fslab.lab import METHODS, PRESETS, Lab
from fslab.lab.recipes import CLUSTERINGS, clustering_recipe
from fslab.lab.words import conditioned, evidence_for
from fslab.match import load_matcher, match
from fslab.records import Clustering, FslabError, Matching, Reading, Recipe
from fslab.refine import refine

LAYER = "down_blocks.1.attentions.0"


@pytest.fixture
def lab(tiny):
    return Lab(tiny)


def loaded(lab):
    """Which models a lab holds."""
    parts = {name for name in ("captioner", "matcher") if name in vars(lab)}
    for name in ("backbone", "text_model"):
        if name in vars(lab):
            parts |= {part for part, _ in getattr(vars(lab)[name], "_parts", {})}
    return parts


def test_nothing_is_loaded_before_it_is_used(lab):
    lab.recipe("freeseg-diff")
    lab.layers()
    assert loaded(lab) == set()


def test_features_are_a_mapping_from_layer_to_map(lab, wide_picture):
    found = lab.extract(wide_picture, layers=[LAYER, "down_blocks.0"], timesteps=50, seed=1)
    assert set(found) == {LAYER, "down_blocks.0"}
    assert found[LAYER].shape == (64, 8, 12)
    assert found["down_blocks.0"].shape == (32, 8, 12)
    assert found[LAYER].dtype == np.float32


def test_several_timesteps_give_a_map_each(lab, picture):
    both = lab.extract(picture, layers=[LAYER], timesteps=[50, 400])
    assert set(both) == {f"{LAYER}@50", f"{LAYER}@400"}
    for timestep in (50, 400):
        one = lab.extract(picture, layers=[LAYER], timesteps=timestep)
        assert np.array_equal(both.at(timestep)[LAYER], one[LAYER])


def test_seed_prompt_and_timestep_change_the_features_and_position_does_not(lab, picture):
    base = lab.extract(picture, layers=[LAYER], timesteps=50)[LAYER]
    same = lab.extract(fslab.Picture(picture.pixels, "other name"), layers=LAYER, timesteps=50)[
        LAYER
    ]
    assert np.array_equal(base, same)
    for change in ({"seed": 1}, {"prompt": "dog"}, {"timesteps": 51}, {"posterior": "sample"}):
        other = lab.extract(picture, layers=[LAYER], **{"timesteps": 50, **change})[LAYER]
        assert not np.array_equal(base, other), change


def test_a_stored_feature_loads_no_model_and_has_the_same_bits(tiny, picture):
    cold = Lab(tiny).extract(picture, layers=[LAYER], timesteps=50)
    lab = Lab(tiny)
    warm = lab.extract(picture, layers=[LAYER], timesteps=50)
    assert np.array_equal(cold[LAYER], warm[LAYER])
    assert loaded(lab) == set()


def test_a_whole_method_again_loads_no_model(tiny, picture):
    first = Lab(tiny).segment(picture, "freeseg-diff")
    lab = Lab(tiny)
    again = lab.segment(picture, "freeseg-diff")
    assert loaded(lab) == set()
    assert np.array_equal(first.labels.labels, again.labels.labels)
    assert first.caption == again.caption
    assert np.array_equal(first.segments.labels, again.segments.labels)


def test_a_damaged_entry_is_made_again_with_the_same_bits(tiny, picture, own_store):
    cold = Lab(tiny).extract(picture, layers=[LAYER], timesteps=50)[LAYER].copy()
    for path in own_store.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(RuntimeWarning, match="is damaged"):
        again = Lab(tiny).extract(picture, layers=[LAYER], timesteps=50)[LAYER]
    assert np.array_equal(cold, again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lab(tiny).extract(picture, layers=[LAYER], timesteps=50)


def test_other_weights_are_other_entries(tiny, diffusion_folders, picture):
    one = Lab(tiny).extract(picture, layers=[LAYER], timesteps=50)
    two = Lab(diffusion_folders["sd2"]).extract(picture, layers=[LAYER], timesteps=50)
    random = Lab(tiny, backbone="random").extract(picture, layers=[LAYER], timesteps=50)
    assert not np.array_equal(one[LAYER], random[LAYER])
    assert one[LAYER].shape == two[LAYER].shape


@pytest.mark.parametrize("method", [*METHODS])
def test_a_method_is_its_stages_one_after_the_other(tiny, wide_picture, method):
    lab = Lab(tiny)
    recipe, vocabulary = lab.recipe(method), fslab.VOC
    candidates = ("dog", "cat", "sofa")
    result = lab.segment(wide_picture, method, candidates=candidates)
    read_by = conditioned(recipe.extract, result.caption, vocabulary, lab.backbone)
    wanted = {read_by.timesteps[0]: tuple(result.features)}
    size = lab.backbone.input_size(wide_picture, read_by)
    features, other = (
        lab.backbone.run(each, size, wanted, read_by)
        for each in (wide_picture, mirror_of(wide_picture))
    )
    for key, each in features.items():
        mean = (each + other[key].flip(-1)) / 2 if read_by.mirrored else each
        assert np.array_equal(mean.numpy(), result.features[key[0]])
    segments = cluster(result.features, recipe.cluster, len(candidates))
    assert np.array_equal(segments.labels, result.segments.labels)
    evidence = evidence_for(
        lab.attention, wide_picture, candidates, vocabulary, recipe.match, lab.backbone, read_by
    )
    clip = load_matcher(tiny / "clip")
    asked = recipe.match
    looks = None
    if asked.spread_layers:
        how = {"timesteps": asked.spread_timestep, "noise": asked.spread_noise}
        looks = lab.extract(wide_picture, asked.spread_layers, **how)
    given = (wide_picture, segments, vocabulary, candidates, asked, clip)
    named = match(*given, evidence, looks, result.features)
    assert np.array_equal(named.labels, result.named.labels)
    assert named.scores == result.named.scores
    labels = refine(wide_picture, named, recipe.refine)
    assert np.array_equal(labels.labels, result.labels.labels)
    assert result.labels.size == wide_picture.size
    assert set(result.seconds) == {"caption", "extract", "cluster", "match", "refine"}


@pytest.mark.parametrize(
    ("change", "size"),
    [({}, (64, 96)), ({"resolution": 32}, (32, 48)), ({"squash": True}, (64, 64))],
)
def test_evidence_is_read_at_the_size_that_features_are(
    tiny, wide_picture, monkeypatch, change, size
):
    sizes, plain = [], Diffusion.passes

    def passes(self, asked, size, *how):
        sizes.append(size)
        return plain(self, asked, size, *how)

    monkeypatch.setattr(Diffusion, "passes", passes)
    asked = {"match.attention_layers": ["*attn2.to_q"]}
    asked |= {f"extract.{name}": each for name, each in change.items()}
    recipe = METHODS["fslab"].change(asked)
    for several in (False, True):
        with Lab(tiny, store=f"memory://{change}{several}") as lab:
            if several:
                pictures = [wide_picture, noise_picture(64, 96, seed=1)]
                list(lab.segment_many(pictures, recipe, candidates=["dog"], batch=2, processes=0))
            else:
                lab.segment(wide_picture, recipe, candidates=["dog"])
        assert len(sizes) == 2
        assert set(sizes) == {size}
        sizes.clear()


def test_evidence_at_another_size_is_kept_under_another_key(tiny, wide_picture, own_store):
    labs = [Lab(tiny, store=own_store) for _ in range(2)]
    maps = [lab.attention(wide_picture, ["dog"], resolution=32)["dog"] for lab in labs]
    assert np.array_equal(*maps)
    whole = labs[1].attention(wide_picture, ["dog"])["dog"]
    assert [value.shape for value in (maps[0], whole)] == [(4, 6), (8, 12)]


def test_the_caption_is_the_captioners_and_candidates_are_the_nearest_classes(tiny, lab, picture):
    caption = lab.caption(picture)
    plain = load_captioner(tiny / "blip").caption(picture.pixels)
    assert caption.text == plain
    expected = closest_classes(caption.nouns, fslab.VOC, lab.text_model.embed_texts)
    assert caption.candidates == expected


def test_freeseg_diff_is_the_released_code():
    recipe = METHODS["freeseg-diff"]
    assert recipe.extract.squash
    assert (recipe.extract.timesteps, recipe.extract.prompt, recipe.extract.draws) == ((0,), "", 1)
    assert recipe.cluster == Clustering.of("kmeans", k=4, grid=32, upsample="nearest")
    assert recipe.match == Matching("masked")
    assert recipe.match.compete == "vocabulary"
    crf = recipe.refine
    assert (crf.method, crf.iterations, crf.certainty) == ("crf", 10, 0.9)
    assert (crf.gaussian_sxy, crf.gaussian_compat) == (20, 5)
    assert (crf.bilateral_sxy, crf.bilateral_srgb, crf.bilateral_compat) == (20, 20, 100)
    squash = Lab("mini").backbone.input_size(noise_picture(64, 200), recipe.extract)
    assert squash[0] == squash[1]


def test_a_baseline_keeps_the_text_side_and_imposes_its_clustering(tiny):
    lab = Lab(tiny, backbone="rgb")
    recipe = lab.recipe("fslab")
    assert (recipe.cluster.normalise, recipe.cluster.position) == ("none", 0.0)
    assert recipe.match == replace(METHODS["fslab"].match, attention=0.0)
    assert recipe.extract.layers == ("colour", "position")


def test_a_vision_transformer_serves_class_agnostic_segments(vision_folders, wide_picture):
    lab = Lab(vision_folders["dinov2"])
    recipe = Recipe("plain", cluster=Clustering.of(k=3, normalise="l2"))
    assert lab.segments(wide_picture, recipe).size == wide_picture.size
    with pytest.raises(FslabError, match="has no timesteps"):
        lab.extract(wide_picture, timesteps=50)


@pytest.mark.parametrize("method", ["freeseg-diff", "fslab", "diffcut"])
def test_layers_of_a_unet_become_a_timeless_backbones_own(vision_folders, method):
    recipe = Lab(vision_folders["dinov2"]).recipe(method)
    assert (recipe.extract.layers, recipe.extract.timesteps) == (("layernorm",), (0,))
    changed = METHODS[method].change({"extract.layers": ["up_blocks.0.attentions.*"]})
    assert Lab(vision_folders["dinov2"]).recipe(changed).extract.layers == ("layernorm",)
    named = METHODS[method].change({"extract.layers": ["encoder.layer.0"]})
    assert Lab(vision_folders["dinov2"]).recipe(named).extract.layers == ("encoder.layer.0",)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_diffcut_and_diffseg_read_what_they_say(diffusion_folders, wide_picture, kind):
    lab = Lab(diffusion_folders[kind])
    size = lab.backbone.input_size(wide_picture, METHODS["diffcut"].extract)
    assert size[0] == size[1]
    recipe = lab.recipe("diffcut").extract
    (path,) = lab.extract(wide_picture, layers=recipe.layers, timesteps=50)
    encoder = [
        layer.path
        for layer in lab.layers()
        if layer.path.startswith("down_blocks") and layer.path.endswith("attn1")
    ]
    assert path == encoder[-1]
    every = lab.extract(wide_picture, layers=lab.recipe("diffseg").extract.layers, timesteps=300)
    assert len(every) == len([x for x in lab.layers() if x.path.endswith("attn1")])
    assert len({value.shape for value in every.values()}) == 2
    for method in ("diffcut", "diffseg"):
        assert lab.segments(wide_picture, method).size == wide_picture.size


def test_neighbours_recipes_say_what_a_model_lacks(tmp_path, vision_folders, picture):
    import transformers_tiny

    joint = Lab(transformers_tiny.save(tmp_path / "sd3", "sd3"), captioner=None, clip=None)
    plain = Lab("mini", "rgb")
    for lab, method, said in (
        (plain, "dslo", "rgb shows no self-attention"),
        (plain, "goca", "rgb reads no text"),
        (plain, "fa-seg", "rgb reads no text, so no caption"),
        (Lab("mini", vision_folders["dinov2"]), "goca", "reads no text"),
    ):
        with pytest.raises(FslabError, match=said):
            lab.segment(picture, method, candidates=["dog"])
    with pytest.raises(FslabError, match=r"SigLIP has no class token.*'none'"):
        Lab("mini", clip=save_siglip(tmp_path / "siglip")).segment(picture, "corrclip-sd")
    with pytest.raises(FslabError, match="no UNet, whose cells' queries"):
        joint.attention(picture, ["dog"], reading=Reading(said="a photo of a dog"))
    words = joint.recipe("goca").match
    with pytest.raises(FslabError, match=r"text and picture together.*heads='mean'"):
        joint.attention(
            picture, ["dog", "cat"], layers=words.attention_layers, reading=words.reading
        )


@pytest.mark.parametrize("name", [*CLUSTERINGS])
def test_every_clustering_serves_every_network(tiny, vision_folders, wide_picture, name):
    for folder in (tiny, vision_folders["dinov2"]):
        lab = Lab(folder)
        recipe = clustering_recipe(name)
        assert recipe.name == name
        segments = lab.segments(wide_picture, recipe)
        assert segments.size == wide_picture.size
        features = lab.extract(wide_picture, layers=recipe.extract.layers)
        assert np.array_equal(segments.labels, cluster(features, recipe.cluster).labels)


def test_an_unknown_clustering_is_refused_with_those_that_are():
    with pytest.raises(FslabError, match=r"no clustering 'mean-shift'; there is kmeans, .*merge"):
        clustering_recipe("mean-shift")


def test_attention_to_words(tiny, wide_picture):
    maps = Lab(tiny).attention(wide_picture, ["dog", "cat"], timesteps=50)
    assert set(maps) == {"dog", "cat"}
    assert maps["dog"].shape == (8, 12)
    assert 0 < maps["dog"].min() < maps["dog"].max() < 1
    lab = Lab(tiny)
    again = lab.attention(wide_picture, ["dog", "cat"], timesteps=50)
    assert np.array_equal(maps["cat"], again["cat"])
    assert loaded(lab) == set()
    with pytest.raises(FslabError, match="rgb reads no text"):
        Lab(tiny, backbone="rgb").attention(wide_picture, ["dog"])


TRANSFORMERS = (
    "pixart-alpha", "pixart-sigma", "sana-600m", "sana-1600m",
    "sd3-medium", "sd35-medium", "sd35-large", "flux-dev", "flux-schnell",
)  # fmt: skip


def test_presets_have_what_a_reader_asks_for():
    assert list(PRESETS) == ["mini", "sd14", "sd15", "sd21", "sdxl", "ssd1b", *TRANSFORMERS]
    for preset in PRESETS.values():
        assert preset.gigabytes > 0
        assert preset.memory > 0
        assert preset.licence


REFUSALS = {
    "a picture is int; give an fslab.Picture": lambda lab, picture: lab.extract(3),
    "no preset and no folder 'min'.*did you mean mini": lambda lab, picture: Lab("min"),
    "no layer is called 'down_block.1'.*down_blocks.1": lambda lab, picture: lab.extract(
        picture, ["down_block.1"]
    ),
    "timestep is 1000; it must be a whole number from 0 to 999": lambda lab, picture: lab.extract(
        picture, timesteps=1000
    ),
    "timestep is -1": lambda lab, picture: lab.extract(picture, timesteps=-1),
    r"extraction.timesteps is \(5\.5,\); it must be a whole number": lambda lab, picture: (
        lab.extract(picture, timesteps=5.5)
    ),
    "no method 'freeseg'.*did you mean freeseg-diff": lambda lab, picture: lab.segment(
        picture, "freeseg"
    ),
    "clustering by 'kmeans' has no setting 'n'.*restarts": lambda lab, picture: lab.cluster(
        lab.extract(picture), n=3
    ),
    "candidate 'zebra' is not a class": lambda lab, picture: lab.segment(
        picture, candidates=["zebra"]
    ),
}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cluster.seed", -1), ("cluster.seed", 1.5), ("extract.seed", "abc"), ("extract.prompt", 3),
        ("extract.layers", None), ("extract.layers", "conv_in"), ("cluster.position", "abc"),
        ("cluster.position", float("nan")), ("cluster.k", float("inf")), ("match.templates", [1]), ("match.background", "sky"),
        ("match.synonyms", "no"), ("extract.squash", 1), ("refine.gaussian_compat", "a"),
        ("refine.dilations", 5), ("refine.dilations", [0]), ("refine.certainty", True),
        ("cluster.k", "a"), ("caption.words", "some"), ("extract.draws", 0),
    ],
)  # fmt: skip
def test_settings_of_another_type_are_refused(setting, value):
    with pytest.raises(FslabError, match=setting.split(".")[1]):
        Recipe().change({setting: value})


def test_numpy_numbers_are_numbers(lab, picture):
    plain = lab.extract(picture, layers=[LAYER], timesteps=50, seed=3)
    given = lab.extract(picture, layers=[LAYER], timesteps=np.int64(50), seed=np.int64(3))
    assert np.array_equal(plain[LAYER], given[LAYER])
    both = lab.extract(picture, layers=[LAYER], timesteps=np.array([50, 60]))
    assert set(both) == {f"{LAYER}@50", f"{LAYER}@60"}
    assert not both.at(60)[LAYER].flags.writeable


def test_a_folder_without_a_text_encoder_compares_words_by_clip(tmp_path, picture):
    from models import save_captioner, save_matcher, save_vision

    folder = save_vision(tmp_path / "vit", "vit")
    save_captioner(folder / "blip")
    save_matcher(folder / "clip")
    result = Lab(folder).segment(picture)
    assert result.labels.size == picture.size


def test_attention_reads_whole_words(tiny, picture):
    prompt = "a photo of doggrass and dog"
    lab = Lab(tiny)
    whole = lab.attention(picture, ["dog"], prompt=prompt, timesteps=50)["dog"]
    spans = lab.backbone.token_spans(prompt)
    assert [prompt[a:b] for a, b in spans if a >= prompt.rindex("dog")] == ["dog"]
    other = lab.attention(picture, ["doggrass"], prompt=prompt, timesteps=50)["doggrass"]
    assert not np.array_equal(whole, other)
    with pytest.raises(FslabError, match="beyond the 16 tokens"):
        lab.attention(picture, ["dog"], prompt="a " * 60 + "dog", timesteps=50)
    with pytest.raises(FslabError, match="give a tuple"):
        lab.attention(picture, "dog", timesteps=50)


@pytest.mark.parametrize("message", REFUSALS)
def test_refusals(lab, picture, message):
    with pytest.raises(FslabError, match=message):
        REFUSALS[message](lab, picture)


def test_missing_weights_are_said_before_any_work():
    with pytest.raises(
        FslabError,
        match=r"CompVis/stable-diffusion-v1-4 \(.* GB.*`fslab fetch sd14`.*mini needs none",
    ):
        Lab("sd14")


def test_a_store_that_cannot_be_written_loses_nothing(tiny, picture, tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        found = Lab(tiny, store=tmp_path / "blocked").extract(picture, layers=[LAYER], timesteps=50)
    expected = Lab(tiny).extract(picture, layers=[LAYER], timesteps=50)
    assert np.array_equal(found[LAYER], expected[LAYER])


def test_layers_come_from_the_store_the_second_time(tiny, monkeypatch):
    first = Lab(tiny).layers()
    lab = Lab(tiny)
    monkeypatch.setattr(type(lab.backbone), "layers", lambda self: pytest.fail("listed again"))
    assert listed_layers(lab.backbone, lab.store) == first


def test_a_recipe_survives_json_and_names_its_settings():
    recipe = METHODS["fslab"].change({"cluster.k": 9, "extract.timesteps": [1, 2]})
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.digest == recipe.digest
    assert replace(recipe, name="other").digest == recipe.digest
    assert METHODS["fslab"].digest != recipe.digest


@pytest.mark.skipif(not (MINI / "clip").is_dir(), reason="the bundled weights are not made yet")
def test_the_bundled_models_open_with_the_libraries_alone():
    from diffusers import StableDiffusionPipeline
    from transformers import BlipForConditionalGeneration, CLIPModel

    pipe = StableDiffusionPipeline.from_pretrained(MINI / "stable-diffusion", safety_checker=None)
    assert pipe.unet.dtype == torch.float32
    CLIPModel.from_pretrained(MINI / "clip")
    BlipForConditionalGeneration.from_pretrained(MINI / "blip")
    sizes = [path.stat().st_size for path in MINI.rglob("*.safetensors")]
    assert sum(sizes) <= 25e6
    assert not [path for path in MINI.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_threads_that_share_a_lab_get_the_serial_results(tiny, tmp_path):
    pictures = [noise_picture(24, 32, seed) for seed in range(4)]

    def labels(lab, picture):
        return lab.segment(picture, "fslab", candidates=("dog", "cat")).labels.labels

    serial = [labels(Lab(tiny, store=tmp_path / "serial"), picture) for picture in pictures]
    for attempt in range(2):
        shared = Lab(tiny, store=tmp_path / str(attempt))
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(partial(labels, shared), pictures))
        assert all(np.array_equal(a, b) for a, b in zip(serial, together, strict=True))
        parts = [part for part, _ in shared.backbone.components.loaded]
        assert sorted(parts) == sorted(set(parts))


def test_threads_load_each_part_of_a_model_once(tiny, tmp_path, monkeypatch):
    """Else one's hooks would sit on a network that another's pass had replaced."""
    read, single = [], Components.weights

    def weights(self, part, dtype):
        read.append(part)
        time.sleep(0.2)
        return single(self, part, dtype)

    monkeypatch.setattr(Components, "weights", weights)
    lab, pictures = Lab(tiny, store=tmp_path), [noise_picture(24, 32, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(partial(lab.extract, layers="mid_block*.to_q"), pictures))
    assert sorted(read) == ["text_encoder", "unet", "vae"]


def test_models_that_a_lab_opened_go_to_other_processes(tmp_path):
    lab, picture = Lab("mini", store=tmp_path), noise_picture(96, 96)
    texts = ["a dog", "a photo of a cat"]
    matcher, captioner, backbone = pickle.loads(
        pickle.dumps((lab.matcher, lab.captioner, lab.backbone))
    )
    assert np.array_equal(matcher.encode_texts(texts), lab.matcher.encode_texts(texts))
    assert captioner.caption(picture.pixels) == lab.captioner.caption(picture.pixels)
    assert backbone.fingerprint == lab.backbone.fingerprint


def test_calls_of_a_tokenizer_from_several_threads_do_not_share_their_padding():
    tokenizer = Lab("mini").matcher.tokenizer
    texts, switching = ["a dog", "a photo of a dog and a cat"], sys.getswitchinterval()

    def lengths(padding):
        return [len(ids) for ids in tokenizer(texts, padding=padding).input_ids]

    expected = [lengths(padding) for padding in (False, True)]
    assert expected[0] != expected[1]
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lengths, [False, True] * 300))
    finally:
        sys.setswitchinterval(switching)
    assert found == expected * 300


def test_a_word_may_begin_and_end_with_any_mark():
    lab, words = Lab("mini"), ("<i>cow</i>", "c++", "dog")
    maps = lab.attention(noise_picture(96, 96), words)
    assert set(maps) == set(words)
    with pytest.raises(FslabError, match="does not hold the word 'do'"):
        lab.attention(noise_picture(96, 96), ("do",), prompt="a photo of a dog")


@pytest.mark.parametrize("name", ["preset", "backbone", "captioner", "clip"])
@pytest.mark.parametrize(
    "given", [5, b"mini", True, ["mini"], "x" * 5000, "a/" + "x" * 5000, "~nobody/x"]
)
def test_what_is_no_name_of_a_model_is_refused_in_a_sentence(name, given):
    with pytest.raises(FslabError) as refused:
        fslab.Lab(**{name: given}).layers()
    assert name in str(refused.value) or "'~nobody/x'" in str(refused.value)
    assert len(str(refused.value)) < 300
