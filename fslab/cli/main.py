"""The commands. A refusal is one sentence on stderr and exit code 2."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from fslab import __version__
from fslab.cli.options import check_is_new, chosen_recipe, local_folder, parse_settings, parse_size
from fslab.lab.models import PRESETS_OWN
from fslab.lab.presets import DEFAULT as DEFAULT_PRESET
from fslab.lab.recipes import clustering_names
from fslab.process import memory_refused
from fslab.records import FslabError

app = typer.Typer(
    help="See what a text-to-image diffusion model knows about a picture, and name its parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_NAMED = 10
"""So many missing files are named."""

PresetOption = Annotated[
    str,
    typer.Option(
        help="mini, sd14, sd15, sd21, sdxl, ssd1b, pixart-alpha, pixart-sigma, sana-600m, "
        "sana-1600m, a folder, one file, or a hub id in the cache",
        envvar=DEFAULT_PRESET,
    ),
]
BackboneOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it so on every version
    typer.Option(
        help="features from elsewhere: a folder, a hub id in the cache, rgb, handmade or random"
    ),
]
CaptionerOption = Annotated[
    str, typer.Option(help="another BLIP: a folder, or a hub id in the cache")
]
ClipOption = Annotated[str, typer.Option(help="another CLIP: a folder, or a hub id in the cache")]
EncoderOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="a folder of a tiny autoencoder (AutoencoderTiny) in the VAE's place"),
]
PrecisionOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="fp32, fp16 or bf16; fp32 on a CPU and fp16 on a GPU if left out"),
]
BatchOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        help="pictures that pass at once through the networks; if left out 1 on a CPU, 8 on a GPU"
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(help="freeseg-diff, fslab, diffcut, diffseg, dslo, goca, corrclip-sd or fa-seg"),
]
ClusterOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help=f"instead of --method, for hungarian, oracle, mbo: {', '.join(clustering_names())}"
    ),
]
RecipeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--recipe", help="instead of --method: a recipe file, as `fslab tune` writes"),
]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="a recipe's setting, such as cluster.k=8; may be repeated"),
]
KOption = Annotated[Optional[int], typer.Option(help="number of clusters")]  # noqa: UP045
JsonOption = Annotated[bool, typer.Option("--json", help="end with one JSON object on one line")]


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a screen without some letters
    with warnings.catch_warnings():
        warnings.showwarning = partial(_say_warning, warnings.showwarning)
        try:
            with memory_refused("this command"):
                app()
        except (FslabError, Warning) as error:  # warnings are errors by -W error alone
            print(f"fslab: {_said(error)}", file=sys.stderr)
            raise SystemExit(2) from error


def _said(error: Exception) -> str:
    """Return what a refusal says; of many missing files, how many they are and the first."""
    from fslab.datasets import MissingFiles

    if not isinstance(error, MissingFiles) or len(error.names) <= _NAMED:
        return str(error)
    first = ", ".join(map(repr, error.names[:_NAMED]))
    return f"{error.sentence}: {first} and {len(error.names) - _NAMED} more"


def _say_warning(otherwise: Callable[..., None], message: Warning | str, *where: Any) -> None:
    """Say fslab's own warnings as it says all else: one sentence on stderr, without its place."""
    if type(message).__module__.startswith("fslab"):
        print(f"fslab: {message}", file=sys.stderr)
    else:
        otherwise(message, *where)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fslab {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say it and end")
    ] = False,
) -> None:
    """Take what stands before a command."""


