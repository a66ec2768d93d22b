"""The tap: what it reads, that it stops, that it never leaves a hook behind."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from fslab.records import FslabError
from fslab.tap import attending, attention_probabilities, layer_paths, tap, unknown_layer


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


def queries_and_keys(heads=4, shared=4, queries=5, keys=6):
    torch.manual_seed(0)
    return torch.randn(2, heads, queries, 8), torch.randn(2, shared, keys, 8)


ASKED = {
    "plain": {},
    "a scale": {"scale": 0.7},
    "causal": {"is_causal": True},
    "a mask of all": {"attn_mask": torch.arange(30).reshape(5, 6) % 4 > 0},
    "a mask of each picture": {"attn_mask": torch.arange(60).reshape(2, 1, 5, 6) % 7 > 1},
    "a mask of each head": {"attn_mask": torch.arange(240).reshape(2, 4, 5, 6) % 7 > 1},
    "what is added": {"attn_mask": torch.arange(30).reshape(5, 6) / 10},
    "what is added to each head": {"attn_mask": torch.arange(240).reshape(2, 4, 5, 6) / 50},
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("shared", [4, 2, 1])
def test_probabilities_are_what_attention_makes_of_one_value_a_key(asked, shared):
    query, key = queries_and_keys(shared=shared)
    one_each = torch.eye(6).expand(2, shared, 6, 6)
    more = ASKED[asked]
    looked = scaled_dot_product_attention(query, key, one_each, enable_gqa=True, **more)
    found = attention_probabilities(query, key, one_each, enable_gqa=True, **more)
    assert found.dtype == torch.float32
    assert torch.allclose(found, looked.mean(1), atol=1e-6)


class Looking(nn.Module):
    """Attention of cells to themselves, with a module of its own inside."""

    def __init__(self):
        super().__init__()
        self.inner = Counting()

    def forward(self, x, times=1.0):
        heads = self.inner(x * times).reshape(1, 2, -1, 4)
        return scaled_dot_product_attention(heads, heads, heads)


def test_where_a_module_looks_and_what_it_is_given_are_read_beside_what_it_outputs():
    net, x = nn.Sequential(Looking(), Counting()), torch.linspace(-1, 1, 24)
    with tap(net, "0.probs", "0.inner.input", "0.input", "1", stop=True) as seen:
        net(x)
        pytest.fail("the pass was not stopped")
    heads = (x + 1).reshape(1, 2, 3, 4)
    assert set(seen) == {"0.probs", "0.inner.input", "0.input", "1"}
    assert torch.equal(seen["0.probs"], attention_probabilities(heads, heads))
    assert torch.equal(seen["0.inner.input"], x)
    assert seen["1"].shape == (1, 2, 3, 4)
    assert hooks(net) == 0


def test_a_tap_keeps_what_is_picked_of_where_a_module_looks():
    net = nn.Sequential(Looking())
    with tap(net, "0.probs", "0.to_text", pick=lambda path, matrix: matrix[:, :1]) as seen:
        net(torch.zeros(24))
    assert [tuple(value.shape) for value in seen.values()] == [(1, 1, 3), (1, 1, 3)]
    assert net[0](torch.zeros(24)).shape == (1, 2, 3, 4)


def test_an_input_that_is_named_is_read_too():
    net = Looking()
    with tap(net, "inner.input") as seen:
        net(torch.ones(24), times=3.0)
    assert seen["inner.input"].eq(3).all()
    outer = nn.ModuleDict({"one": Looking()})
    with tap(outer, "one.input") as seen:
        outer["one"](x=torch.ones(24))
    assert seen["one.input"].eq(1).all()


def test_of_modules_within_each_other_the_innermost_is_told():
    outer, told = nn.Sequential(Looking()), []
    listeners = {
        outer: lambda *given: told.append("outer"), outer[0]: lambda *given: told.append("inner"),
    }  # fmt: skip
    heads = torch.ones(1, 1, 2, 4)
    with attending(listeners):
        outer(torch.ones(24))
        scaled_dot_product_attention(heads, heads, heads)  # of no module
    outer(torch.ones(24))
    assert told == ["inner"]
    assert not any(module._forward_pre_hooks for module in outer.modules())


@pytest.mark.parametrize(("entries", "kept"), [(None, 1.0), ({"0": 2}, 2.0)])
def test_another_entry_of_an_output_is_kept_where_it_is_asked_for(entries, kept):
    net = nn.Sequential(Counting(lambda x: ("text", x, x * 2)))
    with tap(net, "0", entries=entries) as seen:
        net(torch.ones(1))
    assert seen["0"].item() == kept
