"""Files beside a model that would change it: refused, since a folder is read without them.

LoRA, DoRA, LoHa, LoKr and OFT weights, IP-Adapters, learned embeddings: diffusers loads none of
them by itself, so whoever put one into a folder would get the features of the model without it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fslab.records import FslabError
from fslab.weights.trust import PICKLED, read_config, read_header

ADAPTER = "adapter_config.json"
FILES = re.compile(
    rf"(pytorch_lora_weights|adapter_model|learned_embeds|ip-adapter)[^/]*"
    rf"({'|'.join(map(re.escape, (*PICKLED, '.safetensors')))})"
)
TENSORS = re.compile(
    r"lora|hada_w|lokr_w|oft_diag|oft_blocks|dora_scale|\.on_input$|^ip_adapter\.|^image_proj\.",
    re.IGNORECASE,
)
STOCK = frozenset(("sd_xl_offset_example-lora_1.0.safetensors",))
"""Files of a model's own repository that show something and are not a part of the model."""
APART = ("safety_checker", "feature_extractor")
"""Folders of a pipeline that no pass reads, whatever lies in them."""
_WORDS = 4
"""A file with so few vectors holds learned words; of a part of a model only a shard may."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")


def check_no_adapters(folder: Path) -> None:
    """Refuse a model's folder if an adapter lies in it or in one of its parts.

    Only names and headers are read. Raises FslabError that names the file.
    """
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in APART)
    for place in (folder, *inner):
        if (place / ADAPTER).exists():
            read_config(place, ADAPTER)
            raise FslabError(
                f"{place} holds an adapter ({ADAPTER}); give the merged model's weights"
            )
        for path in sorted(place.iterdir()):
            found = _adapter_in(path)
            if found:
                raise FslabError(
                    f"{path} holds {found}, which a folder of weights is read without; merge it "
                    "into the model (diffusers: load_lora_weights, fuse_lora, save_pretrained), or "
                    "take it out of the folder"
                )


def adapter_tensor(names: dict[str, dict[str, Any]]) -> str:
    """Return the first tensor of a file's header that belongs to an adapter; "" for none."""
    return next((name for name in sorted(names) if TENSORS.search(name)), "")


def _adapter_in(path: Path) -> str:
    """Say what kind of adapter a file is; "" for none."""
    if path.name in STOCK:
        return ""
    if FILES.fullmatch(path.name):
        return "an adapter"
    if path.suffix != ".safetensors":
        return ""
    try:
        names = read_header(path)
    except FslabError:
        return ""  # whether the file is needed, and then is whole, is asked of the model's own
    tensor = adapter_tensor(names)
    if tensor:
        return f"an adapter ({tensor})"
    vectors = all(len(entry["shape"]) <= 2 for entry in names.values())
    few = 0 < len(names) <= _WORDS and not _SHARD.search(path.name)
    return f"learned words ({min(names)})" if few and vectors else ""
