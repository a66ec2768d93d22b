"""What a notebook may have set before fslab runs changes no feature, label or key, and stays set."""

import decimal
import gc
import os
import random
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import sklearn
import torch
from conftest import noise_picture
from PIL import Image, ImageFile
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fslab.captions import load_captioner
from fslab.cluster import kmeans, ncut
from fslab.datasets import read
from fslab.datasets.read import header, png
from fslab.extract import complete
from fslab.lab import Lab
from fslab.match import Patches, load_matcher
from fslab.process import ordinary
from fslab.records import Extraction, Features, FslabError, LabelMap, Refinement
from fslab.refine import refine
from fslab.store import Store


def setting(get, put, value, usual):
    """Set something of the process, expect that it stays set, and put back what is usual."""

    @contextmanager
    def state():
        put(value)
        try:
            kept = get()
            yield
            assert get() == kept
        finally:
            put(usual)

    return state


def backend(path, value, usual):
    """Set a switch of one of torch's backends."""
    *owners, name = path.split(".")
    owner = torch.backends
    for each in owners:
        owner = getattr(owner, each)
    return setting(partial(getattr, owner, name), partial(setattr, owner, name), value, usual)


def default_dtype(dtype):
    return setting(torch.get_default_dtype, torch.set_default_dtype, dtype, torch.float32)


def matmul(precision):
    return setting(
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        precision,
        "highest",
    )


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


@contextmanager
def flushed():
    torch.set_flush_denormal(True)
    try:
        yield
        assert np.float64(5e-324) * np.float64(1.0) == 0
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def seeded():
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


@contextmanager
def own_wishes():
    """What changes no number, all at once: how things are shown, checked and collected."""
    with (
        np.printoptions(precision=1, threshold=2),
        decimal.localcontext(decimal.Context(prec=2, traps=[decimal.Inexact])),
        sklearn.config_context(
            transform_output="pandas", assume_finite=True, working_memory=1,
            enable_metadata_routing=True, skip_parameter_validation=True,
        ),
        torch.autograd.set_multithreading_enabled(False),
        setting(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True, False)(),
        setting(np.getbufsize, np.setbufsize, 16, 8192)(),
        setting(gc.isenabled, lambda on: gc.enable() if on else gc.disable(), False, True)(),
        setting(sys.getrecursionlimit, sys.setrecursionlimit, 400, sys.getrecursionlimit())(),
    ):  # fmt: skip
        yield


@contextmanager
def warnings_raised():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def watched():
    """Modes that only look on."""
    with torch.profiler.profile(), Plain():
        yield


class Plain(TorchFunctionMode):
    def __torch_function__(self, function, types, given=(), named=None):
        return function(*given, **(named or {}))


class Doubles(TorchFunctionMode):
    def __torch_function__(self, function, types, given=(), named=None):
        found = function(*given, **(named or {}))
        return (
            found.double()
            if isinstance(found, torch.Tensor) and found.is_floating_point()
            else found
        )


@contextmanager
def hooked(register):
    handle = register(lambda module, *_: None)
    try:
        yield
    finally:
        handle.remove()


STATES = {
    "doubles": default_dtype(torch.float64),
    "bfloat16": default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "within meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "medium": matmul("medium"),
    "high": matmul("high"),
    "precision": backend("fp32_precision", "bf16", "none"),
    "mkldnn precision": backend("mkldnn.fp32_precision", "bf16", "none"),
    "product precision": backend("mkldnn.matmul.fp32_precision", "bf16", "none"),
    "gpu precision": backend("cuda.matmul.fp32_precision", "tf32", "none"),
    "convolution precision": backend("cudnn.conv.fp32_precision", "ieee", "tf32"),
    "mkldnn off": backend("mkldnn.enabled", False, True),
    "benchmark": backend("cudnn.benchmark", True, False),
    "plain attention": lambda: sdpa_kernel(SDPBackend.MATH),
    "no attention": lambda: sdpa_kernel([]),
    "flushed": flushed,
    "seeds": seeded,
    "gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings raised": warnings_raised,
    "own wishes": own_wishes,
    "watched": watched,
}

