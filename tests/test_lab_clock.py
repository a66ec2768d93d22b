"""The clock of a run: seconds by stage, told as each begins, and the versions at work in it."""

import time

import pytest

from fslab.lab.clock import Clock
from fslab.versions import note


def test_stages_are_told_as_they_begin_and_timed_to_their_end():
    told = []
    clock = Clock(lambda name: told.append((name, dict(clock.seconds))))
    with clock.stage("first"):
        time.sleep(0.02)
    with clock.stage("second"):
        pass
    assert [name for name, _ in told] == ["first", "second"]
    assert told[0][1] == {}
    assert clock.seconds["first"] >= 0.02 > clock.seconds["second"] >= 0


def test_versions_that_are_noted_in_a_stage_are_the_run_s():
    clock = Clock()
    with clock.stage("read"):
        note({"torch": "0.1"})
    assert clock.noted.versions["torch"].split(", ")[0] == "0.1"


def test_a_stage_that_fails_has_no_time():
    clock = Clock()
    with pytest.raises(ValueError, match="broken"), clock.stage("first"):
        raise ValueError("broken")
    assert clock.seconds == {}
