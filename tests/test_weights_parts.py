"""Models by their parts: what is missing, cut or pickled is named, and nothing broken is here."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
from hub_cache import IDS, rewrite, save_parts, write_preset
from safetensors.torch import load_file, save_file

from fslab.lab import Lab
from fslab.records import FslabError
from fslab.weights import files_needed, files_of, missing_parts

FILES = {
    "diffusion": (
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json", "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json", "model_index.json",
    ),
    "captioner": (
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "preprocessor_config.json",
    ),
    "clip": (
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "preprocessor_config.json",
    ),
}  # fmt: skip
EACH = [(part, name) for part, names in FILES.items() for name in names]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    cache = tmp_path_factory.mktemp("whole")
    write_preset(cache, folders)
    return cache


@pytest.fixture
def snapshots(whole, tmp_path, monkeypatch):
    """The snapshots of sd15's three models in a cache of this test's own, by kind."""
    cache = tmp_path / "hub"
    shutil.copytree(whole, cache, symlinks=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("FSLAB_WEIGHTS", str(tmp_path / "own"))
    return {
        part: next((cache / f"models--{name.replace('/', '--')}/snapshots").iterdir())
        for part, name in IDS.items()
    }


def refusal(run) -> str:
    """Return why sd15 cannot be opened, which `fslab doctor` says too."""
    with pytest.raises(FslabError) as refused:
        Lab("sd15")
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith("sd15 cannot be opened: ")
    assert "`fslab fetch sd15`" in said
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "sd15   cannot be opened; `fslab fetch sd15` mends it" in out
    return said


def test_whole_parts_are_here(snapshots, run):
    assert Lab("sd15").preset.name == "sd15"
    out = run("doctor")[1]
    assert "sd15   here, all parts" in out
    assert "sd14   cannot be opened; `fslab fetch sd14` mends it" in out  # it shares BLIP and CLIP
    assert "CompVis/stable-diffusion-v1-4 is not here, 4.3 GB" in out


@pytest.mark.parametrize(("part", "name"), EACH)
def test_each_missing_file_is_named(snapshots, run, part, name):
    (snapshots[part] / name).unlink()
    said = refusal(run)
    assert f"{IDS[part]} (" in said
    assert Path(name).name.split(".")[0] in said
    assert "missing" in said or "holds no" in said or "there is no" in said


@pytest.mark.parametrize(("part", "name"), EACH)
@pytest.mark.parametrize("listed", [True, False])
def test_each_cut_file_is_named(snapshots, run, part, name, listed):
    """listed: the client's listing, which older ones do not write, says how long it should be."""
    path = snapshots[part] / name
    rewrite(path, path.read_bytes()[:-40])
    if not listed:
        shutil.rmtree(path.parents[name.count("/")].parents[1] / "trees")
    said = refusal(run)
    assert f"{IDS[part]} (" in said
    assert f"{name} is" in said


SPOILT = {
    "empty": lambda data: b"",
    "a pointer of Git LFS": lambda data: (
        b"version https://git-lfs.example/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"
    ),
    "garbage": lambda data: b"\x00\xff" * (len(data) // 2),
    "a list": lambda data: b"[]",
    "a page of HTML": lambda data: b"<!doctype html><p>Not found",
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("diffusion", "unet/diffusion_pytorch_model.safetensors"), ("captioner", "config.json"),
        ("diffusion", "tokenizer/tokenizer.json"), ("clip", "model.safetensors"),
    ],
)  # fmt: skip
def test_each_spoilt_file_is_named(snapshots, run, part, name, how):
    path = snapshots[part] / name
    rewrite(path, SPOILT[how](path.read_bytes()))
    shutil.rmtree(path.parents[name.count("/")].parents[1] / "trees")
    said = refusal(run)
    assert f"{name} is" in said
    assert ("is a Git LFS pointer" in said) == (how == "a pointer of Git LFS")


@pytest.fixture
def slow_tokenizer(snapshots):
    """The diffusion model's tokenizer as old repositories have it: a vocabulary and its merges."""
    folder = snapshots["diffusion"] / "tokenizer"
    fast = json.loads((folder / "tokenizer.json").read_text())["model"]
    listing = next(snapshots["diffusion"].parents[1].glob("trees/*"))
    listed = json.loads(listing.read_text())
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in fast["merges"]), ""])
    for name, text in (("vocab.json", json.dumps(fast["vocab"])), ("merges.txt", merges)):
        (folder / name).write_text(text)
        listed["files"][f"tokenizer/{name}"] = {"size": len(text), "blob_id": "0" * 40}
    listing.write_text(json.dumps(listed))
    (folder / "tokenizer.json").unlink()
    return folder


