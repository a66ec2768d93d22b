"""Files of weights, as against folders: which are meant as a model, and may be opened."""

from __future__ import annotations

from pathlib import Path

from fslab.records import FslabError
from fslab.weights.trust import PICKLED

SAFETENSORS, QUANTISED = ".safetensors", ".gguf"


def is_single_file(source: str | Path) -> bool:
    """Return whether a source is meant as a file of weights: it is one, or is called like one."""
    path = Path(source).expanduser()
    called = path.suffix in (*PICKLED, SAFETENSORS, QUANTISED)
    return path.is_file() or (called and not path.is_dir())


def check_single_file(path: Path) -> None:
    """Refuse a file that is not there or not safetensors; FslabError says what to do."""
    if path.suffix in PICKLED:
        raise FslabError(
            f"{path} holds pickled weights, which can run code when opened; take the model's "
            "*.safetensors file, or convert it where you trust it"
        )
    if path.suffix == QUANTISED:
        raise FslabError(
            f"{path} holds quantised weights (GGUF); give the model's *.safetensors file in fp32, "
            "fp16 or bf16"
        )
    if not path.is_file():
        raise FslabError(f"there is no file {path}; give a Stable Diffusion's *.safetensors file")
    if path.suffix != SAFETENSORS:
        raise FslabError(f"{path} is neither a folder of weights nor a *.safetensors file")
