"""Folders of weights that are broken, or mean harm: refused in one sentence, and nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import noise_picture
from safetensors.torch import load_file, save_file

from fslab.backbones import open_backbone
from fslab.captions import load_captioner
from fslab.match import load_matcher
from fslab.records import Extraction, FslabError
from fslab.weights import files_of
from fslab.weights.trust import read_header

KINDS = ("diffusion", "vit", "dinov2", "blip", "clip")


def use(kind: str, folder: Path) -> object:
    """Open a folder and do what reads its weights first."""
    if kind == "blip":
        return load_captioner(folder)
    if kind == "clip":
        return load_matcher(folder)
    backbone = open_backbone(folder)
    layers = backbone.layers()
    picture = noise_picture(64, 64)
    size = backbone.input_size(picture, Extraction())
    return backbone.run(picture, size, {0: (layers[0].path,)}, Extraction())


@pytest.fixture(params=KINDS)
def model(request, diffusion_folders, vision_folders, blip, clip, tmp_path):
    """(kind, folder to open, folder of its weights), a copy that the test may spoil."""
    kind = request.param
    sources = {"diffusion": diffusion_folders["sd1"], "blip": blip, "clip": clip, **vision_folders}
    sources["clip"] = clip
    folder = shutil.copytree(sources[kind], tmp_path / "outer" / kind)
    return kind, folder, folder / "unet" if kind == "diffusion" else folder


def weights(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def refusal(kind: str, folder: Path) -> str:
    with pytest.raises(FslabError) as refused:
        use(kind, folder)
    said = str(refused.value)
    assert "\n" not in said
    assert str(folder) in said
    return said


class Touch:
    """An object whose pickle makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def write_pickle(path: Path, trace: Path) -> None:
    path.write_bytes(pickle.dumps(Touch(trace)))


def change(path: Path, **entries) -> None:
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, **entries}))


def index(folder: Path, names) -> None:
    """Replace the only weights by a shard and an index; names: the shard's name -> two names."""
    whole = weights(folder)
    keys = sorted(read_header(whole))
    shard = whole.with_name(f"{whole.stem}-00001-of-00001.safetensors")
    whole.rename(shard)
    first, others = names(shard.name)
    where = dict.fromkeys(keys, others) | {keys[0]: first}
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": where})
    (folder / f"{whole.stem}.safetensors.index.json").write_text(text)


def test_the_pickle_of_these_tests_does_harm(tmp_path):
    write_pickle(tmp_path / "harm.bin", tmp_path / "trace")
    pickle.loads((tmp_path / "harm.bin").read_bytes()).close()
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("ending", [".bin", ".ckpt", ".pt"])
def test_pickled_weights_are_refused_and_not_opened(model, tmp_path, ending):
    kind, folder, inner = model
    weights(inner).unlink()
    for name in ("pytorch_model", "diffusion_pytorch_model", "adapter_model"):
        write_pickle(inner / f"{name}{ending}", tmp_path / "trace")
    assert f"pickled weights only (adapter_model{ending}" in refusal(kind, folder)
    assert not (tmp_path / "trace").exists()


def test_pickles_beside_the_weights_are_not_opened(model, tmp_path):
    kind, folder, inner = model
    for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "training_args.bin"):
        write_pickle(inner / name, tmp_path / "trace")
    assert use(kind, folder) is not None
    assert not (tmp_path / "trace").exists()


def test_shards_beside_their_index_are_read(model):
    kind, folder, inner = model
    index(inner, lambda shard: (shard, shard))
    assert use(kind, folder) is not None


def test_an_index_names_files_beside_it_only(model, tmp_path):
    kind, folder, inner = model
    outside = shutil.copy(weights(inner), tmp_path / "outside.safetensors")
    relative = os.path.relpath(outside, inner)
    index(inner, lambda shard: (relative, shard))
    assert f"names {relative!r}, outside its folder" in refusal(kind, folder)
    path = next(inner.glob("*.index.json"))
    path.write_text(path.read_text().replace(relative, str(outside)))
    assert f"names {str(outside)!r}, outside its folder" in refusal(kind, folder)


def test_a_shard_that_is_not_there_is_named(model):
    kind, folder, inner = model
    index(inner, lambda shard: ("gone-00002.safetensors", shard))
    assert "names 'gone-00002.safetensors', which is not there" in refusal(kind, folder)


def test_an_index_leads_to_no_pickle(model, tmp_path):
    kind, folder, inner = model
    write_pickle(inner / "harm.bin", tmp_path / "trace")
    index(inner, lambda shard: ("harm.bin", shard))
    assert "names 'harm.bin'; fslab opens *.safetensors files only" in refusal(kind, folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}])
def test_an_index_without_a_map_is_refused(tmp_path, weight_map):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(FslabError, match=r"index\.json holds no weight_map"):
        files_of(tmp_path)


