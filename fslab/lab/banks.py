"""A bank of regions that a recipe names: opened once, and held to what it was made with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fslab.datasets import local
from fslab.keys import changed, names_of
from fslab.records import FslabError, Matching, Recipe

if TYPE_CHECKING:
    from fslab.lab.lab import Lab
    from fslab.match import Bank


def facts_of(lab: Lab, recipe: Recipe) -> dict[str, Any]:
    """Return what a bank depends on, as plain data; segments may differ where it is used."""
    from fslab.match import load_matcher, region_keys

    facts = {
        "backbone": lab.backbone.fingerprint,
        "clip": lab.clip_fingerprint,
        "features": changed(recipe.extract),
        "segments": changed(recipe.cluster),
        "made by": names_of([region_keys, load_matcher, type(lab.backbone)]),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def check_facts(
    name: str, bank: Bank, facts: dict[str, Any], advice: str, beside: Sequence[str] = ()
) -> None:
    """Refuse a bank that was made in another way; beside: what may differ."""
    for what, value in facts.items():
        if what not in beside and bank.facts.get(what) != value:
            raise FslabError(
                f"{name} was made with other {what}: {bank.facts.get(what)!r:.120}, here "
                f"{value!r:.120}; {advice}"
            )


def opened_bank(lab: Lab, settings: Matching) -> Bank | None:
    """Return the bank that settings name, read once while its file stays; None where none is.

    Raises FslabError for one of other weights, and for one that does not hold what was said.
    """
    if not settings.bank:
        return None
    from fslab.match import read_bank

    path = local(settings.bank)
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else ()
    bank: Bank = lab.recent.get(("bank", str(path), stamp), lambda: read_bank(path))
    weights = {"backbone": lab.backbone.fingerprint, "clip": lab.clip_fingerprint}
    check_facts(str(path), bank, weights, "make a bank with the models that are used here")
    if settings.bank_digest not in ("", bank.digest):
        raise FslabError(
            f"{path} holds {bank.digest} and matching.bank_digest is {settings.bank_digest}; give "
            "the file that the recipe was made with, or leave out the digest"
        )
    return bank


def with_bank(lab: Lab, recipe: Recipe) -> Recipe:
    """Return a recipe that names what its bank holds; FslabError for one of other features."""
    bank = opened_bank(lab, recipe.match)
    if bank is None:
        return recipe
    advice = "make a bank by this recipe"
    check_facts(recipe.match.bank, bank, facts_of(lab, recipe), advice, beside=("segments",))
    return replace(recipe, match=replace(recipe.match, bank_digest=bank.digest))
