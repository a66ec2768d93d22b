"""Which weights a preset needs, where they lie, whether they are whole, what names them."""

from fslab.weights.digests import file_digest
from fslab.weights.hub import Place, find, name_of, own_folder, place_of
from fslab.weights.parts import Fault, files_needed, files_of, kind_of, missing_parts, size_of
from fslab.weights.sources import PRESET_SOURCES, Source, command_for, source_of

__all__ = [
    "PRESET_SOURCES",
    "Fault",
    "Place",
    "Source",
    "command_for",
    "file_digest",
    "files_needed",
    "files_of",
    "find",
    "kind_of",
    "missing_parts",
    "name_of",
    "own_folder",
    "place_of",
    "size_of",
    "source_of",
]