@app.command()
def segment(
    pictures: Annotated[list[Path], typer.Argument(help="picture files, or folders of them")],
    out: Annotated[str, typer.Option(help="the folder to write to")],
    preset: PresetOption = "mini",
    method: MethodOption = "freeseg-diff",
    recipe_file: RecipeOption = None,
    backbone: BackboneOption = None,
    classes: Annotated[
        str | None, typer.Option(help='look for these only, such as "dog,cat"')
    ] = None,
    open_words: Annotated[
        bool, typer.Option("--open", help="words outside the vocabulary count as classes too")
    ] = False,
    settings: SetOption = None,
    precision: PrecisionOption = None,
    captioner: CaptionerOption = PRESETS_OWN,
    clip: ClipOption = PRESETS_OWN,
    encoder: EncoderOption = None,
    batch: BatchOption = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="also write what fslab.exports.write_masks does: coco, panoptic, label-studio or "
            "fiftyone; may be repeated",
        ),
    ] = None,
) -> None:
    """Write an index PNG, an overlay PNG and a JSON for each picture that can be read.

    Of a folder, or several pictures, also one table (classes.csv) and a contact sheet
    (contact.html). What is there already, made the same way, is not made again.
    """
    from fslab.cli.segment import segment_files
    from fslab.lab import Lab

    folder = local_folder(out)
    recipe = chosen_recipe(method, None, None, parse_settings(settings or []), recipe_file)
    if open_words:
        recipe = recipe.change({"caption.words": "open"})
    names = tuple(word.strip() for word in (classes or "").split(",") if word.strip())
    if classes is not None and not names:
        raise FslabError(f"--classes {classes!r} names none; leave it out to ask the captioner")
    models = {"captioner": captioner, "clip": clip, "precision": precision, "encoder": encoder}
    lab = Lab(preset, backbone, **models)
    segment_files(
        lab, pictures, recipe, names, open_words, folder, batch=batch, formats=formats or ()
    )


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Argument(help="a dataset's folder, or an fsspec url of one")],
    split: Annotated[str, typer.Option(help='the split\'s name, or several: "train+val"')] = "val",
    format: Annotated[str, typer.Option(help="voc or coco")] = "voc",
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    method: MethodOption = "freeseg-diff",
    recipe_file: RecipeOption = None,
    cluster: ClusterOption = None,
    k: KOption = None,
    settings: SetOption = None,
    metric: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the figure that comes first; voc21, or coco-object, if left out"),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="keep results here with a page, and go on from what is there"),
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="leave out listed files that are not there")
    ] = False,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="so many processes on this machine"),
    ] = None,
    dask: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the workers of a Dask scheduler, such as tcp://10.0.0.1:8786"),
    ] = None,
    as_json: JsonOption = False,
    precision: PrecisionOption = None,
    captioner: CaptionerOption = PRESETS_OWN,
    clip: ClipOption = PRESETS_OWN,
    encoder: EncoderOption = None,
    batch: BatchOption = None,
) -> None:
    """Score a method on a dataset by every protocol; a folder without truth gives pictures."""
    from fslab.cli import evaluate as work
    from fslab.evaluate.workers import connected
    from fslab.lab import Lab

    folder = local_folder(out)
    recipe = chosen_recipe(method, cluster, k, parse_settings(settings or []), recipe_file)
    data = work.open_set(dataset, split, format, skip_missing)
    models = {"captioner": captioner, "clip": clip, "precision": precision, "encoder": encoder}
    lab = Lab(preset, backbone, **models)
    if not any(sample.has_truth for sample in data):
        work.draw_set(lab, data, recipe, limit, folder, named=cluster is None, batch=batch)
        return
    metric = work.chosen_metric(metric, data, cluster)
    with connected(dask, workers) as client:
        work.evaluate_set(
            lab, data, recipe, metric, limit, folder, client=client, as_json=as_json, batch=batch
        )


@app.command()
def check(
    dataset: Annotated[str, typer.Argument(help="a dataset's folder, or an fsspec url of one")],
    split: Annotated[str, typer.Option(help='the split\'s name, or several: "train+val"')] = "val",
    format: Annotated[str, typer.Option(help="voc or coco")] = "voc",
) -> None:
    """Read a whole dataset and say what it holds: exit 0, or 1 where something is odd."""
    from fslab.cli.check import check_set

    raise typer.Exit(check_set(dataset, split, format))


@app.command()
def ablate(
    file: Annotated[Path, typer.Argument(help="a TOML file of recipes")],
    dataset: Annotated[str, typer.Option(help="a dataset's folder, or an fsspec url of one")],
    split: Annotated[Optional[str], typer.Option(help="the split, if not the file's")] = None,  # noqa: UP045
    format: Annotated[str, typer.Option(help="voc or coco")] = "voc",
    preset: PresetOption = "mini",
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="write table and figure here, and go on from what is there"),
    ] = None,
    precision: PrecisionOption = None,
) -> None:
    """Compare recipes over the same pictures, each with what it gains over the first."""
    from fslab.cli.ablate import ablate_file

    ablate_file(
        file, dataset, split, format=format, preset=preset, limit=limit, out=local_folder(out),
        precision=precision,
    )  # fmt: skip