SPOILT = {
    "cut short": (lambda data: data[:-1000], "its header speaks of"),
    "lengthened": (lambda data: data + b"more", "its header speaks of"),
    "empty": (lambda data: b"", "it has 0 bytes"),
    "a header of exabytes": (
        lambda data: struct.pack("<Q", 2**62) + data[8:],
        "header is said to have 4611686018427387904 bytes",
    ),
    "another kind of file": (
        lambda data: b"\x02" + bytes(7) + b"{]" + data,
        "is not a whole safetensors file",
    ),
    "a header of nothing": (lambda data: struct.pack("<Q", 2) + b"[]", "lists no tensors"),
    "a deep header": (
        lambda data: struct.pack("<Q", 200_000) + b"[" * 200_000,
        "is not a whole safetensors file",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_files_that_are_not_whole_are_named(model, how):
    kind, folder, inner = model
    path, (spoil, reason) = weights(inner), SPOILT[how]
    path.write_bytes(spoil(path.read_bytes()))
    said = refusal(kind, folder)
    assert said.startswith(str(path))
    assert reason in said


def test_a_link_to_nowhere_is_named_and_one_into_the_hub_s_cache_is_followed(model, tmp_path):
    kind, folder, inner = model
    path = weights(inner)
    blob = shutil.move(path, tmp_path / "blob")
    path.symlink_to(blob)
    assert use(kind, folder) is not None
    Path(blob).unlink()
    assert f"{path} cannot be read" in refusal(kind, folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}},
        {"vision_config": {"auto_map": {"AutoModel": "someone/repository--evil.Model"}}},
        {"_attn_implementation": "someone/kernel"},
    ],
)
def test_code_of_the_folder_s_own_is_refused_and_not_run(model, tmp_path, entries):
    kind, folder, inner = model
    trace = tmp_path / "trace"
    (inner / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Model: pass\n")
    change(inner / "config.json", **entries)
    assert "config.json asks for code of its own" in refusal(kind, folder)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "preprocessor_config.json"])
def test_code_of_a_tokenizer_and_a_processor_is_refused(blip, clip, tmp_path, name):
    for kind, source in (("blip", blip), ("clip", clip)):
        folder = shutil.copytree(source, tmp_path / kind)
        change(folder / name, auto_map={"AutoTokenizer": ["evil.Tokens", None]})
        assert f"{name} asks for code of its own (auto_map)" in refusal(kind, folder)


def test_adapters_are_refused(model, tmp_path):
    kind, folder, inner = model
    change(inner / "adapter_config.json", base_model_name_or_path="../..", peft_type="LORA")
    write_pickle(inner / "adapter_model.bin", tmp_path / "trace")
    assert "holds an adapter (adapter_config.json)" in refusal(kind, folder)
    assert not (tmp_path / "trace").exists()


def widths(config: dict, factor: int) -> dict:
    """Return a configuration of a network that many times as wide."""
    wider = dict(config)
    for name, value in config.items():
        if name in ("hidden_size", "intermediate_size", "encoder_hidden_size"):
            wider[name] = value * factor
        elif name == "block_out_channels":
            wider[name] = [each * factor for each in value]
        elif name in ("text_config", "vision_config"):
            wider[name] = widths(value, factor)
    return wider


def test_a_configuration_of_another_width_is_refused(model):
    kind, folder, inner = model
    path = inner / "config.json"
    path.write_text(json.dumps(widths(json.loads(path.read_text()), 2)))
    assert "does not fit its config.json: " in refusal(kind, folder)


def test_a_width_that_does_not_fit_is_found_before_anything_is_loaded(
    diffusion_folders, vision_folders, tmp_path, monkeypatch
):
    monkeypatch.setattr("fslab.backbones.weights.load", None)
    for name, source in (("unet", diffusion_folders["sd1"]), ("", vision_folders["vit"])):
        folder = shutil.copytree(source, tmp_path / f"copy-{name}")
        path = folder / name / "config.json"
        path.write_text(json.dumps(widths(json.loads(path.read_text()), 2)))
        backbone = open_backbone(folder)
        with pytest.raises(FslabError, match=r"safetensors does not fit its config\.json"):
            backbone.layers()


