"""Which settings of a Stable Diffusion folder are understood; any other is refused by its name.

The libraries ignore what they do not know, and call a UNet without the inputs that it was trained
with, so a wrong number would look like a right one. A list of what is understood cannot forget.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from fslab.records import FslabError
from fslab.weights.trust import read_config

BOOKKEEPING = frozenset(
    ("_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values")
)
"""What diffusers notes of a configuration's origin."""

AVERAGING = frozenset(
    ("decay", "foreach", "inv_gamma", "min_decay", "optimization_step", "power",
     "update_after_step", "use_ema_warmup")
)  # fmt: skip
"""What diffusers' EMAModel leaves in the configuration of a UNet with averaged weights."""

UNET_KEYS = frozenset(
    ("act_fn", "addition_embed_type", "addition_embed_type_num_heads", "addition_time_embed_dim",
     "attention_head_dim", "attention_type", "block_out_channels", "center_input_sample",
     "class_embed_type", "class_embeddings_concat", "conv_in_kernel", "conv_out_kernel",
     "cross_attention_dim", "cross_attention_norm", "down_block_types", "downsample_padding",
     "dropout", "dual_cross_attention", "encoder_hid_dim", "encoder_hid_dim_type",
     "flip_sin_to_cos", "freq_shift", "in_channels", "layers_per_block",
     "mid_block_only_cross_attention", "mid_block_scale_factor", "mid_block_type", "norm_eps",
     "norm_num_groups", "num_attention_heads", "num_class_embeds", "only_cross_attention",
     "out_channels", "projection_class_embeddings_input_dim", "resnet_out_scale_factor",
     "resnet_skip_time_act", "resnet_time_scale_shift", "reverse_transformer_layers_per_block",
     "sample_size", "time_cond_proj_dim", "time_embedding_act_fn", "time_embedding_dim",
     "time_embedding_type", "timestep_post_act", "transformer_layers_per_block",
     "up_block_types", "upcast_attention", "use_linear_projection")
)  # fmt: skip
"""Settings that diffusers' UNet2DConditionModel builds its network from."""

VAE_KEYS = frozenset(
    ("act_fn", "block_out_channels", "down_block_types", "force_upcast", "in_channels",
     "latent_channels", "latents_mean", "latents_std", "layers_per_block",
     "mid_block_add_attention", "norm_num_groups", "out_channels", "sample_size",
     "scaling_factor", "shift_factor", "up_block_types", "use_post_quant_conv",
     "use_quant_conv")
)  # fmt: skip
"""Settings that diffusers' AutoencoderKL builds its network from, and of its latents' scale."""

TINY_KEYS = frozenset(
    ("act_fn", "block_out_channels", "decoder_block_out_channels", "encoder_block_out_channels",
     "force_upcast", "in_channels", "latent_channels", "latent_magnitude", "latent_shift",
     "num_decoder_blocks", "num_encoder_blocks", "out_channels", "scaling_factor", "shift_factor",
     "upsample_fn", "upsampling_scaling_factor")
)  # fmt: skip
"""Settings that diffusers' AutoencoderTiny builds its network from, and of its latents' scale."""

UNET_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    "class_embed_type": ((None,), "a class, or another picture's embedding, beside the text"),
    "num_class_embeds": ((None,), "a class or a noise level beside the text, as upscalers do"),
    "addition_embed_type": ((None, "text_time"), "an added condition that is not SDXL's"),
    "encoder_hid_dim_type": ((None,), "another condition than CLIP's text states"),
    "encoder_hid_dim": ((None,), "another condition than CLIP's text states"),
    "time_cond_proj_dim": ((None,), "a guidance scale beside the timestep, as LCMs do"),
    "attention_type": (("default",), "boxes or words in places beside the text, as GLIGEN does"),
}
"""A UNet's setting -> values with which a pass needs the picture, a timestep and a prompt alone,
and what it expects otherwise. Every other setting of the class is part of the network it builds."""