@app.command()
def tune(
    pictures: Annotated[str, typer.Argument(help="a folder of pictures; with --split a data set")],
    out: Annotated[str, typer.Option(help="the folder for the page, the table and the recipe")],
    split: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="tune on this split of a data set in VOC layout"),
    ] = None,
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    method: Annotated[str, typer.Option(help="what is tuned: fslab, freeseg-diff, ...")] = "fslab",
    recipe_file: RecipeOption = None,
    cluster: ClusterOption = None,
    settings: SetOption = None,
    layers: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--layer",
            help="a path or a pattern, each a choice; may be repeated; the network's blocks if "
            "left out",
        ),
    ] = None,
    timesteps: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option("--timestep", help="0 to 999; may be repeated; six up to 500 if left out"),
    ] = None,
    ks: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option("--k", help="a number of segments; may be repeated; 4, 6, 8, 12 if left out"),
    ] = None,
    criteria: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--criterion",
            help="silhouette, stability, contours, divergence, or package.module:function; may be "
            "repeated; contours and stability if left out",
        ),
    ] = None,
    masks: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="a folder of index PNGs of some of the pictures; they decide then"),
    ] = None,
    metric: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="by masks, or the split's: hungarian, mbo, oracle, boundary"),
    ] = None,
    first: Annotated[int, typer.Option(help="pictures of the first round")] = 4,
    limit: Annotated[Optional[int], typer.Option(help="so many pictures at most")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(help="of the order in which pictures come")] = 0,
    precision: PrecisionOption = None,
    encoder: EncoderOption = None,
) -> None:
    """Find the layer, the timestep and K that suit pictures; write a page and a recipe file."""
    from fslab.cli.tune import tune_folder
    from fslab.lab import Lab

    folder = local_folder(out)
    recipe = chosen_recipe(method, cluster, None, parse_settings(settings or []), recipe_file)
    models = {"captioner": None, "clip": None, "precision": precision, "encoder": encoder}
    lab = Lab(preset, backbone, **models)
    said = tune_folder(
        lab, pictures, split, recipe, folder, layers=layers or (), timesteps=timesteps or (),
        ks=ks or (), criteria=criteria or (), masks=masks, metric=metric, first=first, limit=limit,
        seed=seed,
    )  # fmt: skip
    print(said)


@app.command()
def score(
    pred_dir: Annotated[str, typer.Argument(help="index PNGs to score, a folder or a url")],
    truth_dir: Annotated[str, typer.Argument(help="index PNGs of the truth, same names")],
    metric: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="one figure only, such as voc21 or boundary; all that apply if left out"),
    ] = None,
    vocabulary: Annotated[
        str,
        typer.Option(
            help="whose labels: voc, coco, or a file with a class a line, background first"
        ),
    ] = "voc",
    draws: Annotated[int, typer.Option(help="resamples for the intervals, 0 for none")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Score index PNGs of any origin, by every protocol that applies."""
    from fslab.cli import score as scoring

    scores = scoring.score_folders(pred_dir, truth_dir, metric, vocabulary, draws)
    write = scoring.as_json if as_json else scoring.as_text
    print(write(scores, pred_dir, truth_dir))


@app.command()
def keypoints(
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    layers: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--layer",
            help="a path or a pattern, each layer by itself; may be repeated; a UNet's "
            "blocks, or the backbone's own layers, if left out",
        ),
    ] = None,
    timesteps: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option("--timestep", help="0 to 999; may be repeated; the preset's if left out"),
    ] = None,
    count: Annotated[int, typer.Option("--pairs", help="how many pairs of scenes")] = 100,
    seed: Annotated[int, typer.Option(help="the same seed draws the same pairs")] = 0,
    hard: Annotated[bool, typer.Option(help="designs that the models never saw")] = False,
    temperature: Annotated[
        float, typer.Option(help="0 for the most like pixel, else of the soft-argmax")
    ] = 0.0,
    draws: Annotated[int, typer.Option(help="draws of noise averaged")] = 1,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="write the table here, as CSV"),
    ] = None,
    precision: PrecisionOption = None,
) -> None:
    """Score how well points are found in another picture (PCK), on pairs of mini's scenes."""
    from fslab.cli.keypoints import Order, score_preset

    order = Order(tuple(layers or ()), tuple(timesteps or ()), temperature, draws)
    print(score_preset(preset, backbone, precision, count, seed, hard, order, out))


@app.command()
def instances(
    dataset: Annotated[
        str, typer.Argument(help="a folder with SegmentationObject, as scenes --touching writes it")
    ],
    split: Annotated[str, typer.Option(help="the split's name")] = "val",
    method: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="whose named pixels are parted; the truth's own if left out"),
    ] = None,
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="a setting of the parting, threshold=0.7; may be repeated"),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    precision: PrecisionOption = None,
) -> None:
    """Score how well touching things are told apart (PQ), beside what knows nothing of them."""
    from fslab.cli.evaluate import open_set
    from fslab.cli.instances import score_preset

    data = open_set(dataset, split, "voc").limit(limit)
    print(score_preset(preset, backbone, precision, data, method, parse_settings(settings or [])))


