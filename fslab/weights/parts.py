"""The parts that a model is made of: which files each needs, and whether they are there and whole.

One choice of files (`files_of`) serves loading, naming the content, `fslab doctor` and
`fslab fetch`, so that they cannot disagree. Nothing here reads weights: names, sizes, headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fslab.records import FslabError
from fslab.weights.trust import PICKLED, check_index, read_config, read_header

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
"""How the weights of each library's models are called, before .safetensors."""

NETWORKS = ("unet", "transformer")
"""The folders of a diffusion model in which its network may lie."""

TOKENIZERS = (
    ("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("spiece.model",),
    ("tokenizer.model",),
)  # fmt: skip
"""Sets of files of which a tokenizer needs one."""

TOKENS_BESIDE = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
SETTINGS = ("config.json", "generation_config.json")
SAFETENSORS = ".safetensors"

_LFS = b"version https://git-lfs"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors")


@dataclass(frozen=True)
class Part:
    """One part of a model.

    name: what messages call it. folder: where it lies, "" for the model's own folder. one_of:
    sets of files of which one set must be whole. needs: files that must be there. beside: files
    that are read where they are there. stem: what its weights are called, "" where it has none.
    """

    name: str
    folder: str = ""
    one_of: tuple[tuple[str, ...], ...] = ()
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    stem: str = ""

    def path(self, name: str) -> str:
        """Return a file's name within the model's folder."""
        return f"{self.folder}/{name}" if self.folder else name


FaultKind = Literal["missing", "broken", "pickled"]


@dataclass(frozen=True)
class Fault:
    """Why a part cannot be used; `said` names its file within the model's folder."""

    part: str
    what: FaultKind
    said: str


def _network(name: str, stem: str, folder: str | None = None) -> Part:
    place = name if folder is None else folder
    return Part(name, place, needs=("config.json",), beside=SETTINGS[1:], stem=stem)


def _tokenizer(name: str, folder: str) -> Part:
    needs, beside = TOKENS_BESIDE[:1], TOKENS_BESIDE[1:]
    return Part(name, folder, one_of=TOKENIZERS, needs=needs, beside=beside)


_PROCESSOR = Part("processor", one_of=tuple((name,) for name in PROCESSORS))
_INDEX = Part("model_index", needs=("model_index.json",))  # by it other pipelines are refused
_SCHEDULER = Part("scheduler", "scheduler", needs=("scheduler_config.json",))
_ENCODERS = ("", "_2", "_3")
"""What the folders of text encoders and of their tokenizers may end in."""
_VISION = (_network("weights", TRANSFORMERS, ""), _PROCESSOR)
_TEXT_SIDE = (_VISION[0], _tokenizer("tokenizer", ""), _PROCESSOR)


def kind_of(names: Collection[str]) -> str:
    """Return "diffusion" or "vision" by the names of the files and folders of a model."""
    parts = {name.split("/")[0] for name in names}
    return "diffusion" if parts & {*NETWORKS, "model_index.json"} else "vision"


def parts_of(kind: str, names: Collection[str]) -> tuple[Part, ...]:
    """Return the parts of a kind of model; names: of all files, or of what lies in its folder."""
    if kind != "diffusion":
        return _VISION if kind == "vision" else _TEXT_SIDE
    there = {name.split("/")[0] for name in names}
    network = next((each for each in NETWORKS if each in there), NETWORKS[0])
    texts = [each for each in _ENCODERS if f"text_encoder{each}" in there]
    if "" not in texts and (network == NETWORKS[0] or any(map(_is_of_text, there))):
        texts.insert(0, "")
    return (
        _INDEX,
        _network(network, DIFFUSERS),
        _network("vae", DIFFUSERS),
        *(_network(f"text_encoder{each}", TRANSFORMERS) for each in texts),
        *(_tokenizer(f"tokenizer{each}", f"tokenizer{each}") for each in texts),
        _SCHEDULER,
    )


def missing_parts(
    folder: Path,
    kind: str,
    without: Collection[str] = (),
    sizes: Mapping[str, int] | None = None,
) -> tuple[Fault, ...]:
    """Look at a model's folder part by part; return what is missing, cut short or pickled.

    kind: "diffusion", "captioner", "clip", "vision", or "backbone", which is a diffusion model or
    a vision transformer as the folder says. without: parts whose weights are not asked for. sizes:
    bytes that files within the folder are known to have. Nothing is raised; no weights are read.
    """
    if not folder.is_dir():
        return (Fault("", "missing", f"{folder} is not a folder"),)
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        return (Fault("", "broken", f"{folder} cannot be read: {error.strerror}"),)
    kind = kind_of(names) if kind == "backbone" else kind
    found: list[Fault] = []
    if kind == "diffusion":
        names += _encoders_named(folder)
    for part in parts_of(kind, names):
        found += _part_faults(folder, part, part.name not in without, sizes or {})
    return tuple(dict.fromkeys(found))


def _is_of_text(name: str) -> bool:
    return name.startswith(("text_encoder", "tokenizer"))


def _encoders_named(folder: Path) -> list[str]:
    """Return text encoders that a model must have: the second one of an SDXL, by its UNet, and the
    first of a transformer whose index names it; some networks read no text."""
    try:
        if (folder / "unet").is_dir():
            second = read_config(folder / "unet").get("addition_embed_type") == "text_time"
            return ["text_encoder_2"] if second else []
        named = read_config(folder, "model_index.json").get("text_encoder")
    except FslabError:
        return []  # said of the part itself
    return ["text_encoder"] if isinstance(named, list) and any(named) else []


def _part_faults(
    folder: Path, part: Part, weights: bool, sizes: Mapping[str, int]
) -> Iterator[Fault]:
    for name in part.needs:
        yield from _file_faults(folder, part, name, sizes)
    for name in part.beside:
        if (folder / part.path(name)).is_symlink() or (folder / part.path(name)).exists():
            yield from _file_faults(folder, part, name, sizes)
    if part.one_of:
        yield from _set_faults(folder, part, sizes)
    if part.stem and weights:
        yield from _weight_faults(folder, part, sizes)


def _set_faults(folder: Path, part: Part, sizes: Mapping[str, int]) -> Iterable[Fault]:
    """Return the faults of the set of files that a part would be loaded from."""
    for files in part.one_of:
        if all((folder / part.path(name)).is_file() for name in files):
            return [x for name in files for x in _file_faults(folder, part, name, sizes)]
    for files in part.one_of:
        if any((folder / part.path(name)).exists() for name in files):
            return [x for name in files for x in _file_faults(folder, part, name, sizes)]
    wanted = " or ".join(" with ".join(files) for files in part.one_of)
    place = f"{part.folder} holds no" if part.folder else "there is no"
    return [Fault(part.name, "missing", f"{place} {wanted}")]


def _file_faults(folder: Path, part: Part, name: str, sizes: Mapping[str, int]) -> Iterator[Fault]:
    """Yield what is wrong with one small file: JSON is read, of other text only the size."""
    said, path = part.path(name), folder / part.path(name)
    if not path.is_file():
        link = path.is_symlink()
        reason = "is a link to a file that is not there" if link else "is missing"
        yield Fault(part.name, "missing", f"{said} {reason}")
        return
    try:
        data = path.read_bytes()
    except OSError as error:
        yield Fault(part.name, "broken", f"{said} cannot be read: {error.strerror}")
        return
    reason = _why_not_whole(data, name.endswith(".json"), sizes.get(said))
    if reason:
        yield Fault(part.name, "broken", f"{said} {reason}")


def _why_not_whole(data: bytes, is_json: bool, size: int | None) -> str:
    if not data.strip():
        return "is empty"
    if data.startswith(_LFS):
        return "is a Git LFS pointer and not the file itself"
    if size is not None and len(data) != size:
        return f"is cut short: it has {len(data):,} bytes of {size:,}"
    if is_json:
        try:
            return "" if isinstance(json.loads(data), dict) else "is not a JSON object"
        except (ValueError, RecursionError):
            return "is not whole JSON"
    return ""


def _weight_faults(folder: Path, part: Part, sizes: Mapping[str, int]) -> Iterator[Fault]:
    home = folder / part.folder
    try:
        files = _chosen(home, part.stem, "fp32")
        for path in files:
            _check_weights(path, sizes.get(part.path(path.name)))
    except FslabError as error:
        kind: FaultKind = "missing" if isinstance(error, _NotThere) else "broken"
        kind = "pickled" if isinstance(error, _Pickled) else kind
        said = str(error).replace(f"{folder}/", "").replace(f"{folder} ", "the folder ")
        yield Fault(part.name, kind, said)


class _NotThere(FslabError):
    """Weights of which there is no file."""


class _Pickled(FslabError):
    """Weights of which there are pickles only."""


def files_of(folder: Path, part: str = "", precision: str = "fp32") -> tuple[Path, ...]:
    """Return exactly the safetensors that are loaded from a folder, or from a part of it.

    The plain file goes before the one of half precision, and with precision "fp16" after it;
    shards are those that an index names. Other files beside, such as non_ema, are left out.
    Raises FslabError where there is none, or only pickles, or one is not whole, and where an index
    leads elsewhere.
    """
    home = folder / part if part else folder
    files = _chosen(home, _stem(home), precision)
    for path in files:
        _check_weights(path)
    return files


def variant_of(files: Collection[Path]) -> str | None:
    """Return "fp16" where the files that are loaded bear that in their names."""
    return "fp16" if any(".fp16" in path.name for path in files) else None


def small_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of settings and words that are read beside a text-side model's weights."""
    words = [name for files in TOKENIZERS for name in files]
    names = sorted({*SETTINGS, *PROCESSORS, *words, *TOKENS_BESIDE})
    return tuple(folder / name for name in names if (folder / name).is_file())


def _stem(home: Path) -> str:
    """Return what a folder's weights are called: by what is there, then by its configuration."""
    names = [path.name for path in home.glob("*")]
    diffusers = any(name.startswith(DIFFUSERS) for name in names)
    others = _choice(names, TRANSFORMERS, "fp32") is not None
    if diffusers and others and (home / "config.json").is_file():
        return DIFFUSERS if "_class_name" in read_config(home) else TRANSFORMERS
    return DIFFUSERS if diffusers else TRANSFORMERS


def _chosen(home: Path, stem: str, precision: str) -> tuple[Path, ...]:
    """Return the files that the library loads, headers unread."""
    names = {path.name for path in home.glob("*")}
    there = {name for name in names if (home / name).is_file()}
    chosen = _choice(there, stem, precision) or _choice(names, stem, precision)
    if chosen is None:
        pickled = sorted(name for name in names if name.endswith(PICKLED))
        if pickled:
            raise _Pickled(
                f"{home} holds pickled weights only ({', '.join(pickled[:3])}), which can run code "
                "when opened; convert them to safetensors first"
            )
        others = sorted(name for name in names if name.endswith(SAFETENSORS))
        more = f", but {', '.join(others[:3])}" if others else ""
        wanted = f"{stem}{SAFETENSORS}" if others else f"*{SAFETENSORS}"
        raise _NotThere(f"{home} holds no {wanted} file{more}")
    if not chosen.endswith(".json"):
        return (home / chosen,)
    return tuple(home / name for name in check_index(home / chosen))


def _choice(names: Collection[str], stem: str, precision: str) -> str | None:
    """Return the weights, or their index, as the library of that stem would choose."""
    variants = (".fp16", "") if precision == "fp16" else ("", ".fp16")
    for variant in variants:
        kinds = [f"{stem}{variant}{SAFETENSORS}", f"{stem}{SAFETENSORS}.index{variant}.json"]
        for name in reversed(kinds) if stem == DIFFUSERS else kinds:
            if name in names:
                return name
    return None


def _check_weights(path: Path, size: int | None = None) -> None:
    """Refuse safetensors that are not whole, by their header and the size that they should have."""
    if path.is_symlink() and not path.exists():
        raise FslabError(f"{path} cannot be read: it is a link to a file that is not there")
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_LFS)) == _LFS
        given = path.stat().st_size
    except OSError as error:
        raise FslabError(f"{path} cannot be read: {error.strerror}") from error
    if pointer:
        raise FslabError(f"{path} is a Git LFS pointer and not the weights; fetch the file itself")
    if size is not None and given != size:
        raise FslabError(f"{path} is not whole: it has {given:,} bytes of {size:,}")
    read_header(path)


