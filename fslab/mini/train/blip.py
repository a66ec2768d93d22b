"""BLIP: captions scenes, its vision tower started from CLIP's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, CLIPModel

from fslab.datasets import VOC_CLASSES
from fslab.mini.captions import plain_caption
from fslab.mini.grounds import GROUND_NAMES
from fslab.mini.train import augment
from fslab.mini.train.clip import GROUND_WEIGHT, IMAGE, NOUNS, PATCH, VISION_TOWER, WIDTH, rate
from fslab.mini.train.loop import Training
from fslab.mini.train.optim import make_optimizers, set_rate
from fslab.mini.train.pools import SEED, Pool
from fslab.mini.train.tokens import LENGTH, make_bert_tokenizer

SIDE = 96
"""Of the pictures it reads, pixels: at CLIP's 64 the small things of a scene are lost."""
STAGES = ((0.3, 48, 128), (0.6, 64, 96), (1.0, SIDE, 64))
"""Until which share of the time, at which side in pixels, in which batches."""
FROZEN = 0.06
"""Share of the time in which the vision tower stays as CLIP left it."""
WARP, RECOLOUR = 0.6, 0.6
GROUND_SHARE = 0.3
NOUN_WEIGHT = 0.5


def make_blip(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    """Return the untrained model: vision as CLIP's, text 128 x 3."""
    config = BlipConfig(
        vision_config={**VISION_TOWER, "image_size": SIDE, "hidden_act": "gelu"},
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "encoder_hidden_size": WIDTH,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        projection_dim=128,
    )
    return BlipForConditionalGeneration(config)


@torch.no_grad()
def start_from_clip(blip: BlipForConditionalGeneration, clip: CLIPModel, pictures: Tensor) -> None:
    """Copy CLIP's vision tower into BLIP's, which has no layer norm before its first layer.

    That norm is folded into the patch and position weights with its mean scale over `pictures`
    (normalised, [B, 3, 64, 64]); only its dependence on the single token is lost. Places are
    interpolated to BLIP's finer grid.
    """
    source, target = clip.vision_model, blip.vision_model
    norm = source.pre_layrnorm
    spread = source.embeddings(pictures)[:, 1:].std(-1, unbiased=False).mean()
    gain = norm.weight / spread
    kernel = source.embeddings.patch_embedding.weight
    centred = kernel - kernel.mean(0, keepdim=True)
    target.embeddings.patch_embedding.weight.copy_(centred * gain[:, None, None, None])
    target.embeddings.patch_embedding.bias.copy_(norm.bias)
    places = source.embeddings.position_embedding.weight
    spread_out = _spread_out((places[1:] - places[1:].mean(-1, keepdim=True)) * gain)
    target.embeddings.position_embedding[0, 1:].copy_(spread_out)
    target.embeddings.position_embedding[0, :1].zero_()
    first = source.embeddings.class_embedding + places[0]
    target.embeddings.class_embedding.copy_(norm(first)[None, None])
    for own, other in zip(target.encoder.layers, source.encoder.layers, strict=True):
        attention = other.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        own.self_attn.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        own.self_attn.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        own.self_attn.projection.load_state_dict(attention.out_proj.state_dict())
        for name in ("layer_norm1", "layer_norm2", "mlp"):
            getattr(own, name).load_state_dict(getattr(other, name).state_dict())
    target.post_layernorm.load_state_dict(source.post_layernorm.state_dict())


def _spread_out(places: Tensor) -> Tensor:
    """Interpolate CLIP's places, f32 [cells, D], to the cells of BLIP's side."""
    grid = places.T.reshape(1, WIDTH, IMAGE // PATCH, IMAGE // PATCH)
    cells = SIDE // PATCH
    return F.interpolate(grid, (cells, cells), mode="bicubic").reshape(WIDTH, -1).T


class Captioner(nn.Module):
    """BLIP and, for training only, a head that names what is there from the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = make_bert_tokenizer()
        self.blip = make_blip(self.tokenizer)
        self.nouns = nn.Linear(WIDTH, len(NOUNS))

    def forward(
        self, pictures: Tensor, captions: list[str], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of the captions' words and of the nouns; pictures in 0..1."""
        tokens = self.tokenizer(captions, padding=True, return_tensors="pt")
        words = tokens.input_ids.clone()
        words[:, 0] = self.tokenizer.bos_token_id
        targets = words.masked_fill(tokens.attention_mask == 0, -100)
        with torch.autocast("cpu", torch.bfloat16):
            seen = self.blip.vision_model(
                augment.normalise(pictures), interpolate_pos_encoding=pictures.shape[-1] != SIDE
            )
            told = self.blip.text_decoder(
                input_ids=words,
                attention_mask=tokens.attention_mask,
                encoder_hidden_states=seen.last_hidden_state,
                labels=targets,
            )
        guess = self.nouns(seen.pooler_output.float())
        return told.loss.float(), F.binary_cross_entropy_with_logits(guess, labels) * 10


def train_blip(
    out: Path, scenes: Pool, singles: Pool, clip: CLIPModel, seconds: float
) -> Captioner:
    """Train for so many seconds in all; resumes from `out`."""
    torch.manual_seed(SEED)
    net = Captioner()
    optimizers = make_optimizers(net, 2e-3, 1e-3, 0.03)
    run = Training(out, {"net": net}, optimizers, seconds)
    if run.is_new:
        start_from_clip(net.blip, clip, augment.normalise(_pictures(scenes["pixels"][:256], 64)))
    for step, share in run.steps():
        set_rate(optimizers, rate(step, share))
        net.blip.vision_model.requires_grad_(share > FROZEN)
        batch = _batch(np.random.default_rng([SEED, 6, step]), scenes, singles, share)
        words, nouns = net(*batch)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        (words + NOUN_WEIGHT * nouns).backward()
        for optimizer in optimizers:
            optimizer.step()
        run.count(len(batch[0]), words=words.item(), nouns=nouns.item())
    run.finish()
    return net.eval()


def _pictures(pixels: np.ndarray, side: int) -> Tensor:
    """Turn u8 [B, H, W, 3] into f32 [B, 3, side, side] in 0..1."""
    batch = augment.as_batch(pixels)
    return F.interpolate(batch, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def _batch(
    rng: np.random.Generator, scenes: Pool, singles: Pool, share: float
) -> tuple[Tensor, list[str], Tensor]:
    side, size = next((side, size) for until, side, size in STAGES if share <= until)
    alone = round(0.15 * size) if share < 0.4 else 0
    drawn = max(side, IMAGE)
    torch_rng = Generator().manual_seed(int(rng.integers(2**62)))
    chosen = np.sort(rng.integers(0, len(scenes["pixels"]), size - alone))
    pictures, labels, captions = [_pictures(scenes["pixels"][chosen], drawn)], [], []
    for index in chosen:
        objects = [VOC_CLASSES[one] for one in scenes["objects"][index] if one]
        grounds = [GROUND_NAMES[one - 1] for one in scenes["grounds"][index] if one]
        told = grounds[int(rng.integers(len(grounds)))] if rng.random() < GROUND_SHARE else ""
        captions.append(plain_caption(objects, told))
        labels.append(
            [float(noun in objects) + GROUND_WEIGHT * (noun in grounds) for noun in NOUNS]
        )
    if alone:
        chosen = np.sort(rng.integers(0, len(singles["pixels"]), alone))
        pictures.append(_pictures(singles["pixels"][chosen][..., :3], drawn))
        for one in singles["classes"][chosen]:
            captions.append(plain_caption([VOC_CLASSES[one]]))
            labels.append([float(noun == VOC_CLASSES[one]) for noun in NOUNS])
    batch = augment.warp(torch.cat(pictures), side, torch_rng, WARP)
    batch = augment.erase(augment.recolour(batch, torch_rng, RECOLOUR), torch_rng, 0.1)
    return batch, captions, torch.tensor(labels)
