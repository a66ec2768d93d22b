"""A pass that is wanted no more ends within one block; what is done ahead delays nobody."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from conftest import noise_picture
from torch import nn

import fslab
from fslab.backbones import Diffusion
from fslab.overtaking import giving_way, waiting, while_wanted
from fslab.process import ordinary
from fslab.records import Extraction, FslabError, Picture
from fslab.store import Store
from fslab.tap import tap
from fslab.widgets import explore_clusters, explore_features
from fslab.widgets.ahead import beside
from fslab.widgets.worker import Worker

PATIENCE = 60
"""Seconds until a test that waits for what never comes fails; nothing else depends on it."""


class Slow(nn.Module):
    """A block that is as slow as the test lets it be."""

    def __init__(self):
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def forward(self, x):
        self.entered.set()
        assert self.go.wait(PATIENCE)
        return x + 1


class Blocks(nn.Module):
    def __init__(self, count=3):
        super().__init__()
        self.blocks = nn.ModuleList(Slow() for _ in range(count))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def tapped(self, *_):
        with tap(self, "blocks.2", stop=True) as seen:
            self(torch.zeros(1))
        return seen

    def let_go(self):
        for block in self.blocks:
            block.go.set()


def entered(net):
    return [block.entered.is_set() for block in net.blocks]


def inside(net):
    """Wait until a pass is in a network's first block."""
    assert net.blocks[0].entered.wait(PATIENCE)


def test_a_pass_ends_before_the_next_block_and_leaves_no_hook():
    net, wanted, after = Blocks(), threading.Event(), []
    wanted.set()

    def work():
        with while_wanted(lambda what: wanted.is_set()):
            after.append(net.tapped())

    thread = threading.Thread(target=work)
    thread.start()
    inside(net)
    wanted.clear()
    net.let_go()
    thread.join(PATIENCE)
    assert entered(net) == [True, False, False]
    assert after == []
    assert not any(block._forward_pre_hooks or block._forward_hooks for block in net.blocks)
    assert float(net.tapped()["blocks.2"]) == 3


def test_a_pass_that_stays_wanted_is_whole_and_one_outside_is_never_asked():
    net, asked = Blocks(), []
    net.let_go()
    with while_wanted(lambda what: not asked.append(what)):
        assert float(net.tapped()["blocks.2"]) == 3
    assert asked == ["layers"] * 4
    with giving_way(net):
        net(torch.zeros(1))
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("needs", "whole"),
    [({"layers": frozenset("b")}, False), ({"layers": frozenset("ab")}, True), ({}, False)],
)
def test_a_newer_job_ends_the_pass_of_the_running_one_unless_it_needs_it(needs, whole):
    worker, net, shown = Worker(), Blocks(), []
    worker.submit(lambda newest: shown.append(bool(net.tapped())), {"layers": frozenset("a")})
    inside(net)
    worker.submit(lambda newest: shown.append("new"), needs)
    net.let_go()
    worker.wait(PATIENCE)
    assert entered(net) == [True, whole, whole]
    assert shown == [True] * whole + ["new"]


def test_passes_of_a_job_that_names_none_go_on_to_their_end():
    worker, net = Worker(), Blocks()
    worker.submit(lambda newest: net.tapped())
    inside(net)
    worker.submit(lambda newest: None)
    net.let_go()
    worker.wait(PATIENCE)
    assert entered(net) == [True, True, True]


def going_ahead(worker, net):
    """Have a worker pass through a network ahead of need, until it is in the first block."""
    worker.submit(lambda newest: worker.ahead([net.tapped]))
    worker.wait(PATIENCE)  # for what was asked, and not for what is done ahead
    inside(net)


def test_what_is_done_ahead_gives_way_to_a_job_of_another_explorer():
    worker, other, net, shown = Worker(), Worker(), Blocks(), []
    going_ahead(worker, net)
    other.submit(lambda newest: shown.append("asked"))
    net.let_go()
    other.wait(PATIENCE)
    assert shown == ["asked"]
    assert entered(net) == [True, False, False]


