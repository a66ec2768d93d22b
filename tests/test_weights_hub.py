"""Where weights are found: snapshots, mirrors, revisions, fslab's own folder; what names them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_cache import COMMIT, IDS, OTHER, save_parts, write_snapshot

from fslab.evaluate import evaluate
from fslab.lab import PRESETS, Lab
from fslab.records import FslabError
from fslab.store import Store
from fslab.weights import file_digest, find, name_of, place_of, source_of

LAYER = "down_blocks.1"
PAPER = [f"up_blocks.1.attentions.{n}.transformer_blocks.0.attn2.to_q" for n in range(3)]
SD15, MIRROR = "stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and an empty folder of fslab's own."""
    place = tmp_path / "hub"
    place.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    monkeypatch.setenv("FSLAB_WEIGHTS", str(tmp_path / "own"))
    return place


@pytest.fixture
def text_side(cache, folders):
    for part in ("captioner", "clip"):
        write_snapshot(cache, IDS[part], folders[part])
    return cache


def features(lab, picture):
    return lab.extract(picture, [LAYER])[LAYER]


@pytest.fixture(scope="module")
def expected(folders):
    from conftest import noise_picture

    return features(Lab(folders["diffusion"]), noise_picture(64, 64))


def spoil(snapshot: Path) -> None:
    """Take a part from a snapshot."""
    (snapshot / "vae" / "config.json").unlink()


@pytest.mark.parametrize(
    ("asked", "there", "ref"),
    [
        ("sd15", SD15, None),  # as it is where a digest was asked for
        ("sd15", SD15, "refs/pr/3"),
        ("sd15", MIRROR, "main"),
        (SD15, MIRROR, None),
        (MIRROR, SD15, "main"),
        (MIRROR, MIRROR, None),
    ],
)
def test_a_model_is_opened_where_it_lies_under_any_name(
    text_side, folders, picture, expected, asked, there, ref
):
    write_snapshot(text_side, there, folders["diffusion"], ref)
    lab = Lab(asked)
    assert (features(lab, picture) == expected).all()
    assert (lab.preset.name, lab.backbone.name) == (asked, asked)
    assert lab.preset.layers == Lab("mini").preset.layers or lab.preset.words == "diffusion"


def test_tables_call_a_snapshot_by_its_id(text_side, folders, dataset_of_two, tmp_path):
    snapshot = write_snapshot(text_side, "some/model", folders["diffusion"], ref=None)
    for lab in (Lab("some/model"), Lab(snapshot), Lab("mini", backbone="some/model")):
        assert lab.backbone.name == "some/model"
        report = evaluate(lab, dataset_of_two, segments_only(), "mbo", progress=False)
        assert report.backbone == "some/model"
        assert COMMIT not in str(report)
    assert Lab(snapshot).preset.name == "some/model"
    link = tmp_path / "a-link"
    link.symlink_to(snapshot)
    assert Lab(link).backbone.name == "some/model"


def test_a_known_model_has_its_preset_s_settings_however_it_is_asked_for(text_side, folders):
    snapshot = write_snapshot(text_side, "segmind/SSD-1B", folders["diffusion"])
    for asked in ("ssd1b", "segmind/SSD-1B", snapshot):
        preset = Lab(asked).preset
        assert (preset.timestep, preset.layers) == (50, PRESETS["ssd1b"].layers)


def test_the_revision_that_is_asked_for_goes_first(cache, folders):
    source = source_of(IDS["clip"], "clip")
    main = write_snapshot(cache, source.id, folders["clip"], "main", COMMIT)
    assert find(source) == main
    request = write_snapshot(cache, source.id, folders["clip"], "refs/pr/15", OTHER)
    assert find(source) == request
    assert find(source_of(f"{source.id}@main", "clip")) == main
    assert find(source_of(f"{source.id}@{OTHER[:8]}", "clip")) == request
    with pytest.raises(FslabError, match="in the revision 1234567"):
        find(source_of(f"{source.id}@1234567", "clip"))