@app.command()
def cosegment(
    dataset: Annotated[
        str, typer.Argument(help="a dataset's folder, or one of pictures, or an fsspec url of one")
    ],
    split: Annotated[str, typer.Option(help="the split's name")] = "val",
    format: Annotated[str, typer.Option(help="voc or coco")] = "voc",
    k: Annotated[int, typer.Option(help="clusters of all pictures together")] = 8,
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    layers: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--layer", help="a path or a pattern; may be repeated; the preset's if left out"
        ),
    ] = None,
    timestep: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="0 to 999; the preset's if left out"),
    ] = None,
    normalise: Annotated[str, typer.Option(help="none, or l2 for cells of unit length")] = "none",
    seed: Annotated[int, typer.Option(help="of the cells that are drawn, and of k-means")] = 0,
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="write an index PNG of each picture here"),
    ] = None,
    precision: PrecisionOption = None,
) -> None:
    """Cluster pictures together: one label is the same part in all; scored where there is truth."""
    from fslab.cli.cosegment import cosegment_set
    from fslab.cli.evaluate import open_set
    from fslab.lab import Lab

    folder = local_folder(out)
    data = open_set(dataset, split, format).limit(limit)
    lab = Lab(preset, backbone, captioner=None, clip=None, precision=precision)
    settings = {"layers": tuple(layers or ()), "timesteps": timestep}
    cosegment_set(lab, data, k, folder, normalise=normalise, seed=seed, **settings)


@app.command()
def bank(
    pictures: Annotated[str, typer.Argument(help="a folder of pictures, which need no labels")],
    out: Annotated[str, typer.Option(help="the file, *.safetensors; one that is there goes on")],
    preset: PresetOption = "mini",
    backbone: BackboneOption = None,
    method: Annotated[
        str, typer.Option(help="whose features and segments are taken: fslab, freeseg-diff, ...")
    ] = "fslab",
    recipe_file: RecipeOption = None,
    settings: SetOption = None,
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    precision: PrecisionOption = None,
    encoder: EncoderOption = None,
) -> None:
    """Make a bank of the regions of pictures, which helps to name those of other pictures."""
    from fslab.cli.bank import bank_of_folder
    from fslab.lab import Lab

    recipe = chosen_recipe(method, None, None, parse_settings(settings or []), recipe_file)
    models = {"captioner": None, "precision": precision, "encoder": encoder}
    print(bank_of_folder(Lab(preset, backbone, **models), pictures, recipe, out, limit))


