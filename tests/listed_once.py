"""Layers of a network are listed once in a process, whatever stores its labs have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from fslab.backbones import Backbone, Layer
from fslab.backbones.listing import MetaListing
from fslab.keys import layers_key
from fslab.records import FslabError


@contextmanager
def listed_once() -> Iterator[dict[str, tuple[Layer, ...]]]:
    """Keep layers by the key under which a store files them: a listing takes up to a second."""
    known: dict[str, tuple[Layer, ...]] = {}
    plain = MetaListing.layers

    def layers(backbone: Backbone) -> tuple[Layer, ...]:
        if backbone.listing is None:
            try:
                key = layers_key(backbone)
            except FslabError:
                return plain(backbone)  # which refuses it in its own words
            backbone.listing = known.get(key)
            known[key] = plain(backbone)
        return backbone.listing

    with patch.object(MetaListing, "layers", layers):
        yield known
