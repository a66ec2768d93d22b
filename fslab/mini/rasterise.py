"""Draw the sprites once: emoji of npm packages (SVG or WebP) -> WebP sheets and a manifest.

Run as `python -m fslab.mini.rasterise NODE_MODULES [OUT]`; the packages are named in `SETS`.
Only those who change the sprites need it (and `resvg-py`): the sheets are part of the package.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fslab.mini.drawn import POTS, SOFAS, TABLES
from fslab.mini.sprites import COLUMNS, HELD_OUT_DRAWN, HELD_OUT_EMOJI

CELL = 80
"""Side of a sprite's cell on its sheet, pixels; a sprite's longer side fills it."""

SETS: dict[str, str] = {
    "noto": "@iconify-json/noto",
    "noto-v1": "@iconify-json/noto-v1",
    "twemoji": "@iconify-json/twemoji",
    "fluent-flat": "@iconify-json/fluent-emoji-flat",
    "fluent": "@iconify-json/fluent-emoji",
    "fluent-3d": "@lobehub/fluent-emoji-3d",
    "fxemoji": "@iconify-json/fxemoji",
    HELD_OUT_EMOJI: "@iconify-json/emojione",
}
"""Design set -> npm package."""

GLYPHS: dict[str, str] = {
    "aeroplane": "airplane small-airplane airplane-departure",
    "bicycle": "bicycle",
    "bird": (
        "bird duck eagle owl parrot dove penguin flamingo swan rooster turkey "
        "front-facing-baby-chick black-bird blackbird goose chicken frontfacingchick "
        "doveofpeace baby-chick babychick"
    ),
    "boat": "sailboat speedboat motor-boat ship passenger-ship ferry canoe rowboat",
    "bottle": (
        "baby-bottle bottle-with-popping-cork lotion-bottle sake babybottle sakebottleandcup"
    ),
    "bus": "bus oncoming-bus trolleybus oncomingbus",
    "car": (
        "automobile oncoming-automobile taxi oncoming-taxi sport-utility-vehicle police-car "
        "oncoming-police-car pickup-truck oncomingautomobile oncomingtaxi policecar "
        "oncomingpolicecar recreationalvehicle"
    ),
    "cat": "cat cat-face black-cat grinning-cat grinning-cat-face catside",
    "chair": "chair seat",
    "cow": "cow cow-face ox water-buffalo cowface",
    "diningtable": "",
    "dog": "dog dog-face poodle guide-dog service-dog dogside",
    "horse": "horse horse-face horseface",
    "motorbike": "motorcycle motor-scooter",
    "person": (
        "man-standing woman-standing person-standing person-walking woman-running man-dancing "
        "woman-dancing boy girl man woman old-woman woman-cook man-firefighter woman-farmer "
        "person-raising-hand man-in-tuxedo"
    ),
    "pottedplant": "potted-plant",
    "sheep": "ewe ram sheep",
    "sofa": "couch-and-lamp",
    "train": (
        "train tram metro locomotive high-speed-train bullet-train railway-car tram-car "
        "monorail light-rail tramcar highspeedtrain highspeedtrainbulletnose steamlocomotive"
    ),
    "tvmonitor": "television desktop-computer personalcomputer",
}
"""VOC class -> names of its glyphs in the sets, by spaces (each set has some of them)."""

BOXED = {("fxemoji", "sailboat"), ("fxemoji", "ship"), ("fxemoji", "rowboat")}
"""Glyphs drawn on a filled square: no cut-out of an object."""

PLANTS = (
    "cactus seedling herb tulip sunflower rose hibiscus palm-tree palmtree evergreen-tree "
    "deciduous-tree deciduoustree"
)
"""Glyphs set into a drawn pot to make more potted plants."""


@dataclass(frozen=True)
class Drawing:
    """One sprite: RGBA picture of at most CELL x CELL pixels, and where it comes from."""

    voc_class: str
    design: str
    glyph: str
    picture: Image.Image


def draw_svg(svg: str) -> Image.Image:
    """Rasterise SVG text to RGBA, twice as wide as a cell."""
    import resvg_py

    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * CELL))))


def trim(picture: Image.Image, side: int = CELL) -> Image.Image:
    """Cut a picture to what its alpha shows and scale its longer side to `side` pixels."""
    picture = picture.convert("RGBA")
    picture = picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox())
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")


class EmojiSet:
    """The glyphs of one npm package, drawn by name."""

    def __init__(self, packages: Path, design: str) -> None:
        self.folder = packages / SETS[design]
        self.icons: dict[str, Any] = {}
        self.codes: dict[str, str] = {}
        if design == "fluent-3d":
            named = json.loads((packages / SETS["noto"] / "chars.json").read_text())
            for code, name in named.items():
                path = self.folder / "assets" / f"{code}.webp"
                if path.is_file() or (path := path.with_stem(f"{code}-fe0f")).is_file():
                    self.codes[name] = str(path)
        else:
            self.icons = json.loads((self.folder / "icons.json").read_text())

    def __contains__(self, glyph: str) -> bool:
        return glyph in self.codes or glyph in self.icons.get("icons", {})

    def draw(self, glyph: str) -> Image.Image:
        """Draw one glyph as RGBA, not yet trimmed."""
        if self.codes:
            return Image.open(self.codes[glyph]).convert("RGBA")
        icon = self.icons["icons"][glyph]
        width = icon.get("width", self.icons.get("width", 16))
        height = icon.get("height", self.icons.get("height", 16))
        start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        return draw_svg(start + icon["body"] + "</svg>")


def pot(plant: Image.Image, pot_name: str) -> Image.Image:
    """Set a plant into a drawn pot."""
    plant = trim(plant, CELL)
    base = trim(draw_svg(POTS[pot_name]), 52)
    canvas = Image.new("RGBA", (CELL, plant.height + base.height))
    sunk = base.height // 6
    canvas.alpha_composite(plant, ((CELL - plant.width) // 2, sunk))
    canvas.alpha_composite(base, ((CELL - base.width) // 2, plant.height))
    return trim(canvas)


def draw_set(packages: Path, design: str) -> list[Drawing]:
    """Draw every glyph of `GLYPHS` and every potted plant that a set has."""
    emoji = EmojiSet(packages, design)
    drawings = [
        Drawing(voc_class, design, glyph, trim(emoji.draw(glyph)))
        for voc_class, glyphs in GLYPHS.items()
        for glyph in glyphs.split()
        if glyph in emoji and (design, glyph) not in BOXED
    ]
    held_out = design == HELD_OUT_EMOJI
    pots = [name for name in POTS if (name == "held-out") == held_out]
    for index, plant in enumerate(name for name in PLANTS.split() if name in emoji):
        name = pots[(index + len(design)) % len(pots)]
        picture = pot(emoji.draw(plant), name)
        drawings.append(Drawing("pottedplant", design, f"{plant} in pot {name}", picture))
    return drawings


def draw_own() -> list[Drawing]:
    """Draw the tables and sofas of this package; the last two tables count as held out."""
    drawings = []
    for index, (name, svg) in enumerate(TABLES.items()):
        design = "drawn" if index < 6 else HELD_OUT_DRAWN
        drawings.append(Drawing("diningtable", design, name, trim(draw_svg(svg))))
    for name, svg in SOFAS.items():
        drawings.append(Drawing("sofa", "drawn", name, trim(draw_svg(svg))))
    return drawings


def write_sheets(drawings: list[Drawing], out: Path) -> None:
    """Write one lossless WebP sheet a design, and `manifest.tsv`: what each cell holds."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["class\tdesign\tsource\tglyph\tsheet\tcell\twidth\theight"]
    for design in dict.fromkeys(drawing.design for drawing in drawings):
        group = [drawing for drawing in drawings if drawing.design == design]
        sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(group) // COLUMNS) * CELL))
        for cell, drawing in enumerate(group):
            sheet.paste(drawing.picture, (cell % COLUMNS * CELL, cell // COLUMNS * CELL))
            source = SETS.get(design, "fslab/mini/drawn.py")
            row = (drawing.voc_class, design, source, drawing.glyph, f"{design}.webp", cell)
            lines.append("\t".join(map(str, (*row, *drawing.picture.size))))
        sheet.save(out / f"{design}.webp", lossless=True, quality=100, method=6)
    (out / "manifest.tsv").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Command line: the folder `node_modules`, and where to write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, help="the node_modules folder")
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).parent / "sprites")
    arguments = parser.parse_args()
    drawings = [one for design in SETS for one in draw_set(arguments.packages, design)]
    write_sheets(drawings + draw_own(), arguments.out)


if __name__ == "__main__":
    main()