VAE_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    "in_channels": ((3,), "other pictures than RGB"),
}

PIPELINE_PARTS = frozenset(
    ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
     "safety_checker", "feature_extractor", "image_encoder")
)  # fmt: skip
"""Parts of a model_index.json that a pass has, or that a picture's features do not depend on."""

PIPELINE_VALUES: dict[str, tuple[Any, ...]] = {
    "requires_safety_checker": (None, False, True),
    "force_zeros_for_empty_prompt": (
        None,
        False,
        True,
    ),  # of the prompt that guidance goes away from
    "requires_aesthetics_score": (None, False),
    "is_distilled": (None, False, True),  # FLUX.2 klein: whether a picture is drawn by guidance
    "add_watermarker": (None, False, True),
}


def check_unet(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a UNet that is not UNet2DConditionModel, or expects more than a pass gives it."""
    _check(folder, config, "UNet2DConditionModel", UNET_KEYS | AVERAGING, UNET_VALUES)


def check_vae(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a VAE that is not AutoencoderKL, or has latents that cannot be brought to scale."""
    _check(folder, config, "AutoencoderKL", VAE_KEYS, VAE_VALUES)
    _check_scale(folder, config)


def tiny_config(folder: Path, factor: int, channels: int) -> dict[str, Any]:
    """Return the configuration of a diffusers' AutoencoderTiny, with what it leaves out filled in.

    Its latents are on the UNet's scale as they are, unless it has a scaling_factor, and it has no
    posterior. factor: pixels of a latent's side; channels: of the latent that the UNet takes.
    Raises FslabError for another kind of autoencoder, and for one of other latents.
    """
    config = read_config(folder)
    if config.get("_class_name") != "AutoencoderTiny":
        raise FslabError(
            f"{folder}/config.json is of {config.get('_class_name') or 'no class of diffusers'}; "
            "an encoder is diffusers' AutoencoderTiny"
        )
    _check(folder, config, "AutoencoderTiny", TINY_KEYS, VAE_VALUES)
    left_out = {"scaling_factor": 1.0, "latent_channels": 4, "force_upcast": False}
    config = {**left_out, **{key: value for key, value in config.items() if value is not None}}
    _check_scale(folder, config)
    blocks = config.get("encoder_block_out_channels", (64,) * 4)
    if not isinstance(blocks, (list, tuple)):
        raise FslabError(
            f"{folder}/config.json has the encoder_block_out_channels {blocks!r}; it must be a list"
        )
    given = {"channels": config["latent_channels"], "pixels a cell": 2 ** (len(blocks) - 1)}
    wanted = {"channels": channels, "pixels a cell": factor}
    for what, value in given.items():
        if value != wanted[what]:
            raise FslabError(
                f"latents of {folder} have {value} {what}, and those that this UNet was trained "
                f"on {wanted[what]}; give the tiny autoencoder of this kind of model"
            )
    return config


def _check_scale(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse settings by which latents cannot be brought to scale."""
    channels = config.get("latent_channels", 4)
    for name in ("scaling_factor", "shift_factor"):
        value = config.get(name, 1)
        if not _is_number(value) and not (name == "shift_factor" and value is None):
            raise FslabError(f"{folder}/config.json has the {name} {value!r}; it must be a number")
        if name == "scaling_factor" and value <= 0:
            raise FslabError(f"{folder}/config.json has the {name} {value!r}; it must be above 0")
    given = [name for name in ("latents_mean", "latents_std") if config.get(name) is not None]
    for name in given:
        values = config[name]
        if (
            not isinstance(values, list)
            or len(values) != channels
            or not all(map(_is_number, values))
        ):
            raise FslabError(
                f"{folder}/config.json has the {name} {values!r}; it must be a list of {channels} "
                "numbers, one for each latent channel"
            )
    if "latents_std" in given and min(config["latents_std"]) <= 0:
        raise FslabError(
            f"{folder}/config.json has the latents_std {config['latents_std']!r}; each number "
            "must be above 0"
        )
    if len(given) == 1:
        raise FslabError(
            f"{folder}/config.json has {given[0]} alone; latents are scaled by latents_mean and "
            "latents_std together"
        )
    if given and config.get("shift_factor"):
        raise FslabError(
            f"{folder}/config.json has latents_mean and shift_factor; fslab knows no model that "
            "is scaled by both"
        )


def check_pipeline(folder: Path, index: Mapping[str, Any], parts: Collection[str] = ()) -> None:
    """Refuse a model_index.json with a part, or a setting, that a pass would leave out.

    parts: that a pass has, besides those of a Stable Diffusion.
    """
    for name, value in index.items():
        if isinstance(value, list) and name not in (*PIPELINE_PARTS, *parts) and any(value):
            raise FslabError(
                f"{folder}/model_index.json has the part {name!r}, which fslab does not read, so "
                "features would not be this model's; give a Stable Diffusion without it"
            )
        if isinstance(value, list) or name in BOOKKEEPING:
            continue
        if value is not None and value not in PIPELINE_VALUES.get(name, ()):
            more = ": it is an SDXL refiner" if name == "requires_aesthetics_score" else ""
            raise FslabError(
                f"{folder}/model_index.json has {name} = {value!r}, which fslab does not "
                f"understand{more}; give a Stable Diffusion of the usual types (1.x, 2.x, SDXL)"
            )


def check_text(folder: Path, unet: Mapping[str, Any]) -> None:
    """Refuse text encoders that are not those whose states the UNet reads; configurations are read.

    Stable Diffusion 1.x and 2.x read one CLIP text encoder; SDXL reads two side by side, and the
    second one's pooled text with six numbers of the picture's size.
    """
    sdxl = unet.get("addition_embed_type") == "text_time"
    parts = ("text_encoder", "text_encoder_2") if sdxl else ("text_encoder",)
    lacking = [part for part in parts if not (folder / part).is_dir()]
    if lacking:
        only_second = lacking == ["text_encoder"] and sdxl and (folder / "text_encoder_2").is_dir()
        refiner = ": it is an SDXL refiner, whose passes need an aesthetic score" * only_second
        raise FslabError(
            f"{folder} holds no {' and no '.join(lacking)}, whose states its UNet reads{refiner}; "
            "give a Stable Diffusion with its text encoders"
        )
    if not sdxl and (folder / "text_encoder_2").is_dir():
        raise FslabError(f"{folder} holds a text_encoder_2, which its UNet does not read")
    width = sum(text_number(folder / part, "hidden_size") for part in parts)
    if width != unet["cross_attention_dim"]:
        raise FslabError(
            f"the UNet of {folder} reads text states of {unet['cross_attention_dim']} channels "
            f"and its text encoder{'s give' if sdxl else ' gives'} {width}"
        )
    if sdxl:
        _check_added(folder, unet, text_number(folder / parts[-1], "projection_dim"))


def text_config(
    folder: Path, types: Sequence[str] = ("clip_text_model", "clip")
) -> Mapping[str, Any]:
    """Return a text encoder's configuration, also out of a whole model's.

    types: the first is what a configuration that does not say is taken to be.

    Raises FslabError for another family, and for quantised weights.
    """
    config = read_config(folder)
    kind = config.get("model_type", types[0])
    if kind not in types:
        read = "CLIP's text encoders" if "clip" in types else " or ".join(map(repr, types))
        raise FslabError(f"{folder} holds a {kind!r} model; fslab reads {read} there")
    if config.get("quantization_config"):
        raise FslabError(f"{folder} holds quantised weights; give them in fp32, fp16 or bf16")
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


TEXT_NUMBERS = {
    "hidden_size": 512, "projection_dim": 512, "vocab_size": 49408, "max_position_embeddings": 77,
}  # fmt: skip
"""Numbers of a CLIP text encoder's configuration, as transformers takes them to be if left out."""


def text_number(folder: Path, name: str, config: Mapping[str, Any] | None = None) -> int:
    """Return a number of a text encoder's configuration; FslabError where it is not a count."""
    value = (text_config(folder) if config is None else config).get(name, TEXT_NUMBERS[name])
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FslabError(
            f"{folder}/config.json has the {name} {value!r}; it must be a whole number from 1 up"
        )
    return value


def _check_added(folder: Path, unet: Mapping[str, Any], pooled: int) -> None:
    names = ("projection_class_embeddings_input_dim", "addition_time_embed_dim")
    width, each = (unet.get(name) for name in names)
    if not isinstance(width, int) or not isinstance(each, int):
        raise FslabError(
            f"{folder}/unet/config.json has the {names[0]} {width!r} and the "
            f"{names[1]} {each!r}; both must be whole numbers"
        )
    if width != pooled + 6 * each:
        refiner = ": it is an SDXL refiner's" if width == pooled + 5 * each else ""
        raise FslabError(
            f"the UNet of {folder} reads {width} numbers of added conditions, and SDXL's pooled "
            f"text and sizes are {pooled} + 6 x {each}{refiner}"
        )


def class_named(kind: str | type) -> Any:
    """Return a class of diffusers or of transformers by its name, or one of somebody's own.

    Raises FslabError for a name that neither has.
    """
    import diffusers
    import transformers

    if not isinstance(kind, str):
        return kind
    found = getattr(diffusers, kind, None) or getattr(transformers, kind, None)
    if found is None:
        raise FslabError(
            f"neither diffusers nor transformers, as they are installed, has a class {kind!r}; a "
            "family of your own gives its class itself, as network_class, vae or an Encoder's kind"
        )
    return found


def check_class(folder: Path, config: Mapping[str, Any], kind: str | type) -> None:
    """Refuse a part of another class, or with a setting that the class does not have.

    kind: the class, or its name in diffusers. Raises FslabError, also for a VAE whose latents
    cannot be brought to scale.
    """
    known = inspect.signature(class_named(kind).__init__).parameters
    name = kind if isinstance(kind, str) else kind.__name__
    values = VAE_VALUES if name.startswith("Autoencoder") else {}
    _check(folder, config, kind, known, values)
    if name in ("AutoencoderKL", "AutoencoderDC"):
        _check_scale(folder, config)


def unknown_setting(kind: str | type, key: str, value: Any) -> bool:
    """Return whether a setting that is in no list may change a number.

    kind: the class, or its name in diffusers. A newer diffusers writes settings that this list
    cannot know; one that stands at its class's default is as good as not there.
    """
    if value is None:
        return False
    known = inspect.signature(class_named(kind).__init__).parameters
    default = known[key].default if key in known else None
    return bool(value != (list(default) if isinstance(default, tuple) else default))


def _check(
    folder: Path,
    config: Mapping[str, Any],
    kind: str | type,
    known: Collection[str],
    values: Mapping[str, tuple[tuple[Any, ...], str]],
) -> None:
    wanted = kind if isinstance(kind, str) else kind.__name__
    given = config.get("_class_name", wanted)
    if given != wanted:
        raise FslabError(f"{folder}/config.json is of a {given}; fslab reads {wanted} there")
    for name, value in config.items():
        if name not in BOOKKEEPING and name not in known and unknown_setting(kind, name, value):
            raise FslabError(
                f"{folder}/config.json has {name} = {value!r}, which fslab does not understand; if "
                "it changes no number, take it out of the file"
            )
        allowed, otherwise = values.get(name, ((value,), ""))
        if value not in allowed:
            raise FslabError(
                f"{folder}/config.json has {name} = {value!r}: this {wanted} expects {otherwise}, "
                "which fslab does not give it"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
