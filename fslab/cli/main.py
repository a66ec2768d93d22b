"""The commands. A refusal is one sentence on stderr and exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from fslab.cli.options import chosen_recipe, parse_settings, parse_size
from fslab.records import FslabError

app = typer.Typer(
    help="See what a text-to-image diffusion model knows about a picture, and name its parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PresetOption = Annotated[str, typer.Option(help="mini, sd14, sd15, sd21, ssd1b, or a folder")]
BackboneOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it so on every version
    typer.Option(help="features from elsewhere: a folder, rgb, handmade or random"),
]
MethodOption = Annotated[str, typer.Option(help="a method by name")]
ClusterOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="instead of --method: kmeans or agglomerative, for hungarian, oracle, mbo"),
]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="a recipe's setting, such as cluster.k=8; may be repeated"),
]
KOption = Annotated[Optional[int], typer.Option(help="number of clusters")]  # noqa: UP045
JsonOption = Annotated[bool, typer.Option("--json", help="end with one JSON object on one line")]


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FslabError as error:
        print(f"fslab: {error}", file=sys.stderr)
        raise SystemExit(2) from error


@app.command()
def segment(
    pictures: Annotated[list[Path], typer.Argument(help="picture files")],
    out: Annotated[Path, typer.Option(help="the folder to write to")],
    preset: PresetOption = "mini",
    method: MethodOption = "freeseg-diff",
    backbone: BackboneOption = None,
    classes: Annotated[str, typer.Option(help='look for these only, such as "dog,cat"')] = "",
    open_words: Annotated[
        bool, typer.Option("--open", help="words outside the vocabulary count as classes too")
    ] = False,
    settings: SetOption = None,
) -> None:
    """Write an index PNG, an overlay PNG and a JSON for each picture."""
    from fslab.cli.segment import segment_files
    from fslab.lab import Lab

    recipe = chosen_recipe(method, None, None, parse_settings(settings or []))
    if open_words:
        recipe = recipe.change({"caption.words": "open"})
    names = tuple(word.strip() for word in classes.split(",") if word.strip())
    segment_files(Lab(preset, backbone), pictures, recipe, names, open_words, out)


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="a dataset's folder")],
    split: Annotated[str, typer.Option(help="the split's name")] = "val",
    format: Annotated[str, typer.Option(help="voc or coco")] = "voc",
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    method: MethodOption = "freeseg-diff",
    cluster: ClusterOption = None,
    k: KOption = None,
    settings: SetOption = None,
    metric: Annotated[
        str, typer.Option(help="voc21, voc20, per-image, hungarian, oracle or mbo")
    ] = "voc21",
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="keep each picture's result here, and go on from what is there"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a method on a dataset with truth."""
    from fslab import datasets
    from fslab.evaluate import evaluate as run
    from fslab.lab import Lab
    from fslab.score import find_metric

    if find_metric(metric).needs == "guess" and cluster:
        raise FslabError(
            f"--cluster names no pixels, and metric {metric} counts names; "
            "take --metric hungarian, oracle or mbo, or a --method"
        )
    recipe = chosen_recipe(method, cluster, k, parse_settings(settings or []))
    data = datasets.load(dataset, split, format)
    report = run(Lab(preset, backbone), data, recipe, metric, limit, out)
    if as_json:
        print(json.dumps(report.to_dict()))
        return
    title = f"{report.method} on {report.dataset} {report.split}, {report.backbone}"
    _print_score(report.score, title)


@app.command()
def score(
    pred_dir: Annotated[Path, typer.Argument(help="index PNGs to score")],
    truth_dir: Annotated[Path, typer.Argument(help="index PNGs of the truth, same names")],
    metric: Annotated[
        str, typer.Option(help="voc21, voc20, per-image, hungarian, oracle or mbo")
    ] = "voc21",
    vocabulary: Annotated[str, typer.Option(help="voc or coco: whose labels they are")] = "voc",
    as_json: JsonOption = False,
) -> None:
    """Score index PNGs of any origin."""
    from fslab.datasets import COCO_OBJECT, VOC, mask_pairs
    from fslab.score import find_metric, score_pairs

    find_metric(metric)
    known = {"voc": VOC, "coco": COCO_OBJECT}
    if vocabulary not in known:
        raise FslabError(f"vocabulary is {vocabulary!r}; it is one of {', '.join(known)}")
    found = score_pairs(mask_pairs(pred_dir, truth_dir), known[vocabulary].names, metric)
    if as_json:
        print(json.dumps({
            "predictions": str(pred_dir), "truth": str(truth_dir), "images": found.images,
            "metric": found.metric, "protocol": found.note, "miou": found.miou,
            "iou": dict(found.iou), "absent": list(found.absent),
        }))  # fmt: skip
        return
    _print_score(found, f"{pred_dir} against {truth_dir}")