def test_revisions_are_not_mixed(cache, folders):
    source = source_of(SD15, "diffusion")
    old = write_snapshot(cache, SD15, folders["diffusion"], None, OTHER)
    new = write_snapshot(cache, SD15, folders["diffusion"], "main", COMMIT)
    assert find(source) == new
    spoil(new)
    assert find(source) == old  # an older one that is whole
    (old / "unet" / "config.json").unlink()
    place = place_of(source)
    assert len(place.faults) == 1  # what one lacks the other does not lend
    with pytest.raises(FslabError, match="is not whole in"):
        find(source)


def test_of_nameless_snapshots_the_newest_is_taken(cache, folders):
    source = source_of(SD15, "diffusion")
    for age, commit in ((10, OTHER), (99, COMMIT)):
        snapshot = write_snapshot(cache, SD15, folders["diffusion"], None, commit)
        os.utime(snapshot, (time.time() - age,) * 2)
    assert find(source).name == OTHER


@pytest.mark.parametrize("text", ["", "\n", "../../..", "0" * 40, "/etc", "\xff\xfe"])
def test_a_reference_to_nothing_is_passed_over(cache, folders, text):
    snapshot = write_snapshot(cache, SD15, folders["diffusion"])
    (snapshot.parents[1] / "refs/main").write_bytes(text.encode("latin-1"))
    assert find(source_of(SD15, "diffusion")) == snapshot


def test_a_mirror_serves_where_the_first_is_broken(cache, folders):
    spoil(write_snapshot(cache, SD15, folders["diffusion"]))
    mirror = write_snapshot(cache, MIRROR, folders["diffusion"])
    assert find(source_of(SD15, "diffusion")) == mirror


