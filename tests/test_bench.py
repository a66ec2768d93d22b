"""The benches run, on tiny sizes and once; what a full run measures is in docs/benchmarks.md."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bench.contest import Contest, Curve
from bench.run import BEGINS, BENCHES, ENDS, LARGE, REFERENCE, fill, sentence

RUN = Path(__file__).parent / "bench" / "run.py"


def contest(ours, other, figure="times faster", target=None, **more):
    """Return a contest whose calls take the seconds that they return."""
    ours, other = iter(ours), iter(other)
    return Contest(
        "name", "what", "the other", lambda: next(ours), lambda: next(other), target, figure,
        seconds_of=lambda call: call(), **more,
    )  # fmt: skip


@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_bench_runs_and_its_results_agree(tmp_path, large):
    """Each bench asserts that both ways give the same before it times them."""
    out = tmp_path / "new" / "bench.json"
    command = [sys.executable, str(RUN), "--smoke", "--out", str(out), *["--large"] * large]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["smoke"] is True
    assert {"processor", "cores", "torch threads"} <= set(report["machine"])
    assert {"Python", "fslab", "torch"} <= set(report["versions"])
    names = [line["name"] for line in (*report["lines"], *report["curves"])]
    assert len(set(names)) == len(names)
    lacking = {bench for bench, package in REFERENCE.items() if not find_spec(package)}
    lacking |= set() if large else set(LARGE)
    for bench in BENCHES:
        assert any(name.startswith(bench) for name in names) is (bench not in lacking), bench
    assert all(line["rounds"] == 1 and line["median"] > 0 for line in report["lines"])


def test_median_and_bounds_come_from_the_rounds_after_the_first_call():
    # The first value of each is the call that pays for first uses.
    line = contest([9, 1, 2, 1, 1, 4], [9, 2, 2, 4, 5, 4], target=2.0).run()
    assert (line["median"], line["minimum"], line["maximum"]) == (2.0, 1.0, 5.0)
    assert line["rounds"] == 5
    assert line["met"] is True


@pytest.mark.parametrize(
    ("figure", "target", "met"),
    [("times faster", 4.0, True), ("times faster", 4.1, False), ("of its time", 0.25, True),
     ("of its time", 0.24, False), ("seconds", 1.0, True), ("seconds", 0.9, False)],
)  # fmt: skip
def test_a_target_is_a_floor_for_speed_and_a_ceiling_for_time(figure, target, met):
    line = contest([1.0] * 6, [4.0] * 6, figure, target).run()
    assert line["met"] is met
    assert ("met" if met else "missed") in sentence(line).split("; ")[-1].split(": ")[-1]


def test_the_shortest_call_of_a_round_counts_and_what_comes_first_is_untimed():
    calls = []
    line = contest(
        [9.0, 3.0, 1.0, 2.0], [9.0, 8.0, 8.0, 8.0], rounds=1, each=3, ready=lambda: calls.append(1)
    ).run()
    assert line["median"] == 8.0
    assert len(calls) == 4
    assert line["met"] is None


def test_a_curves_slope_is_that_of_its_logarithms():
    points = [{"side": side, "square": 3.0 * side**2, "none": 0.0} for side in (1, 4, 16)]
    line = Curve("curve", "what", "side", lambda: points).run()
    assert line["slopes"]["square"] == pytest.approx(2.0)
    assert line["slopes"]["none"] is None
    assert "| slope | 2.00 |  |" in sentence(line)


def test_figures_are_put_between_the_marks_of_a_page_again_and_again(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGINS}\nold figures\n{ENDS}\nafter\n")
    machine = {"processor": "P", "cores": 2, "torch threads": 1, "load average": [0.5, 0.4, 0.3]}
    lines = [contest([1.0] * 6, [4.0] * 6, target=5.0, notes=lambda: {"parts": [7, 8]}).run()]
    curves = [Curve("curve", "a curve", "K", lambda: [{"K": 2, "ms": 1.5}]).run()]
    report = {"machine": machine, "versions": {"torch": "2"}, "lines": lines, "curves": curves}
    for _ in range(2):
        fill(page, report)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert (
        text.count("| what | the other | times faster | 4 | 4 to 4 | 5 | >= 5, **missed** |") == 1
    )
    assert "- what: parts 7, 8" in text
    assert "| 2 | 1.5 |" in text
