"""Whether models that were just fetched can be opened: by headers, shapes and words, without
reading their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fslab.records import FslabError
from fslab.weights.parts import files_of, missing_parts, parts_of
from fslab.weights.trust import check_shapes, read_config, read_header


def check_type(folder: Path, kind: str) -> None:
    """Refuse a model of another type than its kind is to have, by its configuration alone."""
    if kind in TEXT_SIDE:
        _kinds(folder, kind)
    elif kind == "diffusion":
        given, wanted = read_config(folder / "unet").get("_class_name"), "UNet2DConditionModel"
        if given != wanted:
            raise FslabError(
                f"its configuration says _class_name {given!r}, and fslab reads {wanted!r} as a "
                "diffusion model; give the id of another model"
            )


TEXT_SIDE = ("captioner", "clip")


def _kinds(folder: Path, kind: str) -> tuple[Any, Any, Any]:
    """Return the classes of a text-side model, its tokenizer and its image processor."""
    from fslab.captions import captioner_family
    from fslab.match import matcher_family

    if kind == "captioner":
        return captioner_family(folder).kinds()
    return matcher_family(folder).classes()


def check_opened(folder: Path, kind: str) -> None:
    """Open a model's parts: headers, shapes against its configurations' networks, its words.

    kind: "diffusion", "captioner", "clip" or "vision". Raises FslabError where a part is missing,
    cut short, or does not fit its configuration.
    """
    faults = missing_parts(folder, kind)
    if faults:
        raise FslabError(f"{folder} is not whole: {', '.join(fault.said for fault in faults[:4])}")
    if kind in ("diffusion", "vision"):
        from fslab.backbones import open_backbone

        open_backbone(folder).layers()
    for part in parts_of(kind, (folder / "text_encoder_2").is_dir()):
        place = folder / part.folder
        if part.name.startswith("tokenizer"):
            _check_tokenizer(place, kind)
        elif part.stem and part.name != "unet" and kind != "vision":
            _check_network(place, kind if part.name == "weights" else part.name)


def _check_tokenizer(folder: Path, kind: str) -> None:
    from transformers import CLIPTokenizer

    from fslab.backbones.weights import load_tokenizer

    wanted = _kinds(folder, kind)[1] if kind in TEXT_SIDE else CLIPTokenizer
    words = load_tokenizer(wanted, folder)
    if not words("a photo").input_ids:
        raise FslabError(f"the tokenizer of {folder} knows no words; fetch it again")


def _check_network(folder: Path, name: str) -> None:
    """Refuse weights of other shapes than the network's, and a BLIP or CLIP that lacks any."""
    network = _on_meta(folder, name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    shapes |= {f"text_model.{key}": shape for key, shape in shapes.items()}  # as of old
    files = files_of(folder)
    check_shapes(files, shapes)
    if name not in TEXT_SIDE:
        return
    given = {key for path in files for key in read_header(path)}
    several: dict[int, set[str]] = {}
    for key, value in network.named_parameters(remove_duplicate=False):
        several.setdefault(id(value), set()).add(key)
    lacking = [min(keys) for keys in several.values() if not keys & given]
    if lacking:
        raise FslabError(f"the weights of {folder} lack {min(lacking)}; take another model")


def _on_meta(folder: Path, name: str) -> Any:
    """Return a configuration's network without numbers."""
    import torch

    from fslab.backbones.weights import UNBUILT

    config = read_config(folder)
    kind = _kinds(folder, name)[0] if name in TEXT_SIDE else _class_of(name)
    try:
        with torch.device("meta"):
            if name == "vae":
                return kind.from_config(config)
            return kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    except UNBUILT as error:
        raise FslabError(f"{folder} describes nothing that can be built: {error}") from error


def _class_of(name: str) -> Any:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    return {
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }[name]