def test_a_converted_model_in_fslab_s_own_folder_serves(text_side, folders, tmp_path, monkeypatch):
    blip = IDS["captioner"]
    repository = text_side / f"models--{blip.replace('/', '--')}"
    weights = next(repository.glob("snapshots/*/model.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(FslabError, match="holds pickled weights only"):
        find(source_of(blip, "captioner"))
    own = shutil.copytree(folders["captioner"], tmp_path / "own" / blip.replace("/", "--"))
    (own / "SOURCE.json").write_text(json.dumps({"id": blip, "revision": "main"}))
    assert find(source_of(blip, "captioner")) == own
    assert name_of(own) == blip
    (own / "tokenizer.json").unlink()
    with pytest.raises(FslabError, match="is not whole"):
        find(source_of(blip, "captioner"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": 5}'])
def test_a_note_that_says_nothing_changes_nothing(tmp_path, folders, text):
    own = shutil.copytree(folders["clip"], tmp_path / "own-clip")
    (own / "SOURCE.json").write_text(text)
    assert name_of(own) == "own-clip"


def test_a_cache_that_cannot_be_written_is_read(text_side, folders, picture, expected):
    write_snapshot(text_side, SD15, folders["diffusion"])
    for path in (text_side, *text_side.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IREAD | (stat.S_IEXEC if path.is_dir() else 0))
    before = sorted(text_side.rglob("*"))
    assert (features(Lab("sd15"), picture) == expected).all()
    assert sorted(text_side.rglob("*")) == before


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_the_cache_lies_where_the_client_has_it(folders, tmp_path, variable):
    home = tmp_path / "home"
    write_snapshot(home / "hub", SD15, folders["diffusion"])
    place = home if variable == "HF_HOME" else home / "hub"
    others = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    code = (
        "from fslab.weights import find, source_of; import sys; "
        f"print(find(source_of('{SD15}', 'diffusion'))); "
        "print(sorted({'torch', 'transformers', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**others, variable: str(place)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder, heavy = done.stdout.split("\n")[:2]
    assert folder.startswith(str(home / "hub"))
    assert heavy == "[]"


@pytest.mark.parametrize("name", ["nosuch/model", "no--such/model", "a/b@main", "../..", "a/b/c"])
def test_what_is_nowhere_is_refused_in_a_sentence(cache, name):
    with pytest.raises(FslabError) as refused:
        Lab(name if name != "../.." else "../../nowhere")
    assert "\n" not in str(refused.value)


def test_a_usual_text_side_is_missed_when_a_method_begins(cache, folders, picture, monkeypatch):
    write_snapshot(cache, "some/model", folders["diffusion"])
    lab = Lab("some/model")
    assert features(lab, picture).ndim == 3
    with pytest.raises(FslabError, match="`fslab fetch Salesforce/blip-image-captioning-base`"):
        lab.segment(picture)
    write_snapshot(cache, IDS["captioner"], folders["captioner"])
    monkeypatch.setattr("fslab.lab.lab.Lab._caption", None)  # no work is done before the refusal
    with pytest.raises(FslabError, match="`fslab fetch openai/clip-vit-base-patch32`"):
        Lab("some/model").segment(picture)


def segments_only():
    from fslab.lab import METHODS

    return METHODS["freeseg-diff"].change({"extract.layers": [LAYER], "cluster.k": 2})


@pytest.fixture
def dataset_of_two(tmp_path):
    from conftest import write_dataset

    from fslab import datasets

    return datasets.voc(write_dataset(tmp_path / "voc", 2))


# What names content, and what reading it costs.


@pytest.fixture
def reads(monkeypatch):
    """The files whose whole content was read for its digest."""
    from fslab.weights import digests

    seen, read = [], digests._read_digest
    monkeypatch.setattr(digests, "SMALL", 0)
    monkeypatch.setattr(digests, "_read_digest", lambda path: seen.append(str(path)) or read(path))
    return seen


def weights_among(names):
    """Return what is a file of weights, or a blob that a cache calls by its sha256."""
    return [name for name in names if name.endswith(".safetensors") or len(Path(name).name) == 64]


@pytest.fixture
def no_wait(monkeypatch):
    monkeypatch.setattr("fslab.weights.digests.SETTLED", -1.0)


def test_weights_in_a_hub_s_cache_are_not_read_for_their_name(text_side, folders, reads):
    write_snapshot(text_side, SD15, folders["diffusion"])
    lab = Lab("sd15")
    assert lab.backbone.fingerprint
    assert lab.text_fingerprint(lab.recipe("fslab"))
    assert weights_among(reads) == []


def test_weights_are_read_once_by_all_processes(folders, reads, no_wait, own_store):
    first = Lab(folders["diffusion"]).backbone.fingerprint
    assert len(weights_among(reads)) == 3
    reads.clear()
    assert Lab(folders["diffusion"], store=Store(own_store)).backbone.fingerprint == first
    assert weights_among(reads) == []


def test_a_folder_has_the_name_of_the_snapshot_that_it_is_a_copy_of(cache, folders):
    snapshot = write_snapshot(cache, SD15, folders["diffusion"])
    assert Lab(snapshot).backbone.fingerprint == Lab(folders["diffusion"]).backbone.fingerprint


UNUSED = (
    "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "v1-5-pruned-emaonly.safetensors", "safety_checker/model.safetensors", "tokenizer/README.md",
    "unet/diffusion_pytorch_model.bin", "text_encoder/notes.txt",
)  # fmt: skip


@pytest.mark.parametrize("name", UNUSED)
def test_an_unused_file_beside_changes_no_key(folders, tmp_path, name, reads):
    folder = shutil.copytree(folders["diffusion"], tmp_path / "copy")
    before = Lab(folder).backbone.fingerprint
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(folder / "unet/diffusion_pytorch_model.safetensors", folder / name)
    reads.clear()
    assert Lab(folder).backbone.fingerprint == before
    assert str(folder / name) not in reads


@pytest.mark.parametrize("name", ["notes.txt", "README.json", "open_clip_model.safetensors"])
def test_an_unused_file_beside_clip_changes_no_key(folders, tmp_path, name):
    folder = shutil.copytree(folders["clip"], tmp_path / "copy")
    before = Lab("mini", clip=folder).clip_fingerprint
    shutil.copy(folder / "model.safetensors", folder / name)
    assert Lab("mini", clip=folder).clip_fingerprint == before
    assert Lab("mini").clip_fingerprint != before


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors", "unet/config.json", "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)  # fmt: skip
def test_a_changed_file_that_is_used_changes_the_key(folders, tmp_path, no_wait, name):
    folder = shutil.copytree(folders["diffusion"], tmp_path / "copy")
    before, path = Lab(folder).backbone.fingerprint, folder / name
    if name.endswith(".json"):
        change = {"sample_size": 24} if "unet" in name else {"beta_end": 0.013}
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    else:
        status, data = path.stat(), path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy with -p leaves it
    assert Lab(folder).backbone.fingerprint != before


def test_a_file_that_was_just_written_is_not_taken_for_settled(tmp_path, reads, own_store):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"one")
    store = Store(own_store)
    first = file_digest(path, store)
    assert file_digest(path, store) == first
    assert reads == [str(path)] * 2


def test_a_name_like_a_digest_outside_a_cache_is_not_believed(tmp_path):
    for parts in (("blobs",), ("models--a--b", "other")):
        path = tmp_path.joinpath(*parts, "0" * 64)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"something")
        assert file_digest(path) != "0" * 64
    with pytest.raises(FslabError, match="cannot be read"):
        file_digest(tmp_path / "nowhere")


# True sizes.


def write_true_size(snapshot: Path) -> int:
    """Give a snapshot of tiny models Stable Diffusion 1.5's true sizes; return the bytes said."""
    from bench.true import true_networks, write_hollow

    nets = true_networks()
    for number, (name, net) in enumerate(nets.items()):
        path = snapshot / f"{name}.safetensors"
        (path.parent / "config.json").unlink()
        describe = net.config.save_pretrained if "text" in name else net.save_config
        describe(path.parent)
        blob = snapshot.parents[1] / "blobs" / (f"{number}" * 64)
        write_hollow(blob, net)
        path.unlink()
        path.symlink_to(blob)
    shutil.rmtree(snapshot.parents[1] / "trees")
    return sum((snapshot / f"{name}.safetensors").stat().st_size for name in nets)


def test_sd15_at_its_true_size_opens_at_once_where_features_are_in_the_store(
    text_side, folders, monkeypatch, reads
):
    import torch
    from conftest import noise_picture

    from fslab.backbones import Diffusion

    size = write_true_size(write_snapshot(text_side, SD15, folders["diffusion"]))
    assert size == pytest.approx(4.27e9, rel=0.01)
    maps = {(path, 0): torch.ones(1280, 16, 16) for path in PAPER}
    monkeypatch.setattr(Diffusion, "run", lambda *_: maps)
    picture = noise_picture(512, 512)
    Lab("sd15").extract(picture, PAPER)
    monkeypatch.setattr(Diffusion, "run", None)
    monkeypatch.setattr("fslab.backbones.weights.load", None)
    reads.clear()
    start = time.perf_counter()
    found = Lab("sd15").extract(picture, PAPER)
    seconds = time.perf_counter() - start
    print(f"\nsd15, {size / 1e9:.2f} GB of weights, features in the store: {seconds:.3f} s")
    assert set(found) == set(PAPER)
    assert weights_among(reads) == []
    assert seconds < 1


def test_a_folder_that_is_called_like_an_id_is_a_folder(diffusion_folders, tmp_path, monkeypatch):
    """`models/my-sd`, as one writes it from beside, opens as by its whole path."""
    from fslab.lab import Lab

    folder = shutil.copytree(diffusion_folders["sd1"], tmp_path / "models" / "my-sd")
    (folder / "model_index.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert Lab("models/my-sd", captioner=None, clip=None).backbone.layers()
    monkeypatch.chdir(tmp_path / "models")
    unet = Lab("my-sd/unet", captioner=None, clip=None)
    with pytest.raises(FslabError, match="a part of a diffusion model") as refused:
        _ = unet.backbone
    assert f"({folder}?)" in str(refused.value)
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(FslabError, match="from where the folder came from") as refused:
        Lab("mini", backbone="my-sd")
    assert "hf download" not in str(refused.value)


def test_a_repository_of_the_cache_says_where_its_snapshots_lie(tmp_path):
    from fslab.backbones import open_backbone

    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    with pytest.raises(FslabError, match=f"a snapshot within it: {snapshot}"):
        open_backbone(tmp_path / "models--a--b")


def test_the_hub_s_own_command_for_a_pickled_model_says_what_it_needs():
    """It would bring BLIP's configuration and no weights."""
    from fslab.lab.needs import advice_for
    from fslab.weights.sources import BLIP, SD15

    alone = advice_for("sd15", [BLIP])
    assert alone.startswith("`fslab fetch sd15` fetches what is missing (one model by hand, where")
    assert "where a hub has it as safetensors: `hf download Salesforce/" in alone
    assert "hf download stable-diffusion-v1-5" in advice_for("sd15", [BLIP, SD15])
