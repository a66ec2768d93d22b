"""The store: what comes out is what went in, or nothing."""

import fcntl
import multiprocessing
import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fslab.records import FslabError
from fslab.store import Damaged, Store, Usage, decode, encode

KEY = "ab" * 16


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "layer": rng.standard_normal((3, 4, 5)).astype(np.float32),
        "labels": np.arange(6, dtype=np.int32).reshape(2, 3),
        "none": np.zeros((0, 4), np.float32),
        "scalar": np.array(3.5),
    }


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name])
        for name in left
    )


def test_round_trip(tmp_path, arrays):
    store = Store(tmp_path)
    assert store.get(KEY) is None
    store.put(KEY, arrays)
    assert same(store.get(KEY), arrays)
    assert not store.get(KEY)["layer"].flags.writeable


def test_an_entry_is_a_plain_safetensors_file(tmp_path, arrays):
    store = Store(tmp_path)
    store.put(KEY, arrays)
    assert same(load_file(store.path(KEY)), arrays)


def test_any_fsspec_url(arrays):
    store = Store("memory://fslab-test")
    store.put(KEY, arrays)
    assert same(store.get(KEY), arrays)
    assert store.usage().entries == 1
    assert store.prune(0).entries == 1
    assert store.get(KEY) is None


def test_an_unknown_url_is_refused():
    with pytest.raises(FslabError, match="nosuch://bucket"):
        Store("nosuch://bucket")


def test_the_environment_moves_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("FSLAB_STORE", str(tmp_path / "elsewhere"))
    assert Store().location == str(tmp_path / "elsewhere")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_altered_bit_is_seen(data):
    entry = bytearray(encode({"a": np.arange(7, dtype=np.float32), "b": np.ones((2, 2), np.uint8)}))
    position = data.draw(st.integers(0, len(entry) * 8 - 1))
    entry[position // 8] ^= 1 << position % 8
    try:
        found = decode(bytes(entry))
    except Damaged:
        return
    assert same(found, {"a": np.arange(7, dtype=np.float32), "b": np.ones((2, 2), np.uint8)})


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_a_truncated_entry_is_reported_dropped_and_made_again(tmp_path, arrays, cut):
    store = Store(tmp_path)
    store.put(KEY, arrays)
    entry = Path(store.path(KEY))
    entry.write_bytes(entry.read_bytes()[:cut])
    with pytest.warns(RuntimeWarning, match="is damaged") as seen:
        assert store.get(KEY) is None
    assert KEY in str(seen[0].message)
    assert not os.path.exists(store.path(KEY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(KEY) is None
        store.put(KEY, arrays)
    assert same(store.get(KEY), arrays)


def test_a_store_that_cannot_be_written_says_so_once(tmp_path, arrays):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    store = Store(blocked)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        store.put(KEY, arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put(KEY, arrays)
        assert store.get(KEY) is None


def test_a_failed_write_leaves_nothing(tmp_path, arrays, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        store.put(KEY, arrays)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_prune_drops_what_was_used_longest_ago(tmp_path):
    store = Store(tmp_path)
    keys = [f"{number:02d}" * 16 for number in range(4)]
    for age, key in enumerate(keys):
        store.put(key, {"a": np.zeros(1000, np.float32)})
        os.utime(store.path(key), (1000 + age, 1000 + age))
    store.get(keys[0])  # used now
    each = store.usage().bytes // 4
    assert store.prune(2 * each) == Usage(2, 2 * each)
    assert [store.get(key) is not None for key in keys] == [True, False, False, True]


def test_prune_drops_files_aside_that_nobody_writes(tmp_path):
    store = Store(tmp_path)
    store.put(KEY, {"a": np.zeros(3, np.float32)})
    orphan, fresh = tmp_path / "ab" / "x.aside", tmp_path / "ab" / "y.aside"
    orphan.write_bytes(b"half")
    with fresh.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.prune(10**9)
    assert not orphan.exists()
    assert fresh.exists()
    assert store.get(KEY) is not None


def _write_and_read(location, seed):
    store, rng = Store(location), random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            number = rng.randrange(3)
            key = f"{number:02d}" * 16
            store.put(key, {"a": np.full(5000, number, np.float32)})
            found = store.get(key)
            assert found is not None
            assert (found["a"] == number).all()


def test_many_processes_share_a_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_write_and_read, args=(str(tmp_path), seed)) for seed in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert Store(tmp_path).usage().entries == 3


def test_a_warning_names_the_line_that_filed(tmp_path, arrays):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(RuntimeWarning, match="cannot be written") as seen:
        Store(tmp_path / "file").put(KEY, arrays)
    assert seen[0].filename == __file__


def test_a_folder_is_tidied_at_a_store_s_first_write_into_it_alone(tmp_path, arrays):
    store, orphan = Store(tmp_path), tmp_path / "ab" / ".x.aside"
    store.put(KEY, arrays)
    orphan.write_bytes(b"half")
    store.put(KEY, arrays)
    assert orphan.exists(), "every write looks through its folder"
    Store(tmp_path).put(KEY, arrays)
    assert not orphan.exists()


@pytest.mark.parametrize(
    ("written", "altered"),
    [(b'"labels"', b'"babels"'), (b'"I32"', b'"U32"'), (b'"shape":[2,3]', b'"shape":[3,2]')],
    ids=["name", "type", "shape"],
)
def test_the_checksum_covers_what_the_header_says(arrays, written, altered):
    entry = encode(arrays, KEY)
    assert entry.count(written) == 1
    with pytest.raises(Damaged, match="checksum"):
        decode(entry.replace(written, altered), KEY)