MODES = {
    "fake": FakeTensorMode,
    "doubles": Doubles,
    "counter": lambda: FlopCounterMode(display=False),
    "hooked": lambda: hooked(torch.nn.modules.module.register_module_forward_hook),
    "hooked before": lambda: hooked(torch.nn.modules.module.register_module_forward_pre_hook),
}


def keys(store):
    return sorted(path.name for path in store.rglob("*.safetensors"))


@pytest.fixture(scope="module", autouse=True)
def files_are_settled():
    """Digests of files are kept at once, however new these tests' models are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fslab.weights.digests.SETTLED", -1.0)
        yield


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    lab = Lab(tiny, store=Store(store))
    result = lab.segment(noise_picture(64, 96), "fslab")
    return result, keys(store), direct(lab)


def direct(lab):
    """What the parts give that a notebook calls without a lab, by name."""
    picture = noise_picture(64, 96)
    matcher, backbone = lab.matcher, lab.backbone
    settings = complete(Extraction(), backbone)
    wanted = {settings.timesteps[0]: [backbone.layers()[3].path]}
    maps = backbone.run(picture, backbone.input_size(picture, settings), wanted, settings)
    random_maps = np.random.default_rng(0).normal(size=(4, 6, 9)).astype(np.float32)
    features = Features({"map": random_maps}, picture.size, "maps")
    labels = np.repeat(np.repeat([[0, 1, 2], [1, 2, 0]], 32, 0), 32, 1).astype(np.uint8)
    sharp = refine(
        picture,
        LabelMap(labels, ("background", "dog", "cat")),
        Refinement.of(method="pamr", iterations=2),
    )
    matcher._texts.forget()
    return {
        "run": np.concatenate([each.numpy().ravel() for each in maps.values()]),
        "kmeans": kmeans(features, 3).labels,
        "ncut": ncut(features).labels,
        "pamr": sharp.labels,
        "images": matcher.encode_images([picture.pixels]),
        "texts": matcher.encode_texts(["a dog"]),
        "states": matcher.mean_states(["a dog"]),
        "words": backbone.embed_texts(["a dog"]),
        "patches": Patches(picture, matcher).encode([labels == 1]),
        "caption": np.array(lab.captioner.caption(picture.pixels)),
    }


@pytest.mark.parametrize("state", STATES)
def test_what_was_set_before_changes_nothing_and_stays(tiny, tmp_path, expected, state):
    result, named, parts = expected
    with STATES[state]():
        lab = Lab(tiny, store=Store(tmp_path))
        found = lab.segment(noise_picture(64, 96), "fslab")
        apart = direct(lab)
    assert all(np.array_equal(found.features[k], result.features[k]) for k in result.features)
    assert np.array_equal(found.segments.labels, result.segments.labels)
    assert np.array_equal(found.labels.labels, result.labels.labels)
    assert found.caption == result.caption
    assert keys(tmp_path) == named
    assert [name for name in parts if not np.array_equal(apart[name], parts[name])] == []


@pytest.mark.parametrize("state", ["meta", "doubles", "autocast", "product precision"])
def test_listing_layers_and_attention_do_not_change_either(
    tiny, tmp_path, listed, listed_anew, state
):
    usual = Lab(tiny, store=Store(tmp_path / "a"))
    picture = noise_picture(64, 64)
    with STATES[state]():
        lab = Lab(tiny, store=Store(tmp_path / "b"))
        layers, maps = lab.layers(), lab.attention(picture, ["dog"])
    listed.clear()
    assert layers == usual.layers()
    assert np.array_equal(maps["dog"], usual.attention(picture, ["dog"])["dog"])


@pytest.mark.parametrize("mode", MODES)
def test_what_changes_torch_itself_is_refused_at_every_door(tiny, tmp_path, mode):
    lab = Lab(tiny, store=Store(tmp_path))
    picture, matcher = noise_picture(64, 64), lab.matcher
    features = Features({"map": np.eye(16, dtype=np.float32).reshape(16, 4, 4)}, (64, 64))
    doors = [
        lambda: lab.extract(picture), lambda: lab.caption(picture), lambda: kmeans(features, 2),
        lambda: matcher.encode_images([picture.pixels]), lambda: load_matcher(tiny / "clip"),
    ]  # fmt: skip
    for door in doors:
        with (
            MODES[mode](),
            pytest.raises(FslabError, match=r"leave it|is hooked on every"),
        ):
            door()
    assert keys(tmp_path) == []
    assert lab.extract(picture)


def test_settings_that_threads_share_are_put_back_by_the_last(monkeypatch):
    inside, leave = threading.Event(), threading.Event()

    def work():
        with ordinary():
            inside.set()
            leave.wait(10)

    with default_dtype(torch.float64)(), matmul("medium")():
        other = threading.Thread(target=work)
        with ordinary():
            other.start()
            assert inside.wait(10)
        assert torch.get_default_dtype() == torch.float32, "the other thread still works"
        leave.set()
        other.join()
        assert torch.get_default_dtype() == torch.float64


def test_models_loaded_in_one_state_work_in_another(tiny, tmp_path, expected):
    with torch.inference_mode(), default_dtype(torch.float64)():
        lab = Lab(tiny, store=Store(tmp_path))
        first = direct(lab)
    with torch.enable_grad():
        second = direct(lab)
    for found in (first, second):
        assert all(np.array_equal(found[name], each) for name, each in expected[2].items())


def test_a_lab_and_its_files_are_found_from_another_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    lab = Lab(tiny.name, store="kept")
    monkeypatch.chdir(tmp_path)
    assert lab.segment(noise_picture(32, 32)).labels.size == (32, 32)
    assert not list(tmp_path.iterdir())


def test_in_a_folder_that_is_gone_the_sentence_names_what_was_asked_for(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Lab("mini", "rgb", store=tmp_path / "store").extract(noise_picture(32, 32))
    with pytest.raises(FslabError, match=r"no folder '\./mine'"):
        Lab("./mine")
    with pytest.raises(FslabError, match="the store 'mine' cannot be opened"):
        Lab("mini", store="mine")


def test_without_docstrings_the_sentence_says_what_to_leave_out(tiny):
    done = subprocess.run(
        [sys.executable, "-OO", "-c", f"import fslab; fslab.Lab({str(tiny)!r})"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "FslabError: Python runs without docstrings (-OO" in done.stderr


@pytest.mark.parametrize("load", [load_matcher, load_captioner])
@pytest.mark.parametrize("device", ["cuda:7", "gpu", "xpu"])
def test_a_model_of_its_own_refuses_a_device_likewise(tiny, load, device):
    folder = tiny / ("clip" if load is load_matcher else "blip")
    with pytest.raises(FslabError, match="is not on this machine; there is cpu"):
        load(folder, device=device)


@pytest.mark.parametrize(
    "device",
    ["cuda:7", "mps:3", "gpu", "GPU", "", "cpu:1", "xpu", "cuda:-1", torch.device("cuda:9"), 3],
)
def test_a_device_that_is_not_there_is_a_sentence(tiny, device):
    with pytest.raises(FslabError, match="is not on this machine; there is cpu"):
        Lab(tiny, device=device).extract(noise_picture(32, 32))


def test_a_device_may_be_torch_s_own(tiny, tmp_path):
    found = [
        Lab(tiny, store=Store(tmp_path / str(n)), device=device).extract(noise_picture(32, 32))
        for n, device in enumerate(("cpu", "cpu:0", torch.device("cpu")))
    ]
    assert keys(tmp_path / "0") == keys(tmp_path / "1") == keys(tmp_path / "2")
    assert found[0].keys() == found[1].keys()


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=str,
)
def test_a_screen_without_letters_ends_no_command(tmp_path, environment):
    path = tmp_path / "é犬.png"
    done = subprocess.run(
        [sys.executable, "-m", "fslab", "score", str(path), str(path)],
        capture_output=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"fslab: ")


@pytest.mark.parametrize("most", [None, 10**12])
def test_pillow_s_limits_are_its_own(tmp_path, monkeypatch, most):
    whole = png(Image.fromarray(noise_picture(64, 64).pixels))
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bomb.png").write_bytes(png(Image.new("1", (20000, 10000))))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(FslabError, match="damaged or cut short"):
        read(tmp_path / "cut.png")
    for look in (read, header):
        with pytest.raises(FslabError, match="more than 178 million pixels"):
            look(tmp_path / "bomb.png")
    assert ImageFile.LOAD_TRUNCATED_IMAGES
    assert most == Image.MAX_IMAGE_PIXELS
