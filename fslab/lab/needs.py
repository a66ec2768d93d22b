"""Which models a lab needs, checked before any work: names, sizes and headers, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fslab.lab.presets import PRESETS, Preset
from fslab.records import FslabError
from fslab.weights import Place, Source, command_for, place_of, source_of
from fslab.weights.hub import advice_on, by_hand, said_of
from fslab.weights.parts import NETWORKS
from fslab.weights.single import is_single_file
from fslab.weights.sources import SPOKEN, Kind

OBJECT = "an object"
"""Stands for a backbone that came as an object."""

BASELINES = ("rgb", "handmade", "random", OBJECT)


@dataclass(frozen=True)
class Need:
    """A model that a lab may load; without: parts of it whose weights the lab has no use for."""

    source: Source
    without: frozenset[str] = frozenset()


def needs_of(preset: Preset, backbone: str | None = None, encoder: bool = False) -> dict[str, Need]:
    """Return what a lab needs, by "diffusion", "captioner", "clip" and "backbone".

    Beside another backbone only the diffusion model's text encoder is used, which compares words;
    an untrained one needs no weights of the network, and beside an encoder none of the VAE.
    """
    needs = {}
    spared = ("vae",) if encoder else ()
    unused = {None: spared, "random": (*NETWORKS, *spared)}.get(backbone, (*NETWORKS, "vae"))
    compares = preset.words == "diffusion" and preset.captioner is not None
    what: Kind = (
        "diffusion" if preset.words == "diffusion" or preset.name in PRESETS else "backbone"
    )
    if (backbone in (None, "random") or compares) and not is_single_file(preset.diffusion):
        needs["diffusion"] = Need(source_of(preset.diffusion, what), frozenset(unused))
    if backbone is not None and backbone not in BASELINES and not is_single_file(backbone):
        needs["backbone"] = Need(source_of(backbone, "backbone"), frozenset(spared))
    if preset.captioner is not None:
        needs["captioner"] = Need(source_of(preset.captioner, "captioner"))
    if preset.clip is not None:
        needs["clip"] = Need(source_of(preset.clip, "clip"))
    return needs


def check(asked: str, needs: dict[str, Need], named: bool) -> None:
    """Refuse a lab of which a model is not there or not whole; one sentence names all that is.

    named: it was asked for by a preset's name, so all of its models are meant. Otherwise only
    models of the hub that were themselves asked for are looked at here: a folder's parts are said
    when they are opened, and the usual text side when a method begins.
    """
    usual = () if named else (PRESETS["sd14"].captioner, PRESETS["sd14"].clip)
    meant = [
        need
        for need in needs.values()
        if (named or need.source.is_of_hub) and need.source.id not in usual
    ]
    _refuse_faults(asked, meant)


def folder_of(asked: str, needs: dict[str, Need], what: str) -> Path:
    """Return the folder of a lab's model; FslabError where it has none, or it is not whole."""
    if what not in needs:
        raise FslabError(
            f"this lab was opened without a {SPOKEN[what]} ({what}=None); open one that has it"
        )
    need = needs[what]
    folder = Path(need.source.id).expanduser()
    return folder if folder.is_dir() else _refuse_faults(asked, [need])[0].folder


def _refuse_faults(asked: str, needs: list[Need]) -> list[Place]:
    """Return where models lie; one refusal names all that is wrong with them, and what mends it."""
    places = [place_of(need.source, need.without) for need in needs]
    wrong = [
        (need.source, place)
        for need, place in zip(needs, places, strict=True)
        if place is None or place.faults
    ]
    if wrong:
        said = "; ".join(said_of(*one) for one in wrong)
        advice = advice_for(asked, [source for source, _ in wrong])
        other = "" if asked == "mini" else "; the preset mini needs none"
        raise FslabError(f"{asked} cannot be opened: {said}; {advice}{other}")
    return [place for place in places if place is not None]


def advice_for(asked: str, sources: list[Source]) -> str:
    """Return what mends missing models: one command for those of a preset, others by hand."""
    commands = [command_for(source, asked) for source in sources]
    if commands[0] is None or len(set(commands)) > 1:
        alone = [
            f"`{one}` fetches {source.id}" if one else advice_on(source)
            for one, source in zip(commands, sources, strict=True)
        ]
        return " and ".join(dict.fromkeys(alone))
    first = min(sources, key=lambda source: source.pickled)
    where = ", where a hub has it as safetensors" if first.pickled else ""
    more = f"one model by hand{where}: `{by_hand(first)}`"
    return f"`{commands[0]}` fetches what is missing ({more})"
