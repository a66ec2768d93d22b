"""Evaluations stopped at any moment: what comes out in the end is what an undisturbed run gives."""

import contextlib
import json
import os
import random
import signal
import statistics
import time

import pytest
from conftest import write_dataset
from stopping import Runs

from fslab import datasets
from fslab.evaluate import Log, evaluate
from fslab.evaluate.log import LOCK, RESULTS, SECONDS
from fslab.evaluate.run import REPORT
from fslab.lab import Lab
from fslab.records import Clustering, FslabError, Recipe

PICTURES = 6
PLAIN = Recipe("plain", cluster=Clustering.of(k=3, normalise="l2", restarts=1))
SIGNALS = [*[signal.SIGKILL] * 10, signal.SIGTERM, signal.SIGINT]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), PICTURES)


@pytest.fixture(scope="module")
def runs():
    with contextlib.closing(Runs()) as serving:
        yield serving


@pytest.fixture(scope="module")
def undisturbed(runs, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    runs.start(dataset, out)
    assert runs.wait() == 0
    times = [json.loads(line)["seconds"] for line in (out / SECONDS).read_text().splitlines()]
    return out, statistics.median(sum(stages.values()) for stages in times)


stopped = []
"""The runs that a signal really ended, by number."""


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("number", range(len(SIGNALS)))
def test_a_stopped_run_goes_on_to_the_same_files(runs, dataset, undisturbed, tmp_path, number):
    whole, seconds = undisturbed
    chance = random.Random(number)
    after, more = number % (PICTURES - 1), chance.random() * seconds
    out = tmp_path / "out"
    process = runs.start(dataset, out)
    patience = time.monotonic() + 120
    while lines(out / RESULTS) < after and time.monotonic() < patience:
        time.sleep(0.001)
    time.sleep(more)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, SIGNALS[number])
    ended = runs.wait()
    assert ended in (0, -SIGNALS[number], 130)
    kept = lines(out / RESULTS)
    assert kept >= after
    if ended:
        stopped.append(number)
        assert not (out / REPORT).exists() or kept == PICTURES
    runs.start(dataset, out)
    assert runs.wait() == 0
    for name in (RESULTS, REPORT):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert lines(out / SECONDS) == PICTURES
    assert {path.name for path in out.iterdir()} == {RESULTS, SECONDS, REPORT}


def test_most_runs_were_stopped_in_the_middle():
    """The test above would be empty if every run had ended before its signal."""
    if not stopped:
        pytest.skip("the test above was not run here")
    assert len(stopped) >= len(SIGNALS) // 2


def test_a_second_run_in_the_folder_is_refused(dataset, tmp_path):
    data, out = datasets.voc(dataset), tmp_path / "out"
    with Log(out, data.vocabulary.names):
        with pytest.raises(FslabError, match=rf"in use by .*process {os.getpid()}"):
            evaluate(Lab("mini", "rgb"), data, PLAIN, "oracle", out=out, progress=False)
        assert (out / LOCK).exists()
    assert not out.exists()
    evaluate(Lab("mini", "rgb"), data, PLAIN, "oracle", 2, out, progress=False)
    assert not (out / LOCK).exists()


def test_a_second_process_in_the_folder_is_refused(runs, dataset, undisturbed, tmp_path):
    out = tmp_path / "out"
    with Log(out, datasets.VOC.names) as log:
        runs.start(dataset, out)
        assert runs.wait() == 1
        assert log.get("any") is None
        assert not (out / RESULTS).exists()


def test_the_lock_of_a_dead_process_does_not_block(dataset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / LOCK).write_text("1")
    evaluate(Lab("mini", "rgb"), datasets.voc(dataset), PLAIN, "oracle", 2, out, progress=False)
    assert {path.name for path in out.iterdir()} == {RESULTS, SECONDS, REPORT}
