"""Training of the bundled models: its parts, and that a stopped run goes on where it was."""

import numpy as np
import pytest
import torch
from torch import nn

from fslab.datasets import VOC_CLASSES
from fslab.mini.captions import PROMPTS, caption, captions_words, plain_caption
from fslab.mini.train.__main__ import MINUTES, train_all
from fslab.mini.train.augment import holes, region_views, stylise, warp
from fslab.mini.train.checkpoint import load_checkpoint, save_checkpoint
from fslab.mini.train.clip import NOUNS, choose_singles, noun_prompts
from fslab.mini.train.optim import Muon, make_optimizers, orthogonalise
from fslab.mini.train.pools import scene_pool, single_pool
from fslab.mini.train.tokens import make_bert_tokenizer, make_clip_tokenizer
from fslab.mini.train.unet import LatentSet


def test_every_caption_word_is_one_clip_token():
    tokenizer = make_clip_tokenizer()
    for word in captions_words():
        assert len(tokenizer(word).input_ids) == 3, word
    assert tokenizer.eos_token_id == max(tokenizer.get_vocab().values())


def test_bert_tokenizer_has_blips_marks():
    tokenizer = make_bert_tokenizer()
    assert tokenizer.bos_token == "[DEC]"
    ids = tokenizer("a photo of an airplane and a table on grass").input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).startswith("a photo of an airplane")


def test_captions_name_their_objects():
    rng = np.random.default_rng(0)
    text = caption(rng, ["dog", "sheep"], ["grass"], ("left", ""), ground_share=1)
    assert any(word in text for word in ("dog", "puppy"))
    assert plain_caption(["aeroplane", "bus"], "sea") == (
        "a photo of an airplane and a bus on the sea"
    )
    assert len(noun_prompts(rng)) == len(NOUNS) == 30
    assert all("{}" in prompt for prompt in PROMPTS)


def test_muon_steps_are_nearly_orthogonal():
    matrix = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_takes_matrices_and_adamw_the_rest():
    net = nn.Sequential(nn.Conv2d(12, 16, 3), nn.LayerNorm(16), nn.Linear(16, 16))
    muon, adam = make_optimizers(net, 1e-3, 1e-3, 0.0)
    assert isinstance(muon, Muon)
    assert all(one.ndim >= 2 for group in muon.param_groups for one in group["params"])
    assert all(one.ndim < 2 for group in adam.param_groups for one in group["params"])


def _step(net, optimizers, step):
    inputs = torch.randn(4, 16, generator=torch.Generator().manual_seed(step))
    for optimizer in optimizers:
        optimizer.zero_grad()
    net(inputs).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()


def test_a_resumed_run_takes_the_same_steps(tmp_path):
    def fresh():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16))
        return net, make_optimizers(net, 1e-2, 1e-2, 0.01)

    whole, optimizers = fresh()
    for step in range(6):
        _step(whole, optimizers, step)
    first, optimizers = fresh()
    for step in range(3):
        _step(first, optimizers, step)
    save_checkpoint(tmp_path / "run", {"net": first}, optimizers, {"step": 3})
    second, optimizers = fresh()
    progress = load_checkpoint(tmp_path / "run", {"net": second}, optimizers)
    for step in range(progress["step"], 6):
        _step(second, optimizers, step)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_no_checkpoint_means_no_progress(tmp_path):
    assert load_checkpoint(tmp_path / "none", {}, []) == {}


def test_region_views_keep_what_is_inside():
    rng = torch.Generator().manual_seed(0)
    picture = torch.full((6, 3, 32, 32), 0.8)
    inside = torch.zeros(6, 1, 32, 32)
    inside[..., 4:28, 4:28] = 1
    shown = region_views(picture, inside, rng, share=1.0)
    assert shown.shape == picture.shape
    assert (shown[..., 14:18, 14:18] == 0.8).float().mean() > 0.8
    assert warp(picture, 24, rng).shape == (6, 3, 24, 24)


def test_region_views_follow_the_shape_in_some():
    rng = torch.Generator().manual_seed(0)
    picture = torch.full((64, 3, 32, 32), 0.8)
    inside = torch.zeros(64, 1, 32, 32)
    inside[..., 8:24, 8:24] = 1
    kept = (region_views(picture, inside, rng, share=1.0) - 0.8).abs().amax(1) < 1e-6
    follows = (kept == (inside[:, 0] > 0)).flatten(1).all(1)
    assert 10 <= int(follows.sum()) <= 30  # fills of the very mean show no cut at all


def test_holes_have_others_shapes_and_leave_half():
    rng = torch.Generator().manual_seed(0)
    inside = torch.zeros(64, 1, 32, 32)
    inside[..., 6:26, 10:22] = 1
    left = holes(inside, rng, share=1.0)
    areas = left.mean((1, 2, 3)) / inside.mean((1, 2, 3))
    assert ((left == 0) | (inside == 1)).all()
    assert (areas > 0.5).all()
    assert (areas < 1).sum() > 10
    assert torch.equal(holes(inside, rng, share=0.0), inside)


def test_stylise_redraws_some_and_stays_a_picture():
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(64, 3, 16, 16, generator=rng)
    drawn = stylise(picture, rng, share=0.3)
    same = (drawn == picture).flatten(1).all(1)
    assert drawn.shape == picture.shape
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert 10 < int(same.sum()) < 40  # 0.7 cubed of 64 are 22
    assert torch.equal(stylise(picture, rng, share=0.0), picture)


def test_animals_are_shown_to_clip_more_often(tmp_path):
    pool = single_pool(tmp_path / "singles", 40)
    rows = choose_singles(np.random.default_rng(0), 40, 2000)
    assert rows.min() >= 0
    assert rows.max() < 40
    seen = np.bincount(pool["classes"][rows], minlength=21)[1:]
    names = dict(zip(VOC_CLASSES[1:], seen, strict=True))
    assert names["bird"] > 2 * names["boat"] > 0
    assert min(seen) > 0


def test_pools_are_drawn_once_and_hold_no_mask(tmp_path):
    pool = scene_pool(tmp_path / "scenes", 4)
    assert set(pool) == {"pixels", "objects", "sides", "grounds"}
    assert pool["pixels"].shape == (4, 96, 96, 3)
    stamp = (tmp_path / "scenes" / "pixels.npy").stat().st_mtime_ns
    scene_pool(tmp_path / "scenes", 4)
    assert (tmp_path / "scenes" / "pixels.npy").stat().st_mtime_ns == stamp


def test_some_captions_are_left_empty(tmp_path):
    pool = scene_pool(tmp_path / "scenes", 3)
    latents = np.zeros((3, 4, 24, 24), dtype=np.float16)
    captions = LatentSet(latents, latents, pool).batch(np.random.default_rng(0))[1]
    captions += LatentSet(latents, latents, pool).batch(np.random.default_rng(1))[1]
    assert 0 < sum(text == "" for text in captions) < len(captions) / 2


@pytest.mark.slow
def test_everything_trains_from_nothing_and_goes_on(tmp_path):
    seconds = dict.fromkeys(MINUTES, 4.0)
    train_all(tmp_path, seconds, share=0.003)
    train_all(tmp_path, dict.fromkeys(MINUTES, 6.0), share=0.003)
    lines = (tmp_path / "weights" / "stable-diffusion" / "model_index.json").read_text()
    assert "StableDiffusionPipeline" in lines
    for name in ("clip", "blip"):
        assert (tmp_path / "weights" / name / "model.safetensors").is_file()
