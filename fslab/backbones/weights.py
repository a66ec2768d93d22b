"""Where weights lie, how they are loaded, and what names their content."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from fslab.backbones.adapters import ADAPTER, TENSORS
from fslab.devices import checked_device
from fslab.process import is_of_memory, ordinary
from fslab.records import FslabError, digest_of
from fslab.store import Store
from fslab.weights import file_digest, files_of, find, source_of
from fslab.weights.parts import variant_of
from fslab.weights.sources import Kind
from fslab.weights.trust import check_numbers, read_config, read_header

UNBUILT = (
    StrictDataclassError,
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What the libraries raise where a configuration describes nothing that they can build."""
CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json")

one_at_a_time = threading.RLock()
"""Held while a network is built: the libraries, and chance, then have settings that are global.
Who holds it from asking for a part to having it shares the part with other threads."""

_encoding = threading.RLock()
"""Held while a tokenizer encodes: its padding and truncation are then those of one call."""


def locate(
    source: str | os.PathLike[str], what: Kind = "backbone", without: Collection[str] = ()
) -> Path:
    """Return the folder of a model: a local folder, or a hub id that is in the hub's cache.

    without: parts whose weights are not asked for. Nothing is fetched. Raises FslabError where the
    weights are not there, or not whole; it says what is missing and what fetches it.
    """
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else find(source_of(source, what), without)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise inside from a seed, and leave the global generator, all that the libraries'
    initialisers know, as it was."""
    with one_at_a_time, ordinary(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def load(kind: Any, folder: str | os.PathLike[str], **settings: Any) -> Any:
    """Load a model, tokenizer or processor class from a folder of files that are safe to open.

    Local files and safetensors only, no code from the folder, no progress bars. Raises
    FslabError with the library's reason where the folder does not hold what `kind` needs.
    """
    from safetensors import SafetensorError

    if not Path(folder).is_dir():
        raise FslabError(
            f"{os.fspath(folder)!r} is not a folder; {kind.__name__} is loaded from one"
        )
    for name in CONFIGS:
        if (Path(folder) / name).exists():
            read_config(Path(folder), name)
    try:
        with building():
            return kind.from_pretrained(folder, local_files_only=True, **settings)
    except (*UNBUILT, OSError, SafetensorError) as error:
        if isinstance(error, FslabError) or is_of_memory(error):
            raise  # which says nothing of the folder
        reason = str(error).strip().partition("\n")[0]
        raise FslabError(f"{folder} cannot be loaded as {kind.__name__}: {reason}") from error


def load_model(
    kind: Any,
    folder: Path,
    dtype: torch.dtype,
    needed: Callable[[str], bool] = lambda tensor: True,
    **more: Any,
) -> Any:
    """Load a model class from a folder's safetensors, ready for inference.

    needed: tells of a tensor that the files lack whether anything reads it. more: goes to the
    library's loader.

    Raises FslabError as `load` and `files_of` do, for another model's configuration, and
    where a layer has no weights, which both libraries would fill with random numbers, and where
    weights have no layer.
    """
    _check_type(kind, folder)
    if (folder / ADAPTER).exists():
        raise FslabError(f"{folder} holds an adapter ({ADAPTER}); give the merged model's weights")
    files = files_of(folder)
    for path in files:
        check_numbers(path, read_header(path))
    precision = "torch_dtype" if _is_of_diffusers(kind) else "dtype"
    settings = {precision: dtype, "variant": variant_of(files), "use_safetensors": True, **more}
    settings["ignore_mismatched_sizes"] = True  # said below, by name
    model, report = load(kind, folder, output_loading_info=True, **settings)
    if report["mismatched_keys"]:
        name, given, needed = min(report["mismatched_keys"])
        raise FslabError(
            f"{folder} does not fit its config.json: {name} has the shape {list(given)} and the "
            f"configuration's network {list(needed)}"
        )
    lacking = sorted(filter(needed, report["missing_keys"]))
    if lacking:
        raise FslabError(
            f"{folder} cannot be loaded as {kind.__name__}: its weights lack {lacking[0]}"
        )
    _check_loaded(model, report["unexpected_keys"], folder)
    return model.eval()


def load_finite(kind: Any, folder: Path, dtype: torch.dtype, **more: Any) -> Any:
    """Load a model as `load_model` does, and refuse weights that are not finite numbers.

    That reads them all. Of a diffusion model's weights, which are mapped from the disk, a pass
    leaves many unread, so there what layers give is checked instead.
    """
    model = load_model(kind, folder, dtype, **more)
    check_finite(dict(model.named_parameters()), folder)
    return model


def check_finite(tensors: dict[str, Tensor], folder: Path | str) -> dict[str, Tensor]:
    """Return weights, or what layers gave, as they are; refuse NaN and infinity among them."""
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise FslabError(
                f"{name} of {folder} is not finite throughout: the weights are damaged, or the "
                "precision is too low for them"
            )
    return tensors


def _check_loaded(model: Any, unused: Sequence[str], folder: Path) -> None:
    """Refuse weights of more layers than the model has.

    A whole tower without a use, such as CLIP's text side, is not a fault; a layer beyond the last
    is, and a tensor beside those of a layer (a bias, registers), and an adapter. A part of a
    diffusion model has a use for all of its weights.
    """
    kinds = {_NUMBER.sub("#", name) for name in model.state_dict()}
    owners = {name.rpartition(".")[0] for name, _ in model.named_parameters()} - {""}
    prefix = (
        f"{getattr(model, 'base_model_prefix', '')}."  # that of a network around, as with a head
    )
    part = _is_of_diffusers(type(model)) or model.config.model_type in _TEXT_SIDE
    for name in sorted(unused):
        forms = {name, name.removeprefix("text_model.") if part else name.removeprefix(prefix)}
        beyond = _NUMBER.search(name) and any(_NUMBER.sub("#", form) in kinds for form in forms)
        leaf = name.rpartition(".")[2]
        beside = leaf not in _UNREAD and any(form.rpartition(".")[0] in owners for form in forms)
        if beyond or beside or TENSORS.search(name) or (part and not _REST_OF_CLIP.match(name)):
            raise FslabError(
                f"{folder} does not fit its config.json, which has no layer for {name}"
            )


def _is_of_diffusers(kind: type) -> bool:
    """Return whether a class is one of diffusers, or extends one."""
    return any(each.__module__.startswith("diffusers") for each in kind.__mro__)


_UNREAD = ("mask_token", "position_ids", "relative_position_index")
"""Tensors beside a layer's own that a pass without masked patches leaves, or counts for itself."""
_NUMBER = re.compile(r"\b\d+\b")
_TEXT_SIDE = ("clip_text_model",)
_REST_OF_CLIP = re.compile(r"(text_model|vision_model|(text|visual)_projection|logit_scale)\b")


