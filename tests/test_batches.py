"""Several pictures at once: the same within the tolerance, under other keys, and none is lost."""

import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import noise_picture, write_dataset

import fslab
from fslab import datasets
from fslab.backbones import Diffusion
from fslab.backbones.latents import Latents
from fslab.batches import Batch, check_batch
from fslab.evaluate import draw, evaluate, plan, score_samples
from fslab.evaluate.workers import map_samples
from fslab.lab import Lab, processes
from fslab.lab.processes import Processes
from fslab.records import Extraction, FslabError, FslabWarning, OutOfMemory
from fslab.store import decode

TOLERANCE = 1e-5
"""Of the largest value of a map: what passing together may move features by, in fp32."""

ATTENTION = {"match.attention_layers": ["*attn2.to_q"], "match.attention_draws": 2}
LAYERS = ("down_blocks.1", "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q")


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """No process is started where a test does not ask for one."""
    monkeypatch.setattr(processes, "usual_count", lambda device: 0)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Four pictures of two sizes, and a fifth that cannot be read."""
    root = write_dataset(tmp_path_factory.mktemp("set"), 5)
    (root / "JPEGImages" / "noise_3.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    return root


def pictures(count=3, size=(64, 64)):
    return [noise_picture(*size, seed=number) for number in range(count)]


def entries(store):
    """What a store holds: the bytes of each key's arrays by their names."""
    found = {}
    for path in Path(store).glob("??/*.safetensors"):
        arrays = decode(path.read_bytes(), path.stem)
        found[path.stem] = {name: array.tobytes() for name, array in arrays.items()}
    return found


def calls_of(monkeypatch, kind, name):
    """Count how many rows each call of a method was given."""
    plain, rows = getattr(kind, name), []

    def counted(self, given, *more, **named):
        rows.append(len(given))
        return plain(self, given, *more, **named)

    monkeypatch.setattr(kind, name, counted)
    return rows


def near(found, expected):
    assert list(found) == list(expected)
    for name in found:
        largest = np.abs(expected[name]).max()
        assert np.abs(found[name] - expected[name]).max() <= TOLERANCE * largest, name


@pytest.mark.parametrize("batch", [0, -1, "a", "8", True, 1.5, None])
def test_a_batch_is_a_whole_number_from_1_up(batch):
    with pytest.raises(
        FslabError, match=r"batch is .*; it must be a whole number of pictures, from 1"
    ):
        check_batch(batch)
    assert check_batch(np.int64(3)) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [({"batch": 0}, "batch is 0"), ({"batch": True}, "batch is True"),
     ({"batch": "a"}, "batch is 'a'"), ({"processes": -1}, "processes is -1"),
     ({"batch": 2, "processes": True}, "processes is True")],
)  # fmt: skip
def test_runs_refuse_other_batches_before_any_work(tiny, voc, words, message):
    lab, data = Lab(tiny), datasets.load(voc)
    with pytest.raises(FslabError, match=message):
        evaluate(lab, data, progress=False, **words)
    with pytest.raises(FslabError, match=message):
        lab.segment_many([], **words)


def test_one_picture_at_a_time_has_the_bits_and_the_keys_of_extract(tiny, tmp_path):
    one, many = (Lab(tiny, store=tmp_path / name) for name in ("one", "many"))
    wanted = {"layers": LAYERS, "timesteps": (0, 50), "draws": 2}
    expected = [one.extract(picture, **wanted) for picture in pictures()]
    found = many.extract_many(pictures(), batch=1, **wanted)
    for features, plain in zip(found, expected, strict=True):
        assert all(np.array_equal(features[name], plain[name]) for name in plain)
    assert entries(tmp_path / "many") == entries(tmp_path / "one")


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "vit"])
def test_several_at_once_are_near_and_under_keys_of_their_own(
    kind, diffusion_folders, vision_folders, tmp_path
):
    folder = {**diffusion_folders, **vision_folders}[kind]
    lab, alone = (Lab(folder, store=tmp_path / name) for name in ("store", "alone"))
    together = lab.extract_many(pictures(), batch=3)
    batched = entries(tmp_path / "store")
    expected = [alone.extract(picture) for picture in pictures()]
    for found, plain in zip(together, expected, strict=True):
        near(found, plain)
    for key in entries(tmp_path / "alone").keys() & batched.keys():
        assert not {"map", "latent"} & set(batched[key])
    for picture, plain in zip(pictures(), expected, strict=True):
        found = lab.extract(picture)  # reads nothing of what passed together
        assert all(np.array_equal(found[name], plain[name]) for name in plain)


