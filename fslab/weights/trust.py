"""Whether a folder of weights may be opened: no code, only tensors, nothing beyond it or cut short.

Only names, sizes and headers are read, so a folder is refused before anything is loaded.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fslab.records import FslabError

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""
NUMBERS = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "BOOL"))
CODE = frozenset(("auto_map", "custom_pipelines", "custom_pipeline"))
"""Entries by which a configuration names code that is to be fetched or run."""


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return a model's configuration.

    Raises FslabError where it is missing, no JSON object, or asks for code of its own.
    """
    path = folder / name
    if not folder.is_dir():
        raise FslabError(f"{folder} is not a folder; models are loaded from one")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FslabError(
            f"{folder} holds no {name}, so it is not a model in diffusers or transformers format"
        ) from error
    except (ValueError, OSError, RecursionError) as error:
        raise FslabError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise FslabError(f"{path} holds {type(data).__name__}, not a JSON object")
    asked = next(_code_asked_for(data), None)
    if asked:
        raise FslabError(
            f"{path} asks for code of its own ({asked}), which fslab never runs; "
            "take a model of a class that the libraries have"
        )
    return data


def _code_asked_for(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if key in CODE and value:
            yield key
        elif key.endswith("attn_implementation") and "/" in str(value):
            yield key  # a kernel of the hub, which is compiled code
        elif isinstance(value, dict):
            yield from _code_asked_for(value)


def check_index(index: Path) -> list[str]:
    """Return the names of an index's shards, sorted.

    Raises FslabError where it leads out of its folder: libraries follow it, and open pickles by it.
    """
    shards = read_config(index.parent, index.name).get("weight_map")
    whole = isinstance(shards, dict) and all(isinstance(name, str) for name in shards.values())
    if not whole or not shards:
        raise FslabError(f"{index} holds no weight_map from tensors to files")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise FslabError(f"{index} names {name!r}, outside its folder; a shard lies beside it")
        if not name.endswith(".safetensors"):
            raise FslabError(f"{index} names {name!r}; fslab opens *.safetensors files only")
        if not (index.parent / name).is_file():
            raise FslabError(f"{index} names {name!r}, which is not there; fetch it again")
    return names


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a safetensors file by tensor; FslabError where it is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError(f"its header is said to have {length} bytes, the file has {size}")
            header: dict[str, dict[str, Any]] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        ends = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        shapes_are_lists = all(isinstance(entry["shape"], list) for entry in header.values())
    except OSError as error:
        raise FslabError(f"{path} cannot be read: {error.strerror}") from error
    except struct.error as error:
        raise FslabError(f"{path} is not a whole safetensors file: it has {size} bytes") from error
    except (ValueError, RecursionError) as error:
        raise FslabError(f"{path} is not a whole safetensors file: {error}") from error
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise FslabError(
            f"{path} is not a safetensors file: its header lists no tensors"
        ) from error
    if not shapes_are_lists or ends != size - 8 - length:
        raise FslabError(
            f"{path} is not a whole safetensors file: its header speaks of {8 + length + ends} "
            f"bytes, the file has {size}; fetch it again"
        )
    return header


def check_numbers(path: Path, header: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse quantised weights, which are codes and not numbers, by a file's header.

    Whole numbers of 32 and 64 bits are positions and counts; floats of 8 bits are numbers.
    """
    for name, entry in sorted(header.items()):
        if entry.get("dtype") not in NUMBERS:
            raise FslabError(
                f"{path} holds {entry.get('dtype')} numbers ({name}): quantised weights are not "
                "read; give the model in fp32, fp16 or bf16"
            )


def check_shapes(files: Sequence[Path], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights of another shape than the configuration's network has, by the headers alone.

    files: the safetensors that are loaded. wanted: shapes by tensor. Tensors that bear another
    name in the files are left to the loading.
    """
    for path in files:
        for name, entry in read_header(path).items():
            if name in wanted and tuple(entry["shape"]) != tuple(wanted[name]):
                raise FslabError(
                    f"{path} does not fit its config.json: {name} has the shape {entry['shape']} "
                    f"and the configuration's network {list(wanted[name])}"
                )