def _check_type(kind: Any, folder: Path) -> None:
    """Refuse a folder whose configuration is of another family: libraries only warn."""
    config = read_config(folder)
    wanted = getattr(getattr(kind, "config_class", None), "model_type", None)
    given = config.get("model_type")
    if wanted and given and not wanted.startswith(given):  # "clip" holds "clip_vision_model"
        raise FslabError(f"{folder} holds a {given!r} model; {kind.__name__} needs {wanted!r}")


def load_tokenizer(kind: Any, folder: Path) -> Any:
    """Load a tokenizer; FslabError where its files are missing: an empty one would be made.

    Pieces alone, as PixArt's T5 has them, need packages that fslab does not: what lacks is said.
    """
    pieces = ("spiece.model", "tokenizer.model")
    names = ("tokenizer.json", "vocab.json", "vocab.txt", *pieces)
    there = [name for name in names if (folder / name).is_file()]
    if folder.is_dir() and not there:
        raise FslabError(f"{folder} holds no tokenizer: none of {', '.join(names)}")
    lacking = [name for name in ("sentencepiece", "google.protobuf") if not _is_installed(name)]
    if there and set(there) <= set(pieces) and lacking:
        raise FslabError(
            f"{folder} holds its words as {there[0]} alone, which transformers reads by "
            "sentencepiece and protobuf; pip install 'fslab[t5]' brings them"
        )
    return taking_turns(load(kind, folder))


def taking_turns(tokenizer: Any) -> Any:
    """Have a tokenizer's calls wait for each other's end, whichever threads they come from.

    Fast tokenizers keep a call's padding and truncation in themselves while they encode, so that
    calls of two threads would get each other's.
    """
    kind = type(tokenizer)

    def encode(self: Any, *given: Any, **named: Any) -> Any:
        with _encoding:
            return kind.__call__(self, *given, **named)

    def reduced(self: Any) -> tuple[Any, ...]:
        plain: Any = object.__new__(kind)
        plain.__dict__.update(self.__dict__)
        return taking_turns, (plain,)

    names = {"__call__": encode, "__reduce__": reduced, "__module__": kind.__module__}
    tokenizer.__class__ = type(kind.__name__, (kind,), names | {"__doc__": kind.__doc__})
    return tokenizer


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package's parent
        return False


def load_parts(
    kinds: tuple[Any, Any, Any], folder: str | Path, device: str | torch.device, dtype: torch.dtype
) -> tuple[Any, Any, Any]:
    """Load a text-side model, its tokenizer and its image processor from one folder.

    kinds: their classes. Raises FslabError as `load_finite` and `load_tokenizer` do, and for a
    device that is not there.
    """
    device = checked_device(device)
    (model, tokenizer, processor), folder = kinds, Path(folder)
    loaded = load_finite(model, folder, dtype).to(device)
    return loaded, load_tokenizer(tokenizer, folder), load(processor, folder)


@contextmanager
def building() -> Iterator[None]:
    """Let one thread at a time build a network inside, and keep the libraries' reports off."""
    with one_at_a_time, _quiet(), ordinary():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep both libraries' loading bars, and reports of weights that a part of a model has no use
    for, off the screen, and put them back as they were; what is missing `load_model` says."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [
        log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()
    ]
    for log in shown:
        log.disable_progress_bar()
    loggers = (diffusers_logging, transformers_logging)
    levels = [log.get_verbosity() for log in loggers]
    for log in loggers:
        log.set_verbosity_error()  # diffusers warns of a setting that its own classes saved
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.set_verbosity(level)
        for log in shown:
            log.enable_progress_bar()


def fingerprint(files: Sequence[Path], store: Store | None = None, **more: Any) -> str:
    """Return 32 hexadecimal digits that name the content of files and some settings.

    store: keeps what large files hold by their path, size and time, so that each is read once.
    """
    return digest_of([more, *(file_digest(path, store) for path in files)])