def test_what_is_done_ahead_gives_way_to_a_stage_in_a_cell():
    worker, net, ended = Worker(), Blocks(), threading.Event()
    worker.submit(lambda newest: worker.ahead([net.tapped, ended.set]))
    worker.wait(PATIENCE)
    inside(net)
    with ordinary():
        net.let_go()
        worker._pool.submit(int).result(PATIENCE)  # the thread is free again
    assert entered(net) == [True, False, False]
    assert not ended.is_set()
    assert not waiting


def test_what_is_done_ahead_ends_with_the_explorer_and_what_is_refused_is_left_out():
    worker, net, ended = Worker(), Blocks(), threading.Event()

    def refused():
        raise FslabError("no")

    worker.ahead([refused, ended.set, net.tapped, net.tapped])
    inside(net)
    assert ended.is_set()
    worker.drop()
    net.let_go()
    worker._pool.submit(int).result(PATIENCE)
    assert entered(net) == [True, False, False]


def test_an_encoder_gives_way_and_nothing_of_it_is_kept(diffusion_folders, own_store):
    backbone, left = Diffusion(diffusion_folders["sd1"]), iter([True] * 4 + [False] * 99)
    backbone.store = Store(own_store)
    picture = noise_picture(64, 64)
    with while_wanted(lambda what: what == "latent" and next(left)):
        backbone.latent(picture, (64, 64), Extraction())
        pytest.fail("the encoder's pass was whole")
    assert next(left) is False
    assert backbone.store.usage().entries == 0
    alone = Diffusion(diffusion_folders["sd1"])
    latent = backbone.latent(picture, (64, 64), Extraction())
    assert torch.equal(latent, alone.latent(picture, (64, 64), Extraction()))


# Explorers.


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return fslab.Lab("mini", store=tmp_path_factory.mktemp("ahead"))


def scene(number):
    rng = np.random.default_rng(number)
    return Picture(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), f"scene {number}")


def shown_by_a_browser(explorer):
    """Say what a browser says once it has carried out a change, and wait until the thread rests."""
    explorer.wait(PATIENCE)
    explorer._board.frame.painted = explorer._board.frame.serial
    while explorer._worker._pool._work_queue.qsize() or explorer._worker._pool.submit(
        explorer._worker._pool._work_queue.qsize
    ).result(PATIENCE):
        pass


@pytest.fixture
def passes(lab, monkeypatch):
    """What the backbone passes, as (timestep, number of layers)."""
    found, run = [], lab.backbone.run

    def recorded(picture, size, wanted, settings):
        found.extend((step, len(paths)) for step, paths in wanted.items())
        return run(picture, size, wanted, settings)

    monkeypatch.setattr(lab.backbone, "run", recorded)
    return found


def test_the_next_passes_are_made_once_a_browser_looks(lab, passes):
    explorer = explore_features(lab, [scene(1)])
    explorer.change(timestep=100).wait(PATIENCE)
    explorer.change(timestep=150).wait(PATIENCE)
    assert passes[-1] == (150, 1)
    before = len(passes)
    shown_by_a_browser(explorer)
    assert passes[before:] == [(200, 1), (150, 2), (151, 1), (149, 1)]
    before = len(passes)
    for step in (200, 151, 149):
        explorer.change(timestep=step).wait(PATIENCE)
    assert passes[before:] == []


def test_a_view_is_worked_ahead_of_once(lab, passes):
    explorer = explore_features(lab, [scene(2)], timestep=0)
    shown_by_a_browser(explorer)
    assert passes == [(0, 1), (1, 1), (0, 2)]
    before = len(passes)
    shown_by_a_browser(explorer)
    assert len(passes) == before


def test_clusters_ahead_are_features_of_the_next_timesteps(lab, passes):
    explorer = explore_clusters(lab, [scene(3)], timestep=500)
    shown_by_a_browser(explorer)
    assert [step for step, _ in passes[-2:]] == [501, 499]


def test_a_closed_explorer_does_nothing_ahead(lab, passes):
    explorer = explore_features(lab, [scene(4)], timestep=7)
    explorer.wait(PATIENCE)
    before = len(passes)
    explorer._worker.drop()
    with ordinary():
        shown_by_a_browser(explorer)
    explorer.close()
    assert len(passes) == before


def test_layers_beside_one_are_maps_and_no_probabilities():
    layers = ["a", "b.probs", "c", "d"]
    assert beside(layers, "c") == ("a", "d")
    assert beside(layers, "a") == ("c",)
    assert beside(layers, "e") == ()
