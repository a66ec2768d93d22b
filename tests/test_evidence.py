"""Attention to words that is read with more care, and evidence that names pixels by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import noise_picture

import fslab
import fslab.match
from fslab.backbones import open_backbone, word_attentions, word_readings
from fslab.backbones.attention import word_columns
from fslab.backbones.evidence import self_attention_beside
from fslab.backbones.grids import shares_of_grids, spread_over_grids
from fslab.extract import complete
from fslab.lab import Lab
from fslab.lab.words import fitting_beside, sentence_of
from fslab.match import by_evidence
from fslab.records import Extraction, FslabError, Matching, Reading, Segments, Vocabulary

ANIMALS = Vocabulary(("background", "cat", "dog"), synonyms={"cat": ("kitten",)})
WORDS = ("dog", "cat")
PLACE = "down_blocks.1.attentions.0.transformer_blocks.0"


@pytest.fixture(scope="module")
def backbone(diffusion_folders):
    return open_backbone(diffusion_folders["sd1"])


def asked(backbone, words=WORDS, layers=("*attn2.to_q",), draws=1):
    given = Extraction(layers=layers, timesteps=(40,), draws=draws, prompt=sentence_of(words))
    return complete(given, backbone)


def read(backbone, picture, reading, words=WORDS, **how):
    settings = asked(backbone, [*words, *reading.beside], **how)
    (maps,) = word_readings(backbone, [(picture, words, settings, reading)], (64, 64))
    return maps.numpy()


@pytest.mark.parametrize("draws", [1, 2])
def test_the_defaults_read_as_attention_to_words_does(backbone, picture, draws):
    plain = word_attentions(backbone, [(picture, WORDS, asked(backbone, draws=draws))], (64, 64))
    found = read(backbone, picture, Reading(), draws=draws)
    np.testing.assert_allclose(found, plain[0].numpy(), rtol=1e-5)


def test_a_share_of_the_words_is_that_of_all_text_over_their_sum(backbone, picture):
    """Head by head: a head that looks at the start token alone counts as any other."""
    layers, settings = (f"{PLACE}.attn2.to_q",), asked(backbone)
    heads = backbone.layers_by_path()[f"{PLACE}.attn2.to_text"].heads
    paths = [f"{PLACE}.attn2.to_text#{head}" for head in range(heads)]
    ((_, _, seen),) = backbone.passes([(picture, settings)], (64, 64), {40: paths})
    by_head = torch.stack([seen[path][0] for path in paths]).numpy()  # [heads, cells, tokens]
    places = [word_columns(backbone, settings.prompt, word)[0] for word in WORDS]
    shares = by_head[:, :, places] / by_head[:, :, places].sum(2, keepdims=True)
    found = read(backbone, picture, Reading(("cat",), "words"), ("dog",), layers=layers)
    np.testing.assert_allclose(found.reshape(1, -1), shares.mean(0).T[:1], rtol=1e-4)
    both = read(backbone, picture, Reading(over="words"), layers=layers)
    np.testing.assert_allclose(both.sum(0), 1, rtol=1e-5)


def test_heads_weigh_by_what_they_output_for_what_all_output(backbone, picture):
    """Against the layer's own output: the heads' together are what to_out makes of them."""
    attention = backbone.module(f"{PLACE}.attn2")
    given, settings = [], asked(backbone)
    hook = attention.to_out[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    heads = attention.heads
    paths = [f"{PLACE}.attn2.to_text#{head}" for head in range(heads)]
    try:
        everything = dict.fromkeys([40], (*paths, f"{PLACE}.attn2.to_out.0"))
        ((_, _, seen),) = backbone.passes([(picture, settings)], (64, 64), everything)
    finally:
        hook.remove()
    weight = attention.to_out[0].weight.detach()
    parts = given[0][0].detach().reshape(-1, heads, weight.shape[1] // heads)
    outputs = [parts[:, h] @ weight.reshape(len(weight), heads, -1)[:, h].T for h in range(heads)]
    total = torch.stack(outputs).sum(0)
    weights = torch.stack([(one * total).sum(1).clamp(min=0) for one in outputs])
    weights = weights / weights.sum(0)
    assert (weights - 1 / heads).abs().max() > 1e-3  # else the mean would do as well
    by_head = torch.stack([seen[path][0] for path in paths])
    places = [word_columns(backbone, settings.prompt, word)[0] for word in WORDS]
    expected = (by_head * weights[:, :, None]).sum(0)[:, places].T.numpy()
    found = read(backbone, picture, Reading(heads="agreement"), layers=(f"{PLACE}.attn2.to_q",))
    np.testing.assert_allclose(found.reshape(2, -1), expected, rtol=2e-4)


def test_maps_are_multiplied_by_the_self_attention_beside_the_layer(backbone, picture):
    layers = (f"{PLACE}.attn2.to_q",)
    plain = read(backbone, picture, Reading(), layers=layers).reshape(2, -1)
    path = f"{PLACE}.attn1.probs"
    ((_, _, seen),) = backbone.passes([(picture, asked(backbone))], (64, 64), {40: [path]})
    looks = seen[path][0].numpy()
    for times, expected in ((1, plain @ looks.T), (2, plain @ looks.T @ looks.T)):
        found = read(backbone, picture, Reading(spread=times), layers=layers)
        np.testing.assert_allclose(found.reshape(2, -1), expected, rtol=1e-4)


def test_scaled_maps_go_from_0_to_1_and_blurred_ones_vary_less(backbone, picture):
    plain = read(backbone, picture, Reading())
    scaled = read(backbone, picture, Reading(scaled=True))
    assert [(each.min(), each.max()) for each in scaled] == [(0, 1), (0, 1)]
    assert (read(backbone, picture, Reading(blur=1.0)).std((1, 2)) < plain.std((1, 2))).all()


def test_layers_weigh_by_likeness(backbone, picture):
    """Layers of several grids: the weights are none of the mean's, and the shape is the finest's."""
    likeness = read(backbone, picture, Reading(layers="likeness"))
    plain = read(backbone, picture, Reading())
    assert likeness.shape == plain.shape
    assert np.abs(likeness - plain).max() > 1e-7


def test_what_a_reading_needs_is_asked_for_in_a_sentence(backbone, picture):
    with pytest.raises(FslabError, match=r"'dog' is the prompt's only word.*words beside"):
        read(backbone, picture, Reading(over="words"), words=("dog",))
    path = f"{PLACE}.attn2.to_text"
    layer = backbone.layers_by_path()[path]
    with pytest.raises(FslabError, match=r"no self-attention beside it.*spread at 0"):
        self_attention_beside(layer, {path: layer})
    for wrong, said in {
        "blur": {"blur": -1.0}, "spread": {"spread": -1}, "over": {"over": "all"},
        "beside": {"beside": (" ",)},
    }.items():  # fmt: skip
        with pytest.raises(FslabError, match=wrong):
            Reading(**said)
    with pytest.raises(FslabError, match="'attention', 'concepts' or a Reading"):
        Lab("mini").attention(picture, ["dog"], reading="goca")
    with pytest.raises(FslabError, match="reads no text"):
        Lab("mini", "rgb").attention(picture, ["dog"], reading=Reading(spread=1))


def test_heads_of_joint_attention_are_refused_and_the_rest_is_read(tmp_path, picture):
    import transformers_tiny

    network = open_backbone(transformers_tiny.save(tmp_path / "sd3", "sd3"))
    joint = ("*to_text",)
    with pytest.raises(FslabError, match=r"text and picture together.*heads='mean'"):
        read(network, picture, Reading(heads="agreement"), layers=joint)
    reading = Reading((), "words", "mean", "likeness", 1.0, True, 2)
    found = read(network, picture, reading, layers=joint)
    assert (len(found), found.min() >= 0, found.max() <= 1) == (2, True, True)


def test_heads_that_read_projected_text_are_refused(tmp_path, picture):
    import transformers_tiny

    network = open_backbone(transformers_tiny.save(tmp_path / "pixart", "pixart-alpha"))
    layers = ("*attn2.to_q",)
    with pytest.raises(FslabError, match=r"projected before.*heads='mean'"):
        read(network, picture, Reading(heads="agreement"), layers=layers)
    found = read(network, picture, Reading((), "words", layers="likeness", spread=1), layers=layers)
    assert len(found) == 2


def test_words_beside_join_the_prompt_as_it_has_room(tiny, picture):
    lab = Lab(tiny)
    beside = ("cat", "grass")  # of which the text encoder has room for one
    assert fitting_beside(["dog"], beside, lab.backbone) == ("cat",)
    assert fitting_beside(["dog", "cat"], ("cat",), lab.backbone) == ()
    how = {"timesteps": 40, "reading": Reading(beside, "words", "agreement", blur=1.0)}
    found = lab.attention(picture, ["dog"], **how)
    assert list(found) == ["dog"]
    assert (found["dog"] == lab.attention(picture, ["dog"], **how)["dog"]).all()
    other = lab.attention(picture, ["dog"], timesteps=40, reading=Reading(("cat",), "words"))
    assert not np.allclose(found["dog"], other["dog"])


def test_evidence_names_pixels_by_itself():
    left = np.array([[1, 0], [1, 0]], np.float32)
    found = by_evidence({"kitten": left, "dog": left[:, ::-1] / 2}, ANIMALS, ["cat", "dog"], (4, 4))
    assert found.labels[:, :1].tolist() == [[1]] * 4
    assert found.labels[:, 3:].tolist() == [[2]] * 4  # each map is scaled to a peak of 1
    assert sum(found.beliefs.values()) == pytest.approx(np.ones((4, 4)))
    ground = by_evidence({"cat": left, "sky": left[:, ::-1]}, ANIMALS, ["cat"], (4, 4))
    assert ground.labels[:, 3:].tolist() == [[0]] * 4
    with pytest.raises(FslabError, match="no evidence for the candidates dog"):
        by_evidence({"cat": left}, ANIMALS, ["cat", "dog"], (4, 4))


EVIDENCE = {
    "match.assignment": "evidence", "match.background": ("grass",), "match.attention_timestep": 40,
    "match.attention_background": True, "match.attention_over": "words",
    "match.attention_heads": "agreement", "match.attention_weights": "likeness",
    "match.attention_blur": 1.0, "match.attention_scaled": True, "match.attention_spread": 2,
    "refine.method": "none",
}  # fmt: skip


def test_a_method_by_evidence_asks_no_clip_and_goes_in_batches(tiny, monkeypatch):
    lab = Lab(tiny)
    recipe = lab.recipe("freeseg-diff").change(EVIDENCE)
    pictures = [noise_picture(64, 64, seed=seed) for seed in range(3)]
    alone = [lab.segment(each, recipe, candidates=WORDS) for each in pictures]
    assert alone[0].named.beliefs.keys() == {0, 8, 12}
    monkeypatch.setattr("fslab.match.naming.score_segments", None)
    together = Lab(tiny).segment_many(pictures, recipe, candidates=WORDS, batch=3)
    for one, other in zip(alone, together, strict=True):
        for kind, belief in one.named.beliefs.items():
            np.testing.assert_allclose(belief, other.named.beliefs[kind], atol=1e-4)


def test_evidence_is_refused_where_no_text_is_read(picture):
    lab = fslab.Lab("mini", "rgb")
    with pytest.raises(FslabError, match="reads no text"):
        lab.segment(picture, lab.recipe().change(EVIDENCE), candidates=["dog"])
    given = picture, Segments(np.zeros(picture.size, int)), ANIMALS, ["dog"]
    with pytest.raises(FslabError, match="'evidence', and there is none"):
        fslab.match.match(*given, Matching(assignment="evidence"), None)


# --- words in a prompt of their own, and grids that weigh


def test_a_prompt_of_the_words_own_is_the_pass_s_where_both_are_one(backbone, picture):
    said = sentence_of(WORDS)
    found = read(backbone, picture, Reading(over="words", heads="agreement", said=said))
    same = read(backbone, picture, Reading(over="words", heads="agreement"))
    np.testing.assert_allclose(found, same, rtol=1e-3, atol=1e-5)


def test_cells_of_another_pass_meet_the_keys_of_the_words_prompt(backbone, picture):
    place, said = "up_blocks.0.attentions.0.transformer_blocks.0.attn2", sentence_of(WORDS)
    layers = (f"{place}.to_q",)  # not the first, whose queries know no text yet
    settings = replace(asked(backbone, layers=layers), prompt="grass")
    given = [(picture, WORDS, settings, Reading(said=said))]
    (found,) = word_readings(backbone, given, (64, 64))
    queries = backbone.run(picture, (64, 64), {40: layers}, settings)[layers[0], 40]
    attention = backbone.module(place)
    with torch.no_grad():
        keys = attention.to_k(backbone.text_states(said))[0]
    by_head = zip(queries.chunk(attention.heads), keys.chunk(attention.heads, -1), strict=True)
    answers = [torch.softmax(key @ query.flatten(1) * attention.scale, 0) for query, key in by_head]
    places = [word_columns(backbone, said, word)[0] for word in WORDS]
    wanted = torch.stack(answers).mean(0)[places].reshape(found.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    unsaid = read(backbone, picture, Reading(), layers=layers)
    assert np.abs(unsaid - found.numpy()).max() > 1e-7


def test_layers_of_a_grid_share_its_weight():
    grids = [(4, 6), (2, 3), (4, 6), (8, 12)]
    assert shares_of_grids(grids, (1.0, 2.0, 5.0, 9.0)) == [1 / 8, 1 / 8, 1 / 8, 5 / 8]
    assert shares_of_grids(grids[:3], (1.0, 2.0, 5.0)) == [1 / 3, 1 / 3, 1 / 3]
    with pytest.raises(FslabError, match="grids has 2 weights, and the layers have 3 grids, of 6,"):
        shares_of_grids(grids, (1.0, 1.0))
    with pytest.raises(FslabError, match="leaves nothing of the layers' 1 grids"):
        shares_of_grids(grids[1:2], (0.0, 1.0))


def test_grids_spread_as_the_sum_of_their_matrices_does():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 2, 4, generator=generator)
    fine, coarse = (torch.rand(n, n, generator=generator) for n in (8, 2))
    own = fine / fine.sum(1, keepdim=True)
    found = spread_over_grids(maps, [(fine, (2, 4))], [1.0], 2)
    np.testing.assert_allclose(found.flatten(1), maps.flatten(1) @ (own @ own).T, rtol=1e-5)
    both = spread_over_grids(maps, [(fine, (2, 4)), (coarse, (1, 2))], [0.25, 0.75], 1)
    small = torch.stack([maps[:, :, :2].mean((1, 2)), maps[:, :, 2:].mean((1, 2))], 1)
    moved = small @ (coarse / coarse.sum(1, keepdim=True)).T
    across = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])  # bilinear, 2 to 4 cells
    wide = (moved @ across.T)[:, None].expand(2, 2, 4)
    mean = 0.25 * (maps.flatten(1) @ own.T).reshape(2, 2, 4) + 0.75 * wide
    np.testing.assert_allclose(both, mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grids": (0.0, -1.0)}, r"reading\.grids is \[0\.0, -1\.0\]"),
        ({"grids": (1.0,), "layers": "likeness"}, "both say what layers weigh"),
        ({"spread_grids": (1.0,)}, "spread 0, which spreads nothing"),
    ],
)
def test_weights_of_grids_that_say_nothing_are_refused(settings, message):
    with pytest.raises(FslabError, match=message):
        Reading(**settings)


def test_a_prompt_of_the_words_own_is_of_whole_layers(backbone, picture):
    said = Reading(said=sentence_of(WORDS))
    with pytest.raises(FslabError, match="is one head, and a prompt of the words' own"):
        read(backbone, picture, said, layers=(f"{PLACE}.attn2.to_q#0",))