@app.command()
def layers(
    preset: Annotated[str, typer.Argument(help="a preset, or a folder of weights")] = "mini",
    backbone: BackboneOption = None,
    pattern: Annotated[str, typer.Option(help="only layers that this fits, such as '*to_q'")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List a backbone's layers with channels and stride."""
    from fslab.backbones import pick_layers
    from fslab.lab import Lab

    lab = Lab(preset, backbone)
    found = pick_layers([pattern], lab.layers())
    if as_json:
        print(json.dumps([vars(layer) for layer in found]))
        return
    read = {layer.path for layer in pick_layers(lab.backbone.default_layers, lab.layers())}
    side = lab.backbone.resolution
    print(
        f"{lab.backbone.name}: {len(found)} layers; cells at {side} x {side} px; * read by default"
    )
    print(f"{'channels':>9} {'stride':>7} {'cells':>9}  path")
    for layer in found:
        cells = f"{side // layer.stride} x {side // layer.stride}"
        mark = "*" if layer.path in read else " "
        print(f"{layer.channels:9d} {layer.stride:7d} {cells:>9} {mark}{layer.path}")


@app.command()
def demo(
    dataset: Annotated[Path, typer.Argument(help="a dataset's folder in VOC layout")],
    out: Annotated[Path, typer.Option(help="the folder to write to")] = Path("out"),
    split: Annotated[str, typer.Option(help="the split's name")] = "val",
    preset: PresetOption = "mini",
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    pictures: Annotated[int, typer.Option(help="how many pictures the page shows")] = 24,
) -> None:
    """Evaluate the methods and their floors, and write a page of pictures."""
    from fslab import datasets
    from fslab.cli.demo import run_demo

    data = datasets.load(dataset, split)
    print(run_demo(data.limit(limit) if limit is not None else data, preset, pictures, out))


@app.command()
def doctor() -> None:
    """Say what is installed, which weights are there, and where the store is."""
    from fslab.cli.doctor import report

    print(report())


@app.command()
def cache(
    prune: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="drop what was used longest ago down to a size, such as 2GB or 0"),
    ] = None,
) -> None:
    """Show the store's place and size, and prune it."""
    from fslab.store import Store

    limit = parse_size(prune) if prune is not None else None
    store = Store()
    if limit is not None:
        dropped = store.prune(limit)
        print(f"{store.location}: dropped {dropped.entries} entries, {dropped.bytes / 1e6:.1f} MB")
    usage = store.usage()
    print(f"{store.location}: {usage.entries} entries, {usage.bytes / 1e6:.1f} MB")


@app.command()
def scenes(
    out_dir: Annotated[Path, typer.Argument(help="a folder that is not there yet, or is empty")],
    count: Annotated[int, typer.Option(help="how many scenes")] = 100,
    seed: Annotated[int, typer.Option(help="the same seed draws the same scenes")] = 0,
    hard: Annotated[bool, typer.Option(help="designs that the models never saw")] = False,
) -> None:
    """Draw scenes of the mini world in VOC layout, split val, with captions.tsv."""
    from fslab.mini.scenes import write

    if count < 1:
        raise FslabError(f"--count is {count}; it is a whole number from 1 up")
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FslabError(f"{out_dir} is there already; give a new folder, or an empty one")
    write(out_dir, count, seed, hard)
    print(f"{out_dir}: {count} scenes, split val")


def _print_score(found: object, title: str) -> None:
    print(f"{title}: {found.metric} {100 * found.miou:.1f} over {found.images} pictures")
    print(found.note)
    for name, value in found.iou.items():
        if value is not None:
            print(f"  {name:<14} {100 * value:5.1f}")
    if found.absent:
        print(f"  in neither map, so in no mean: {', '.join(found.absent)}")
