"""Pictures over Dask workers: the serial run's bits, whatever happens to the workers."""

import os
import shutil
import signal
import sys
from contextlib import closing
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from conftest import write_dataset
from distributed import Client, KilledWorker, LocalCluster
from threadpoolctl import threadpool_limits

from fslab import datasets
from fslab.evaluate import evaluate, workers
from fslab.evaluate.job import ImageResult, plan
from fslab.evaluate.workers import Batch, connected, map_samples
from fslab.lab import Lab
from fslab.records import FslabError

PICTURES = 6


@pytest.fixture(scope="module")
def two_workers():
    with connected(workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A set of which one picture cannot be read."""
    root = write_dataset(tmp_path_factory.mktemp("set"), PICTURES)
    (root / "JPEGImages" / "noise_4.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    return root


@pytest.fixture(scope="module")
def serial(tiny, damaged, tmp_path_factory):
    """The run without Dask, with as many threads as each of two workers here has."""
    place = tmp_path_factory.mktemp("serial")
    lab = Lab(tiny, store=place / "store")
    data = datasets.load(damaged)
    usual, share = torch.get_num_threads(), max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(share)
    with threadpool_limits(share):
        report = evaluate(lab, data, "fslab", out=place / "out", progress=False)
    torch.set_num_threads(usual)
    return report, place / "out"


def all_of(report):
    found = report.to_dict()
    found.pop("seconds")
    return found, [row.to_dict() for row in report.rows]


def results(folder):
    return {path.name: path.read_bytes() for path in folder.glob("re*.json*")}


def test_two_workers_give_the_serial_bits_and_the_same_refusal(
    two_workers, tiny, damaged, serial, tmp_path
):
    lab = Lab(tiny, store=tmp_path / "store")
    out = tmp_path / "out"
    data = datasets.load(damaged)
    report = evaluate(lab, data, "fslab", out=out, progress=False, client=two_workers)
    assert all_of(report) == all_of(serial[0])
    assert set(report.refused) == {"noise_4"}
    assert "noise_4.png" in report.refused["noise_4"]
    assert results(out) == results(serial[1])
    assert len(results(out)) == 2
    seen = two_workers.run(lambda: "fslab.evaluate.workers" in sys.modules)
    assert list(seen.values()) == [True, True], "one worker did all"


def test_workers_read_an_archive_and_file_features_by_url(
    two_workers, tiny, damaged, serial, tmp_path
):
    """A picture in a zip has no path on any machine: each process opens the url for itself."""
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", damaged)
    data = datasets.load(f"zip://::file://{archive}")
    lab = Lab(tiny, store=f"file://{tmp_path}/store")
    report = evaluate(lab, data, "fslab", progress=False, client=two_workers)
    assert [row.to_dict() for row in report.rows] == [row.to_dict() for row in serial[0].rows]
    assert report.scores == serial[0].scores
    assert set(report.refused) == {"noise_4"}
    assert list((tmp_path / "store").glob("??/*.safetensors")), "no feature was filed"


def test_a_worker_killed_midway_changes_nothing(
    two_workers, tiny, damaged, serial, tmp_path, monkeypatch
):
    pids, killed = two_workers.run(os.getpid), []

    def killing(*words):
        for number, result in enumerate(map_samples(*words)):
            if number == 0:
                killed.append(next(iter(pids)))
                os.kill(pids[killed[0]], signal.SIGKILL)
            yield result

    monkeypatch.setattr(workers, "map_samples", killing)
    lab = Lab(tiny, store=tmp_path / "store")
    data = datasets.load(damaged)
    report = evaluate(lab, data, "fslab", progress=False, client=two_workers)
    assert all_of(report) == all_of(serial[0])
    assert len(killed) == 1
    two_workers.wait_for_workers(2, timeout=120)
    assert pids[killed[0]] not in two_workers.run(os.getpid).values()


def test_local_workers_listen_to_this_machine_only(two_workers):
    import psutil

    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    hosts = {
        entry.laddr.ip
        for process in processes
        for entry in process.net_connections("inet")
        if entry.status == psutil.CONN_LISTEN
    }
    assert hosts == {"127.0.0.1"}


def test_a_worker_with_other_weights_is_refused(two_workers, tiny, damaged):
    from dataclasses import replace

    lab, data = Lab(tiny), datasets.load(damaged)
    job = replace(plan(lab, "fslab", data.vocabulary), base="other")
    with pytest.raises(FslabError, match=r"worker tcp://127\.0\.0\.1:\d+ has other weights"):
        list(map_samples(two_workers, lab, job, data))


def test_a_specification_opens_the_same_lab_elsewhere(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    lab = Lab(tiny.name, backbone=f"./{tiny.name}", store="kept", device="cpu")
    words = lab.specification
    expected = plan(lab, "fslab", datasets.VOC).base
    monkeypatch.chdir(tmp_path)
    again = Lab(*words)
    assert plan(again, "fslab", datasets.VOC).base == expected
    assert again.store.location == str(tiny.parent / "kept")
    assert Lab("mini", "random", "memory://x", "cpu").specification == (
        "mini", "random", "memory://x", "cpu", "preset", "preset", "fp32", None,
    )  # fmt: skip


def spread(client, work, count=6, size=1):
    """Run batches of sample-like things through the machinery under `map_samples`."""
    names = [f"picture {number}" for number in range(count)]
    batches = [names[start : start + size] for start in range(0, count, size)]
    found = workers._Spread(client, work, batches, 2)
    return [result for batch in found for result in batch.results]


released, tries = Event(), []


def hanging_once(names):
    """Hang at the first try of one picture: workers of `dask_threads` share this module's state."""
    if names == ["picture 2"]:
        tries.append(names)
        if len(tries) == 1:
            released.wait(120)
    return done(names)


def done(names):
    return Batch("here", tuple(ImageResult(name) for name in names))


class Named(str):
    """A name that has a name, as a sample has."""

    @property
    def name(self):
        return str(self)


def test_a_straggler_is_given_to_another_worker_and_counted_once(dask_threads, monkeypatch):
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.1)
    tries.clear()
    found = spread(dask_threads, hanging_once)
    assert not released.is_set()
    released.set()
    assert sorted(result.name for result in found) == [f"picture {number}" for number in range(6)]
    assert len(tries) == 2


