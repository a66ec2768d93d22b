"""Devices by name: those that are there are taken, any other is refused."""

import pytest
import torch

from fslab.devices import checked_device, on_processors
from fslab.records import FslabError


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_devices_that_are_there_are_taken(two_gpus):
    for given in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert checked_device(given) == given
    assert checked_device(torch.device("cuda", 1)) == "cuda:1"
    assert checked_device("cpu:0") == "cpu"
    assert checked_device(None) == "cuda"


@pytest.mark.parametrize("given", ["cuda:2", "mps", "cuda:", "cuda:one", "cpu:1", "gpu", "", 0])
def test_others_are_refused_with_those_that_are_there(two_gpus, given):
    with pytest.raises(FslabError, match=r"not on this machine; there is cpu, cuda:0, cuda:1$"):
        checked_device(given)


def test_without_another_the_processors_are_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert checked_device(None) == "cpu"
    with pytest.raises(FslabError, match=r"device is 'cuda', .*; there is cpu$"):
        checked_device("cuda")
    assert on_processors("cpu")
    assert not on_processors("cuda:0")