@pytest.mark.parametrize(("kind", "layers"), [("vit", 1), ("vit", 3), ("clip", 1)])
def test_a_configuration_of_another_depth_is_refused(vision_folders, tmp_path, kind, layers):
    folder = shutil.copytree(vision_folders[kind], tmp_path / kind)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.get("vision_config", config)["num_hidden_layers"] = layers
    path.write_text(json.dumps(config))
    said = refusal("vit", folder)
    assert ("its weights lack" if layers == 3 else "has no layer for") in said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(model, value):
    kind, folder, inner = model
    path = weights(inner)
    tensors = load_file(path)
    name = min(key for key in tensors if tensors[key].ndim > 1 and key.endswith("weight"))
    tensors[name].view(-1)[3] = value
    save_file(tensors, path, metadata={"format": "pt"})
    assert "are damaged" in refusal(kind, folder)


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("vit", {"hidden_size": "wide"}),
        ("vit", {"num_attention_heads": 0}),
        ("vit", {"patch_size": 0}),
        ("vit", {"image_size": [32, 32]}),
        ("dinov2", {"num_hidden_layers": 1}),
        ("diffusion", {"block_out_channels": 5}),
        ("diffusion", {"block_out_channels": ["a", "b", "c"]}),
        ("diffusion", {"sample_size": -1}),
        ("diffusion", {"down_block_types": ["NoSuchBlock"] * 3}),
        ("diffusion", {"norm_num_groups": 7}),
    ],
)
def test_configurations_of_nothing_are_refused(
    diffusion_folders, vision_folders, tmp_path, kind, entries
):
    source = diffusion_folders["sd1"] if kind == "diffusion" else vision_folders[kind]
    folder = shutil.copytree(source, tmp_path / kind)
    change((folder / "unet" if kind == "diffusion" else folder) / "config.json", **entries)
    refusal(kind, folder)


def test_a_configuration_nested_beyond_reading_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(FslabError, match=r"config\.json cannot be read as JSON"):
        open_backbone(tmp_path)


def test_folders_of_configurations_alone_list_their_layers(vision_folders, tmp_path):
    """A large model's layers can be looked at before its weights are fetched."""
    folder = shutil.copytree(vision_folders["vit"], tmp_path / "vit")
    weights(folder).unlink()
    backbone = open_backbone(folder)
    assert len(backbone.layers()) > 3
    with pytest.raises(FslabError, match=r"holds no \*\.safetensors file"):
        assert backbone.fingerprint


def test_headers_are_read_as_they_are_written(tmp_path):
    arrays = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.float16)}
    save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_header(tmp_path / "x.safetensors")
    assert {name: tuple(entry["shape"]) for name, entry in found.items()} == {
        name: tuple(value.shape) for name, value in arrays.items()
    }
    assert np.prod(found["a"]["shape"]) * 4 == np.subtract(*found["a"]["data_offsets"][::-1])


def test_a_classifier_deeper_than_its_configuration_is_refused(tmp_path):
    """Its layers bear a prefix, that of the network around, which the network read has not."""
    from test_vision_families import SIZE, save

    folder = save(tmp_path / "vit", "ViTForImageClassification", "ViTConfig", SIZE)
    change(folder / "config.json", num_hidden_layers=1)
    assert "has no layer for" in refusal("vit", folder)


@pytest.mark.parametrize(("kind", "beside"), [("vit", "bias"), ("dinov2", "registers")])
def test_a_tensor_beside_those_of_a_layer_is_refused(vision_folders, tmp_path, kind, beside):
    folder = shutil.copytree(vision_folders[kind], tmp_path / kind)
    if beside == "bias":
        change(folder / "config.json", qkv_bias=False)
    else:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors["embeddings.register_tokens"] = torch.ones(1, 4, 32)
        save_file(tensors, path, metadata={"format": "pt"})
    assert "has no layer for" in refusal(kind, folder)


def test_a_mask_token_that_no_pass_reads_is_let_pass(vision_folders, tmp_path):
    folder = shutil.copytree(vision_folders["vit"], tmp_path / "vit")
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.mask_token"] = torch.ones(1, 1, 32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert use("vit", folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"image_mean": None},
        {"image_std": [0.2, float("nan"), 0.2]},
        {"rescale_factor": float("inf")},
    ],
)
def test_colours_that_are_not_finite_are_refused(vision_folders, tmp_path, entries):
    folder = shutil.copytree(vision_folders["vit"], tmp_path / "vit")
    change(folder / "preprocessor_config.json", **entries)
    assert next(iter(entries)) in refusal("vit", folder)


@pytest.mark.parametrize(
    "name",
    ["embeddings.patch_embeddings.projection.weight", "encoder.layer.1.layernorm_after.weight"],
)
def test_a_vision_transformer_that_overflows_is_refused(vision_folders, tmp_path, name):
    folder = shutil.copytree(vision_folders["vit"], tmp_path / "vit")
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = torch.full_like(tensors[name], 3e38)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = open_backbone(folder)
    with pytest.raises(FslabError, match="is not finite throughout"):
        backbone.run(noise_picture(64, 64), (64, 64), {0: backbone.default_layers}, Extraction())


def test_a_tokenizer_without_a_pad_is_refused(diffusion_folders, tmp_path):
    folder = shutil.copytree(diffusion_folders["sd1"], tmp_path / "diffusion")
    change(folder / "tokenizer" / "tokenizer_config.json", pad_token=None)
    assert "names no pad_token" in refusal("diffusion", folder)