def test_a_picture_that_ends_every_worker_is_refused_and_the_rest_go_on(dask_threads):
    def work(names):
        if "picture 3" in names:
            raise KilledWorker("task", SimpleNamespace(address="tcp://gone"), 3)
        return done(names)

    names = [Named(f"picture {number}") for number in range(7)]
    batches = [names[:2], names[2:5], names[5:]]
    found = [
        result
        for batch in workers._Spread(dask_threads, work, batches, 2)
        for result in batch.results
    ]
    assert {result.name for result in found} == set(names)
    (refused,) = [result for result in found if result.refused]
    assert refused.name == "picture 3"
    assert refused.refused_by == "memory"
    assert "every worker that tried it was lost" in refused.refused


def test_an_error_of_the_code_is_not_swallowed(dask_threads):
    def work(names):
        raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError, match="a fault"):
        spread(dask_threads, work)


def test_few_batches_are_on_their_way_at_a_time(dask_threads):
    spreading, most = workers._Spread(dask_threads, done, [[str(n)] for n in range(40)], 2), 0
    for _ in spreading:
        most = max(most, len(spreading._out))
    assert most <= 4


def test_a_worker_that_sees_no_pictures_is_named(dask_threads, tiny, damaged, monkeypatch):
    def blind(specification, job, samples):
        return Batch("tcp://far", tuple(
            ImageResult(sample.name, refused="not there", refused_by="reading") for sample in samples
        ))  # fmt: skip

    monkeypatch.setattr(workers, "score_batch", blind)
    lab, data = Lab(tiny), datasets.load(damaged)
    readable = [sample for sample in data if sample.name != "noise_4"]
    with pytest.raises(FslabError, match=r"worker tcp://far cannot read .*same path"):
        list(map_samples(dask_threads, lab, plan(lab, "fslab", data.vocabulary), readable))


def test_paths_hold_in_any_folder(damaged, monkeypatch):
    monkeypatch.chdir(damaged.parent)
    for sample in datasets.load(damaged.name):
        there = workers._anywhere(sample)
        assert there.path.is_absolute()
        assert there.truth_path.is_absolute()
        assert (there.name, there.classes) == (sample.name, sample.classes)


def no_workers():
    return LocalCluster(
        n_workers=0, processes=False, dashboard_address="127.0.0.1:0", silence_logs="ERROR"
    )


def test_a_cluster_without_workers_is_one_sentence(tiny, damaged, monkeypatch):
    monkeypatch.setattr(workers, "WORKERS_SECONDS", 0.2)
    lab, data = Lab(tiny), datasets.load(damaged)
    with (
        no_workers() as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(FslabError, match="has no worker after 0 seconds"),
    ):
        list(map_samples(client, lab, plan(lab, "fslab", data.vocabulary), data))


def test_losing_all_workers_is_one_sentence(monkeypatch):
    monkeypatch.setattr(workers, "WORKERS_SECONDS", 0.2)
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.05)
    with (
        no_workers() as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(FslabError, match="all workers of the cluster are lost"),
    ):
        spread(client, done)


def test_losing_the_scheduler_is_one_sentence(monkeypatch):
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.1)
    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs="ERROR"
        ) as cluster,
        closing(Client(cluster.scheduler_address, set_as_default=False)) as client,
    ):
        found = iter(workers._Spread(client, done, [[str(n)] for n in range(200)], 1))
        next(found)
        cluster.close(timeout=5)
        with pytest.raises(FslabError, match="scheduler is lost; what was finished is kept"):
            list(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"address": "tcp://127.0.0.1:1", "workers": 2}, "exclude each other"),
        ({"workers": 0}, "--workers is 0"),
        ({"address": "127.0.0.1:1"}, "no Dask scheduler answers at '127.0.0.1:1'"),
        ({"address": "gopher://127.0.0.1:1"}, "no Dask scheduler answers at 'gopher"),
        ({"address": "tcp://no.such.host.invalid:8786"}, "no Dask scheduler answers"),
    ],
)
def test_what_cannot_be_connected_to_is_one_sentence(words, message, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.5)
    with pytest.raises(FslabError, match=message), connected(**words):
        pass


def test_without_dask_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(FslabError, match=r"fslab\[cluster\]"), connected(workers=1):
        pass
    with connected() as client:
        assert client is None


def test_the_command_refuses_an_unreachable_scheduler(monkeypatch, run, tiny, damaged):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.5)
    code, out, err = run("evaluate", damaged, "--preset", tiny, "--dask", "tcp://127.0.0.1:1")
    assert code == 2
    assert err.startswith("fslab: no Dask scheduler answers at 'tcp://127.0.0.1:1'")
    assert "Traceback" not in err
    assert not out