def test_timesteps_and_draws_of_one_picture_pass_together(tiny, tmp_path, monkeypatch):
    rows = calls_of(monkeypatch, Diffusion, "_pass")
    wanted = {"layers": LAYERS, "timesteps": (0, 50, 300), "draws": 2}
    (found,) = Lab(tiny, store=tmp_path / "a").extract_many(pictures(1), batch=4, **wanted)
    assert rows == [4, 2]
    near(found, Lab(tiny, store=tmp_path / "b").extract(pictures(1)[0], **wanted))
    assert rows[2:] == [1] * 6


def test_a_batch_takes_from_the_store_what_passed_alone(tiny, monkeypatch):
    lab = Lab(tiny)
    plain = [lab.extract(picture) for picture in pictures()[:2]]
    rows = calls_of(monkeypatch, Diffusion, "_pass")
    found = lab.extract_many(pictures(), batch=3)
    assert rows == [1], "the one that was missing passed alone"
    for features, expected in zip(found, plain, strict=False):
        assert all(np.array_equal(features[name], expected[name]) for name in expected)
    lab.extract_many(pictures(), batch=2)
    assert rows == [1]


def test_pictures_of_other_sizes_pass_apart(tiny, monkeypatch):
    rows = calls_of(monkeypatch, Diffusion, "_pass")
    mixed = [*pictures(2), *pictures(2, (64, 96))]
    found = Lab(tiny).extract_many([mixed[place] for place in (0, 2, 1, 3)], batch=4)
    assert rows == [2, 2]
    assert [features.size for features in found] == [(64, 64), (64, 96)] * 2


def out_of_memory(monkeypatch, most):
    """Let a pass of more rows than that fail as torch does."""
    plain = Diffusion._pass

    def short(self, rows, *more):
        if len(rows) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return plain(self, rows, *more)

    monkeypatch.setattr(Diffusion, "_pass", short)