def check_files(folder: Path) -> tuple[Path, ...]:
    """Return what `files_of` does, or nothing where a folder holds nothing of the kind."""
    endings = (*PICKLED, SAFETENSORS, ".index.json")
    there = any(path.name.endswith(endings) for path in folder.glob("*"))
    return files_of(folder) if there else ()


def files_needed(names: Collection[str], kind: str, precision: str = "fp32") -> tuple[str, ...]:
    """Return which files of a repository are needed, of the names of all its files.

    kind: as for `missing_parts`. Where the repository has a part's weights as pickles only, no
    weights of that part are among them.
    """
    kind = kind_of(names) if kind == "backbone" else kind
    wanted: set[str] = set()
    for part in parts_of(kind, names):
        small = [*part.needs, *part.beside, *(name for files in part.one_of for name in files)]
        wanted |= {part.path(name) for name in small}
        wanted |= set(_weights_needed(names, part, precision)) if part.stem else set()
    return tuple(sorted(wanted & set(names)))


def _weights_needed(names: Collection[str], part: Part, precision: str) -> Iterator[str]:
    prefix = part.path("")
    here = {name[len(prefix) :] for name in names if name.startswith(prefix)}
    chosen = _choice(here, part.stem, precision)
    if chosen is None:
        return
    yield part.path(chosen)
    if chosen.endswith(".json"):
        start = part.stem + (".fp16" if ".fp16." in chosen else "")
        for name in here:
            if name.startswith(start) and _SHARD.fullmatch(name[len(start) :]):
                yield part.path(name)


