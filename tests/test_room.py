"""Memory that is still to be had: the least of all limits, and the refusal of what needs more."""

from pathlib import Path

import pytest

from fslab import room
from fslab.records import OutOfMemory


def test_bytes_are_said_in_the_larger_unit_that_they_fill():
    assert room.spoken(1_000_000_000) == "1.0 GB"
    assert room.spoken(999_999_999) == "1000.0 MB"
    assert room.spoken(2_340_000) == "2.3 MB"


def test_what_takes_more_than_is_free_is_refused_and_the_rest_is_not(monkeypatch):
    monkeypatch.setattr(room, "available", lambda: 2_000_000)
    room.check_room(2_000_000, "the map", "take fewer cells")
    said = "^the map takes up to 3.0 MB of memory, and 2.0 MB are free; take fewer cells$"
    with pytest.raises(OutOfMemory, match=said):
        room.check_room(3_000_000, "the map", "take fewer cells")
    monkeypatch.setattr(room, "available", lambda: None)
    room.check_room(1 << 62, "the map", "take fewer cells")


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not say")
def test_this_machine_has_some_and_not_more_than_it_is_said_to_have():
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    assert 0 < room.available() < total