def test_a_slow_tokenizer_is_enough(slow_tokenizer, folders):
    expected = Lab(folders["diffusion"]).backbone.text_states("a photo of dog")
    assert (Lab("sd15").backbone.text_states("a photo of dog") == expected).all()


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_slow_tokenizer_s_missing_and_cut_files_are_named(slow_tokenizer, run, name):
    path = slow_tokenizer / name
    path.write_text(path.read_text()[:-8])
    assert f"tokenizer/{name} is " in refusal(run)
    path.unlink()
    assert f"tokenizer/{name} is missing" in refusal(run)


def empty_snapshot(repository: Path) -> None:
    shutil.rmtree(next(repository.glob("snapshots/*")))
    (repository / "snapshots" / ("0" * 40)).mkdir()


def dangling_snapshot(repository: Path) -> None:
    snapshot = next(repository.glob("snapshots/*"))
    shutil.rmtree(snapshot)
    snapshot.symlink_to("nowhere")


def stopped_fetch(repository: Path) -> None:
    """Leave a blob under the name that a fetch gives it while it runs."""
    blob = next(repository.glob("snapshots/*/unet/*.safetensors")).resolve()
    blob.rename(f"{blob}.incomplete")


STATES = {
    "an empty snapshot": empty_snapshot,
    "a snapshot that is a link to nowhere": dangling_snapshot,
    "a stopped fetch": stopped_fetch,
    "blobs alone": lambda repository: shutil.rmtree(repository / "snapshots"),
    "snapshots alone": lambda repository: shutil.rmtree(repository / "blobs"),
    "an empty repository": lambda repository: [
        shutil.rmtree(path) for path in repository.iterdir()
    ],
    "a file for a repository": lambda repository: (
        shutil.rmtree(repository), repository.write_text("a file"),
    ),
    "a file for snapshots": lambda repository: (
        shutil.rmtree(repository / "snapshots"), (repository / "snapshots").write_text("a file"),
    ),
    "a file for a part": lambda repository: (
        shutil.rmtree(next(repository.glob("snapshots/*/vae"))),
        (next(repository.glob("snapshots/*")) / "vae").write_text("a file"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_no_state_of_a_repository_passes_for_a_model(snapshots, run, state):
    STATES[state](snapshots["diffusion"].parents[1])
    assert f"{IDS['diffusion']} (diffusion model, 4.3 GB) is not" in refusal(run)


@pytest.mark.parametrize(("part", "name"), EACH[:2])
def test_links_to_nowhere_and_folders_for_files_are_named(snapshots, run, part, name):
    path = snapshots[part] / name
    path.resolve().unlink()
    assert "a link to a file that is not there" in refusal(run)
    path.unlink()
    path.mkdir()
    assert name.split("/")[1].split(".")[0] in refusal(run)


def test_a_listing_that_cannot_be_read_changes_nothing(snapshots):
    listing = next(snapshots["clip"].parents[1].glob("trees/*"))
    for text in ("", "{", "[]", '{"files": [1]}', '{"files": {"config.json": {"size": "x"}}}'):
        listing.write_text(text)
        assert Lab("sd15").preset.name == "sd15"


def test_pickled_weights_alone_are_not_here(snapshots, run):
    path = snapshots["captioner"] / "model.safetensors"
    path.rename(path.with_name("pytorch_model.bin"))
    assert "holds pickled weights only (pytorch_model.bin)" in refusal(run)


def test_everything_that_is_wrong_is_said_at_once(snapshots, run):
    (snapshots["diffusion"] / "vae/config.json").unlink()
    (snapshots["captioner"] / "tokenizer.json").unlink()
    shutil.rmtree(snapshots["clip"].parents[1])
    said = refusal(run)
    for part in (
        "vae/config.json is missing",
        "tokenizer.json",
        f"{IDS['clip']} (CLIP, 0.6 GB) is not",
    ):
        assert part in said
    assert said.count("fslab fetch") == 1


def shard(path: Path, variant: str = "") -> tuple[Path, Path]:
    """Replace weights by two shards and their index; return the shards."""
    tensors, stem = load_file(path), path.name.partition(".")[0]
    names = sorted(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    shards = tuple(path.with_name(f"{stem}{variant}-0000{n}-of-00002.safetensors") for n in (1, 2))
    where = {}
    for place, half in zip(shards, halves, strict=True):
        save_file({name: tensors[name] for name in half}, place, metadata={"format": "pt"})
        where |= dict.fromkeys(half, place.name)
    index = path.with_name(f"{stem}.safetensors.index{variant}.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    path.unlink()
    return shards


@pytest.mark.parametrize("variant", ["", ".fp16"])
@pytest.mark.parametrize(
    ("part", "name"),
    [("diffusion", "unet/diffusion_pytorch_model.safetensors"), ("captioner", "model.safetensors")],
)
def test_shards_are_read_and_a_missing_one_is_named(
    snapshots, run, picture, folders, part, name, variant
):
    shards = shard(snapshots[part] / name, variant)
    lab = Lab("sd15")
    if part == "diffusion":
        layer = "down_blocks.1"
        expected = Lab(folders["diffusion"]).extract(picture, [layer])[layer]
        assert (lab.extract(picture, [layer])[layer] == expected).all()
    else:
        assert lab.captioner is not None
    shards[1].unlink()
    assert f"names {shards[1].name!r}, which is not there" in refusal(run)


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../../x.safetensors"}}']
)
def test_an_index_that_leads_nowhere_is_named(snapshots, run, text):
    path = snapshots["diffusion"] / "unet/diffusion_pytorch_model.safetensors"
    shard(path)
    path.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(text)
    assert "index.json" in refusal(run)


@pytest.mark.parametrize("beside", ["", ".non_ema"])
def test_half_precision_alone_is_enough(snapshots, folders, picture, beside):
    for part in ("unet", "vae"):
        path = snapshots["diffusion"] / part / "diffusion_pytorch_model.safetensors"
        if beside:
            shutil.copy(path, path.with_name(f"diffusion_pytorch_model{beside}.safetensors"))
        path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    path = snapshots["diffusion"] / "text_encoder/model.safetensors"
    path.rename(path.with_name("model.fp16.safetensors"))
    layer = "down_blocks.1"
    expected = Lab(folders["diffusion"]).extract(picture, [layer])[layer]
    assert (Lab("sd15").extract(picture, [layer])[layer] == expected).all()


def test_weights_under_another_name_are_not_here(snapshots, run):
    path = snapshots["diffusion"] / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    said = refusal(run)
    assert "holds no diffusion_pytorch_model.safetensors file" in said
    assert "diffusion_pytorch_model.non_ema.safetensors" in said


@pytest.mark.parametrize(
    ("names", "precision", "chosen"),
    [
        (("m", "m.fp16", "m.non_ema"), "fp32", "m"),
        (("m", "m.fp16"), "fp16", "m.fp16"),
        (("m.fp16", "m.non_ema", "ema"), "fp32", "m.fp16"),
        (("m", "zz"), "fp16", "m"),
    ],
)
@pytest.mark.parametrize("stem", ["diffusion_pytorch_model", "model"])
def test_the_files_of_a_part_are_those_that_are_loaded(tmp_path, names, precision, chosen, stem):
    is_diffusers = stem.startswith("diffusion")
    config = {"_class_name": "UNet2DConditionModel"} if is_diffusers else {"model_type": "clip"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in names:
        data = struct.pack("<Q", 2) + b"{}"
        (tmp_path / f"{name.replace('m', stem, 1)}.safetensors").write_bytes(data)
    (found,) = files_of(tmp_path, precision=precision)
    assert found.name == f"{chosen.replace('m', stem, 1)}.safetensors"
    repository = [f"unet/{path.name}" if is_diffusers else path.name for path in tmp_path.iterdir()]
    wanted = files_needed(repository, "diffusion" if is_diffusers else "vision", precision)
    assert [name for name in wanted if name.endswith(".safetensors")] == [
        f"unet/{found.name}" if is_diffusers else found.name
    ]


@pytest.mark.parametrize(
    ("stem", "chosen"), [("diffusion_pytorch_model", "shard"), ("model", "model")]
)
def test_beside_an_index_each_library_has_its_own_choice(folders, tmp_path, stem, chosen):
    """diffusers goes by the index, transformers by the whole file; the choice here is theirs."""
    part = "unet" if stem.startswith("diffusion") else "text_encoder"
    folder = shutil.copytree(folders["diffusion"] / part, tmp_path / part)
    whole, shard = folder / f"{stem}.safetensors", folder / "shard.safetensors"
    tensors = load_file(whole)
    save_file(
        {name: value + 1 for name, value in tensors.items()}, shard, metadata={"format": "pt"}
    )
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, shard.name)}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    (found,) = files_of(folder)
    assert found.stem == ("shard" if chosen == "shard" else stem)
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    kind = UNet2DConditionModel if part == "unet" else CLIPTextModel
    loaded = kind.from_pretrained(folder, use_safetensors=True).state_dict()
    name = min(loaded)
    expected = next(value for key, value in load_file(found).items() if key.endswith(name))
    assert (loaded[name] == expected).all()


def test_of_a_repository_only_what_is_needed_is_named():
    stem = "diffusion_pytorch_model"
    unet = [f"unet/{stem}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
    names = [
        "README.md", "model_index.json", "v1-5-pruned.ckpt", "v1-5-pruned-emaonly.safetensors",
        "unet/config.json", f"unet/{stem}.bin", f"unet/{stem}.non_ema.safetensors", *unet,
        f"unet/{stem}.safetensors.index.fp16.json", "vae/config.json", f"vae/{stem}.safetensors",
        f"vae/{stem}.fp16.safetensors", "text_encoder/pytorch_model.bin",
        "text_encoder_2/config.json", "text_encoder_2/model.safetensors", "tokenizer/merges.txt",
        "tokenizer/vocab.json", "tokenizer/tokenizer_config.json", "tokenizer_2/merges.txt",
        "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json",
        "scheduler/scheduler_config.json",
    ]  # fmt: skip
    assert set(files_needed(names, "diffusion", "fp16")) == {
        "model_index.json", "unet/config.json", *unet, f"unet/{stem}.safetensors.index.fp16.json",
        "vae/config.json", f"vae/{stem}.fp16.safetensors", "text_encoder_2/config.json",
        "text_encoder_2/model.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json",
        "tokenizer/tokenizer_config.json", "tokenizer_2/merges.txt",
        "scheduler/scheduler_config.json",
    }  # fmt: skip


def test_a_second_text_encoder_is_asked_of_sdxl_only(diffusion_folders, tmp_path):
    folder = shutil.copytree(diffusion_folders["sdxl"], tmp_path / "sdxl")
    assert missing_parts(folder, "diffusion") == ()
    for part in ("text_encoder_2", "tokenizer_2"):
        shutil.rmtree(folder / part)
    assert {fault.part for fault in missing_parts(folder, "diffusion")} == {
        "text_encoder_2", "tokenizer_2",
    }  # fmt: skip
    assert missing_parts(diffusion_folders["sd1"], "diffusion") == ()


@pytest.mark.parametrize("kind", ["dinov2", "vit", "clip"])
def test_a_vision_transformer_has_weights_and_a_processor(vision_folders, tmp_path, kind):
    folder = shutil.copytree(vision_folders[kind], tmp_path / kind)
    assert missing_parts(folder, "backbone") == ()
    (folder / "preprocessor_config.json").unlink()
    (folder / "model.safetensors").unlink()
    assert [fault.part for fault in missing_parts(folder, "backbone")] == ["weights", "processor"]


@pytest.mark.parametrize(
    ("backbone", "without", "opens"),
    [
        ("rgb", "unet/diffusion_pytorch_model.safetensors", True),
        ("rgb", "vae/diffusion_pytorch_model.safetensors", True),
        ("rgb", "text_encoder/model.safetensors", False),
        ("random", "unet/diffusion_pytorch_model.safetensors", True),
        ("random", "vae/diffusion_pytorch_model.safetensors", False),
    ],
)
def test_only_what_the_lab_can_use_is_asked_for(snapshots, run, picture, backbone, without, opens):
    (snapshots["diffusion"] / without).unlink()
    refusal(run)
    if opens:
        result = Lab("sd15", backbone=backbone).segment(picture)
        assert result.labels.size == picture.size
    else:
        with pytest.raises(FslabError, match="is not whole"):
            Lab("sd15", backbone=backbone)


def test_a_lab_without_its_text_side_reads_features(snapshots, picture):
    for part in ("captioner", "clip"):
        shutil.rmtree(snapshots[part].parents[1])
    lab = Lab("sd15", captioner=None, clip=None)
    segments = lab.cluster(lab.extract(picture), k=2)
    with pytest.raises(FslabError, match=r"opened without a captioner \(captioner=None\)"):
        lab.caption(picture)
    with pytest.raises(FslabError, match=r"opened without a CLIP \(clip=None\)"):
        lab.match(picture, segments, ["dog"])
    with pytest.raises(FslabError, match="clip is empty"):
        Lab("sd15", clip=" ")