def size_of(folder: Path, kind: str) -> int:
    """Return the bytes of the files that a model is loaded from, links followed."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    kind = kind_of(names) if kind == "backbone" else kind
    return sum((folder / name).stat().st_size for name in files_needed(names, kind))


def patterns(kind: str, variant: str = "", network: str = NETWORKS[0]) -> tuple[str, ...]:
    """Return the patterns by which `hf download` brings a model's files and no others.

    network: the folder of a diffusion model's network; transformers' weights come in shards.
    """
    ending = f".{variant}{SAFETENSORS}" if variant else SAFETENSORS
    if kind == "diffusion" and network != NETWORKS[0]:
        stems = (f"{network}/{DIFFUSERS}", f"vae/{DIFFUSERS}", f"text_encoder*/{TRANSFORMERS}")
        whole = (f"{stem}{end}" for stem in stems for end in (SAFETENSORS, f"-*{SAFETENSORS}"))
        return "model_index.json", "scheduler/*", "tokenizer*/*", "*/*.json", *whole
    if kind == "diffusion":
        return (
            "model_index.json", "scheduler/*", "tokenizer*/*", "*/config.json",
            f"unet/{DIFFUSERS}{ending}", f"vae/{DIFFUSERS}{ending}",
            f"text_encoder*/{TRANSFORMERS}{ending}",
        )  # fmt: skip
    return ("*.json", "*.txt", f"{TRANSFORMERS}{ending}")
