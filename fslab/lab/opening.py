"""Whether models that were just fetched can be opened: by headers, shapes and words, without
reading their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fslab.records import FslabError
from fslab.weights.parts import NETWORKS, files_of, missing_parts, parts_of
from fslab.weights.trust import check_shapes, read_config, read_header


def check_type(folder: Path, kind: str) -> None:
    """Refuse a model of another type than its kind is to have, by its configuration alone."""
    if kind in TEXT_SIDE:
        _kinds(folder, kind)
    elif kind == "diffusion":
        from fslab.backbones.families import family

        network = next((each for each in NETWORKS if (folder / each).is_dir()), NETWORKS[0])
        given = read_config(folder / network).get("_class_name")
        if given not in family:
            raise FslabError(
                f"its configuration says _class_name {given!r}, and fslab reads "
                f"{', '.join(family)} as a diffusion model; give the id of another model"
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
    for part in parts_of(kind, [path.name for path in folder.iterdir()]):
        place = folder / part.folder
        if part.name.startswith("tokenizer"):
            _check_tokenizer(place, _classes(folder, kind, part.name)[1])
        elif part.stem and part.name not in NETWORKS and kind != "vision":
            own = kind in TEXT_SIDE
            _check_network(place, _classes(folder, kind, part.name)[0], whole=own)


def _classes(folder: Path, kind: str, part: str) -> tuple[Any, Any]:
    """Return the classes of a part's network, of the tokenizer of it where it reads text."""
    if kind in TEXT_SIDE:
        return _kinds(folder, kind)[:2]
    import torch

    from fslab.backbones.components import Components
    from fslab.backbones.understood import class_named

    family = Components(folder, torch.device("cpu")).kind
    if part == "vae":
        return class_named(family.vae), None
    about = family.encoders[part.replace("tokenizer", "text_encoder")]
    return class_named(about.kind), class_named(about.tokenizer)


def _check_tokenizer(folder: Path, wanted: Any) -> None:
    from fslab.backbones.weights import load_tokenizer

    if not load_tokenizer(wanted, folder)("a photo").input_ids:
        raise FslabError(f"the tokenizer of {folder} knows no words; fetch it again")


def _check_network(folder: Path, wanted: Any, whole: bool) -> None:
    """Refuse weights of other shapes than the network's; whole: and those that lack any."""
    network = _on_meta(folder, wanted)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    shapes |= {f"text_model.{key}": shape for key, shape in shapes.items()}  # as of old
    files = files_of(folder)
    check_shapes(files, shapes)
    if not whole:
        return
    given = {key for path in files for key in read_header(path)}
    several: dict[int, set[str]] = {}
    for key, value in network.named_parameters(remove_duplicate=False):
        several.setdefault(id(value), set()).add(key)
    lacking = [min(keys) for keys in several.values() if not keys & given]
    if lacking:
        raise FslabError(f"the weights of {folder} lack {min(lacking)}; take another model")


def _on_meta(folder: Path, kind: Any) -> Any:
    """Return a configuration's network without numbers."""
    import torch

    from fslab.backbones.weights import UNBUILT

    config = read_config(folder)
    try:
        with torch.device("meta"):
            if hasattr(kind, "from_config"):  # of diffusers
                return kind.from_config(config)
            return kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    except UNBUILT as error:
        raise FslabError(f"{folder} describes nothing that can be built: {error}") from error
