"""The tap: what it reads, that it stops, that it never leaves a hook behind."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from torch import nn

from fslab.records import FslabError
from fslab.tap import layer_paths, tap, unknown_layer


class Counting(nn.Module):
    def __init__(self, out=None):
        super().__init__()
        self.calls, self.out = 0, out

    def forward(self, x):
        self.calls += 1
        return self.out(x) if self.out else x + 1


def chain():
    return nn.Sequential(*[Counting() for _ in range(4)])


def hooks(net):
    return sum(len(module._forward_hooks) for module in net.modules())


def test_reads_each_layer_by_path():
    net = chain()
    with tap(net, "0", "2") as seen:
        out = net(torch.zeros(2))
    assert list(seen) == ["0", "2"]
    assert seen["2"].tolist() == [3, 3]
    assert out.tolist() == [4, 4]
    assert hooks(net) == 0


def test_stop_ends_the_pass_after_the_last_wanted_layer():
    net = chain()
    with tap(net, "0", "2", stop=True) as seen:
        net(torch.zeros(2))
        pytest.fail("the pass was not stopped")
    assert set(seen) == {"0", "2"}
    assert [layer.calls for layer in net] == [1, 1, 1, 0]
    assert hooks(net) == 0


def test_a_layer_that_fires_twice_gives_its_first_output_with_stop():
    shared = Counting()
    net = nn.Sequential(shared, shared, Counting())
    with tap(net, "0", "2", stop=True) as seen:
        net(torch.zeros(1))
    assert seen["0"].item() == 1
    with tap(net, "0") as seen:
        net(torch.zeros(1))
    assert seen["0"].item() == 2


def test_what_people_type_is_offered_something_near():
    net = nn.ModuleDict({"up_blocks": nn.ModuleDict({"attn2": nn.ModuleDict({"to_q": chain()})})})
    for typed in ("nope", "to_q", "up_blocks.attn2.to_k", "attn2.to_q"):
        expected = r"the nearest are \S+" if typed == "nope" else "to_q"
        with pytest.raises(FslabError, match=expected):
            layer_paths(net, [typed])


def test_unhooks_when_the_pass_fails():
    def fail(x):
        raise RuntimeError("broken layer")

    net = nn.Sequential(Counting(), Counting(fail))
    with pytest.raises(RuntimeError, match="broken layer"), tap(net, "0"):
        net(torch.zeros(1))
    assert hooks(net) == 0


def test_unhooks_on_keyboard_interrupt():
    net = chain()
    with pytest.raises(KeyboardInterrupt), tap(net, "*"):
        raise KeyboardInterrupt
    assert hooks(net) == 0


def test_first_tensor_of_tuples_and_mappings():
    net = nn.Sequential(
        Counting(lambda x: (x, (x * 2,))),
        Counting(lambda out: {"sample": out[0] + 5}),
    )
    with tap(net, "0", "1") as seen:
        net(torch.ones(1))
    assert seen["0"].item() == 1
    assert seen["1"].item() == 6


def test_an_output_without_tensor_is_refused():
    net = nn.Sequential(Counting(lambda x: "text"))
    with pytest.raises(FslabError, match="layer '0' outputs str"), tap(net, "0"):
        net(torch.ones(1))
    assert hooks(net) == 0


def test_patterns_span_dots_and_keep_the_networks_order():
    net = nn.ModuleDict({"b": chain(), "a": nn.ModuleDict({"to_q": nn.Identity()})})
    assert layer_paths(net, ["*.to_q", "b.[01]"]) == ("b.0", "b.1", "a.to_q")


def test_an_unknown_layer_offers_the_nearest():
    net = nn.ModuleDict({"down_blocks": chain()})
    with (
        pytest.raises(FslabError, match=r"'down_block\.1'.*down_blocks\.1"),
        tap(net, "down_block.1"),
    ):
        pass


def test_nested_taps_stop_their_own_pass():
    net = chain()
    with tap(net, "1", stop=True) as outer:
        with tap(net, "3", stop=True):
            net(torch.zeros(1))
        pytest.fail("the outer signal was swallowed by the inner tap")
    assert outer["1"].item() == 2
    assert hooks(net) == 0


def test_an_unknown_layer_is_offered_what_holds_it_then_what_is_near():
    paths = [f"blocks.{number}.inner.value" for number in range(6)] + ["head", "tail"]
    said = unknown_layer("*inner*", paths)
    assert said.endswith(f"the nearest are {', '.join(paths[:4])}")
    assert unknown_layer("blocks.9.value", paths).count("blocks.") == 5
    alone = unknown_layer("zzz", paths)
    assert alone.endswith("the nearest are tail")
    far = ["abc." + "x" * 80 + ".q", "y" * 80 + ".q", "abc." + "z" * 80, "last"]
    assert unknown_layer("abc.9.q", far).endswith(f"the nearest are {far[0]}, last")


def test_the_signal_that_ends_a_pass_says_why():
    net = chain()
    with pytest.raises(BaseException, match="every wanted layer has fired") as ended:  # noqa: PT012
        with tap(net, "0") as outer, tap(net, "0", stop=True) as inner:
            try:
                net(torch.zeros(1))
            except Exception as signal:  # noqa: BLE001
                reason = signal
        raise reason
    assert ended.value.owner is inner
    assert outer is not inner


def test_two_threads_never_see_each_others_pass():
    net, entered = chain(), threading.Event()

    def other():
        entered.set()
        with tap(net, "0") as seen:
            net(torch.full((1,), 10.0))
        return seen["0"].item()

    with ThreadPoolExecutor(1) as threads:
        with tap(net, "0") as seen:
            elsewhere = threads.submit(other)
            entered.wait()
            assert not wait([elsewhere], timeout=0.2).done
            net(torch.zeros(1))
            assert seen["0"].item() == 1
        assert elsewhere.result() == 11
    assert hooks(net) == 0