@app.command()
def layers(
    preset: Annotated[
        str, typer.Argument(help="a preset, or a folder of weights", envvar=DEFAULT_PRESET)
    ] = "mini",
    backbone: BackboneOption = None,
    pattern: Annotated[str, typer.Option(help="only layers that this fits, such as '*to_q'")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List a backbone's layers with channels, heads and stride.

    A head is a layer of its own by its number, PATH#0; --pattern '*to_q#*' lists them.
    """
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
    print(f"{'channels':>9} {'heads':>6} {'stride':>7} {'cells':>9}  path")
    for layer in found:
        cells = f"{side // layer.stride} x {side // layer.stride}"
        mark = "*" if layer.path in read else " "
        heads = layer.heads or ""
        print(f"{layer.channels:9d} {heads:>6} {layer.stride:7d} {cells:>9} {mark}{layer.path}")


@app.command()
def demo(
    dataset: Annotated[str, typer.Argument(help="a dataset's folder in VOC layout, or its url")],
    out: Annotated[str, typer.Option(help="the folder to write to")] = "out",
    split: Annotated[str, typer.Option(help="the split's name")] = "val",
    preset: PresetOption = "mini",
    limit: Annotated[int, typer.Option(help="the first N pictures only")] = 50,
    pictures: Annotated[int, typer.Option(help="how many pictures the page shows")] = 24,
) -> None:
    """Evaluate the methods and their floors, and write a page of pictures."""
    from fslab import datasets
    from fslab.cli.demo import run_demo

    folder = local_folder(out)
    data = datasets.load(dataset, split)
    print(run_demo(data.limit(limit), preset, pictures, folder))


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="voc or coco")],
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="the data set's folder, if not where `fslab fetch` puts it"),
    ] = None,
    preset: Annotated[str, typer.Option(help="the published figures are sd14's")] = "sd14",
    limit: Annotated[Optional[int], typer.Option(help="the first N pictures only")] = None,  # noqa: UP045
    out: Annotated[
        str, typer.Option(help="results are kept here, and gone on from")
    ] = "out/reproduce",
) -> None:
    """Run the paper's settings by its own protocol and the standard one, beside its figures."""
    from fslab.cli.reproduce import reproduce as run

    print(run(name, data, preset, limit, local_folder(out)))


@app.command("app")
def serve_app(
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="what `fslab evaluate --out` wrote, to look through"),
    ] = None,
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="pictures to choose from, and those of the results; else drawn scenes"),
    ] = None,
    split: Annotated[str, typer.Option(help="the data set's split")] = "val",
    format: Annotated[str, typer.Option(help="voc or coco")] = "voc",
    preset: PresetOption = "mini",
    ip: Annotated[
        str, typer.Option(help="listen here; 0.0.0.0 lets others in, without a password")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8866,
    visitors: Annotated[
        int, typer.Option(min=1, help="at one time; each has a process, and memory, of their own")
    ] = 8,
    browser: Annotated[bool, typer.Option(help="open it in the browser")] = True,
) -> None:
    """Serve the explorers as a page: upload a picture, look at features, go through results."""
    from fslab.cli.app import serve_page

    serve_page(
        results, dataset, split=split, format=format, preset=preset, ip=ip, port=port,
        visitors=visitors, browser=browser,
    )  # fmt: skip


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
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="a preset but mini (sd15, pixart-sigma; `fslab doctor` lists them), a model of "
            "the hub by its id, or voc or coco"
        ),
    ],
    folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="where to put a data set, such as data or data/coco"),
    ] = None,
    captioner: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the id of another BLIP, instead of BLIP base"),
    ] = None,
    clip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the id of another CLIP, instead of CLIP ViT-B/32"),
    ] = None,
    precision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="fp32, or fp16 for files of half the size where the hub has them"),
    ] = None,
) -> None:
    """Download a preset's models into the hub's cache, or a real data set: checked, resumable."""
    from fslab.cli.fetch import fetch_named

    fetch_named(name, folder, captioner, clip, precision)


@app.command()
def notebooks(
    out_dir: Annotated[Path, typer.Argument(help="a folder that is not there yet, or is empty")],
) -> None:
    """Copy the numbered notebooks and mini-VOC, which they use, to work in."""
    from fslab.cli.notebooks import copy_notebooks

    count = copy_notebooks(out_dir)
    place = shlex.quote(str(out_dir / "notebooks"))
    print(f"{out_dir}: {count} notebooks; open them with: jupyter lab {place}")


@app.command()
def scenes(
    out_dir: Annotated[Path, typer.Argument(help="a folder that is not there yet, or is empty")],
    count: Annotated[int, typer.Option(help="how many scenes")] = 100,
    seed: Annotated[int, typer.Option(help="the same seed draws the same scenes")] = 0,
    hard: Annotated[bool, typer.Option(help="designs that the models never saw")] = False,
    touching: Annotated[
        bool, typer.Option(help="two objects of one class touch; with SegmentationObject")
    ] = False,
) -> None:
    """Draw scenes of the mini world in VOC layout, split val, with captions.tsv."""
    from fslab.mini.scenes import write
    from fslab.mini.touching import write_touching

    if count < 1:
        raise FslabError(f"--count is {count}; it must be a whole number from 1 up")
    check_is_new(out_dir)
    (write_touching if touching else write)(out_dir, count, seed, hard)
    print(f"{out_dir}: {count} scenes, split val")