def test_memory_that_runs_out_is_said_and_no_picture_is_lost(tiny, tmp_path, monkeypatch):
    expected = [Lab(tiny, store=tmp_path / "a").extract(picture) for picture in pictures(6)]
    out_of_memory(monkeypatch, 1)
    lab = Lab(tiny, store=tmp_path / "b")
    with pytest.warns(
        RuntimeWarning, match="a pass of 4 pictures, which are passed one by one"
    ) as said:
        found = lab.extract_many(pictures(6), batch=4)
    assert len([each for each in said if each.category is FslabWarning]) == 2  # of 4, then of 2
    for features, plain in zip(found, expected, strict=True):
        assert all(np.array_equal(features[name], plain[name]) for name in plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(lab.extract_many(pictures(6), batch=1)) == 6  # all lies under its own key


def test_half_as_many_pass_after_memory_ran_out():
    tried = []

    def work(items):
        tried.append(len(items))
        if len(items) > 2:
            raise MemoryError
        return items

    with pytest.warns(RuntimeWarning, match="from now on 2 at once"):
        assert Batch(4).passes(range(8), work, str) == list(range(8))
    assert tried == [4, 1, 1, 1, 1, 2, 2]


def test_one_picture_that_fails_is_refused_alone(tiny, monkeypatch):
    bad, plain = pictures()[1].digest, Latents.encode

    def failing(self, some, *more):
        if bad in {picture.digest for picture in some}:
            raise MemoryError
        return plain(self, some, *more)

    monkeypatch.setattr(Latents, "encode", failing)
    with pytest.warns(RuntimeWarning, match="memory ran out"):
        found = Lab(tiny).extract_many(pictures(), batch=3)
    assert [isinstance(each, FslabError) for each in found] == [False, True, False]
    assert isinstance(found[1], OutOfMemory)
    assert str(found[1]).startswith(pictures()[1].name)


def figures(report):
    return [row.score.to_dict() for row in report.rows], [row.caption for row in report.rows]


@pytest.mark.parametrize("method", ["freeseg-diff", "fslab"])
def test_an_evaluation_in_batches_is_the_one_without(method, tmp_path, monkeypatch):
    """On mini, whose labels do not hang on last bits as those of random weights do."""
    data = datasets.load(Path(__file__).parents[1] / "data" / "minivoc").limit(3)
    plain = evaluate(Lab("mini", store=tmp_path / "a"), data, method, progress=False)
    rows = calls_of(monkeypatch, Diffusion, "_pass")
    lab = Lab("mini", store=tmp_path / "b")
    report = evaluate(lab, data, method, progress=False, batch=3)
    assert figures(report) == figures(plain)
    assert max(rows) > 1
    assert report.to_dict()["batch"] == 3
    assert report.seconds.keys() == plain.seconds.keys()
    assert {row.key for row in report.rows}.isdisjoint(row.key for row in plain.rows)


def test_a_bad_picture_is_refused_and_a_stopped_run_goes_on(tiny, voc, tmp_path, monkeypatch):
    lab, data, out = Lab(tiny), datasets.load(voc), tmp_path / "out"
    evaluate(lab, data.limit(2), "fslab", out=out, progress=False, batch=2)
    before = (out / "results.jsonl").read_text().splitlines()
    rows = calls_of(monkeypatch, Diffusion, "_pass")
    report = evaluate(lab, data, "fslab", out=out, progress=False, batch=3)
    assert rows, "what was missing had to pass"
    assert set(report.refused) == {"noise_3"}
    assert "noise_3.png" in report.refused["noise_3"]
    lines = (out / "results.jsonl").read_text().splitlines()
    assert set(before) < set(lines)
    assert len(lines) == 4
    rows.clear()
    assert figures(evaluate(lab, data, "fslab", out=out, progress=False, batch=2)) == figures(
        report
    )
    assert not rows
    alone = evaluate(lab, data, "fslab", out=tmp_path / "alone", progress=False)
    assert {row.key for row in alone.rows}.isdisjoint(row.key for row in report.rows)


def test_other_processes_give_the_same(tiny, voc, tmp_path):
    """One picture at a time keeps its bits, with a process beside or without."""
    data, reports = datasets.load(voc), []
    usual = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as a process beside has
    for count in (0, 1):
        lab = Lab(tiny, store=tmp_path / f"{count}")
        out = tmp_path / f"out-{count}"
        report = evaluate(lab, data, "fslab", out=out, progress=False, batch=1, processes=count)
        reports.append((out / "results.jsonl").read_bytes() + str(report.refused).encode())
    torch.set_num_threads(usual)
    assert reports[0] == reports[1]
    assert entries(tmp_path / "0").keys() == entries(tmp_path / "1").keys()


def die(lab, parent):
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_lost_refuses_its_picture_and_the_others_go_on(tiny):
    with Processes(Lab(tiny), 1) as pool:
        lost = pool.send(die, os.getpid(), name="large")
        other = pool.send(str, name="small")
        with pytest.raises(
            OutOfMemory, match="large: the process that worked on it was lost, twice"
        ):
            pool.result(lost)
        assert "Lab" in pool.result(other)
        assert "Lab" in pool.result(pool.send(str, name="next"))


def test_workers_pass_a_batch_each(dask_threads, tiny, voc):
    lab, data = Lab(tiny), datasets.load(voc)
    job = plan(lab, "fslab", data.vocabulary, batch=2)
    assert job.base != plan(lab, "fslab", data.vocabulary).base
    assert job.base == plan(lab, "fslab", data.vocabulary, batch=8).base
    found = {each.name: each for each in map_samples(dask_threads, lab, job, data)}
    expected = {each.name: each for each in score_samples(lab, job, data)}
    assert found.keys() == expected.keys()
    assert {name for name, each in found.items() if each.refused} == {"noise_3"}
    assert {name: each.key for name, each in found.items()} == {
        name: each.key for name, each in expected.items()
    }


def test_segments_alone_need_no_text_side(tiny, voc):
    data = datasets.load(voc)
    recipe = fslab.METHODS["fslab"].change({"cluster.also": []})
    found, plain = (
        evaluate(Lab(tiny), data, recipe, "oracle", progress=False, batch=batch) for batch in (3, 1)
    )
    assert found.rows[0].seconds.keys() == plain.rows[0].seconds.keys() == {"extract", "cluster"}
    assert {row.name for row in found.rows} == {row.name for row in plain.rows}
    needy = recipe.change({"cluster.k_is": "candidates"})
    with pytest.raises(FslabError, match="depends on the caption"):
        evaluate(Lab(tiny), data, needy, "oracle", progress=False, batch=3)


def test_many_pictures_from_a_generator_give_results_in_their_order(tiny):
    lab = Lab(tiny)
    found = list(lab.segment_many((one for one in [*pictures(), "none"]), "fslab", batch=2))
    assert [each.picture.digest for each in found[:3]] == [one.digest for one in pictures()]
    assert "'none' does not exist" in str(found[3])
    for result, picture in zip(found, pictures(), strict=False):
        assert list(result.features) == list(lab.segment(picture, "fslab").features)
        assert result.labels.size == picture.size
        assert list(result.seconds) == ["caption", "extract", "cluster", "match", "refine"]


def test_the_command_takes_a_batch(run, tiny, voc, tmp_path):
    words = ["--preset", tiny, "--method", "fslab"]
    for name, more in (("a", []), ("b", ["--batch", "3"])):
        code, _, err = run("segment", voc / "JPEGImages", "--out", tmp_path / name, *words, *more)
        assert code == 2
        assert "1 of 5 pictures were left out" in err
        written = {each.name for each in (tmp_path / name).iterdir()}
        assert len(written - {"classes.csv", "contact.html"}) == 12
    code, out, err = run("evaluate", voc, *words, "--batch", "2", "--out", tmp_path / "c")
    assert "results, report and page" in out
    assert "1 of 5 pictures were left out" in err
    for command in (["segment", voc, "--out", tmp_path / "d"], ["evaluate", voc]):
        code, out, err = run(*command, *words, "--batch", "0")
        assert (code, out) == (2, "")
        last = "fslab: batch is 0; it must be a whole number of pictures, from 1 up\n"
        assert err.endswith(last)


def test_pictures_without_truth_are_drawn_in_batches(tiny, voc, tmp_path):
    data = datasets.folder(voc / "JPEGImages")
    drawn = draw(Lab(tiny), data, "fslab", tmp_path / "out", progress=False, batch=3)
    assert len(drawn.written) == 4
    assert list(drawn.refused) == ["noise_3"]
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "noise_0.png").mkdir()
    with pytest.raises(FslabError, match="cannot be written"):
        draw(Lab(tiny), data, "fslab", taken, progress=False, batch=3)


def test_captions_of_several_are_those_of_each(blip):
    from fslab.captions import load_captioner

    captioner = load_captioner(blip)
    given = [picture.pixels for picture in (*pictures(), *pictures(1, (64, 96)))]
    found = captioner.captions(given, max_new_tokens=6, beams=2)
    assert found == [captioner.caption(each, max_new_tokens=6, beams=2) for each in given]


SDPA = ("unet", "vae", "text_encoder", "clip image", "clip text")


def test_attention_is_fused_wherever_the_libraries_have_it(tiny, picture, monkeypatch):
    """BLIP's classes have no other attention than their own."""
    lab, fused, doing = Lab(tiny), set(), [""]
    plain = torch.nn.functional.scaled_dot_product_attention

    def counted(*given, **named):
        fused.add(doing[0])
        return plain(*given, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    settings = Extraction(layers=LAYERS, timesteps=(0,), precision="fp32")
    work = (
        lambda: lab.extract(picture, LAYERS),
        lambda: lab.backbone._latents.encode([picture], (64, 64), settings, torch.float32),
        lambda: lab.backbone.text_states("a dog"),
        lambda: lab.matcher.encode_images([picture.pixels]),
        lambda: lab.matcher.encode_texts(["a dog"]),
    )
    for doing[0], call in zip(SDPA, work, strict=True):
        call()
    assert fused == set(SDPA)
    assert not lab.captioner.model._supports_sdpa


def test_pamr_is_computed_on_the_lab_s_device(tiny, picture, monkeypatch):
    import fslab.refine.sharpen as sharpen

    devices, plain = [], sharpen.pamr

    def told(*given):
        devices.append(given[-1])
        return plain(*given)

    monkeypatch.setattr(sharpen, "pamr", told)
    labels = fslab.LabelMap(np.eye(64, dtype=np.uint8), fslab.VOC.names)
    lab = Lab(tiny)
    vars(lab)["device"] = "cpu:0"  # another name of the only device here
    lab.refine(picture, labels, method="pamr")
    assert devices == ["cpu:0"]
