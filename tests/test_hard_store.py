"""The store under faults: never a wrong array, never a needless crash, never an orphan."""

import errno
import fcntl
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import storing
from faults import survived
from hypothesis import given, settings
from hypothesis import strategies as st

from fslab import files
from fslab import store as store_module
from fslab.files import drop_orphans, write_aside
from fslab.lab.memory import Memory
from fslab.recent import Recent
from fslab.store import Damaged, OtherFormat, Store, decode, encode

KEY, OTHER = "ab" * 16, "cd" * 16


def whole():
    rng = np.random.default_rng(0)
    return {
        "map": rng.standard_normal((4, 9, 7)).astype(np.float32),
        "labels": rng.integers(0, 9, (16, 16)).astype(np.int32),
    }


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name])
        for name in left
    )


@pytest.fixture
def open_folder():
    """A folder that other users reach too: those of pytest are their owner's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=True)
    shutil.rmtree(folder)


def test_writers_killed_at_any_moment_leave_whole_entries_and_no_orphans(tmp_path):
    found = storing.run(storing.killed, tmp_path)
    assert found["orphans"] > 3, "no writer was killed in the middle of a write"
    assert found["left"] == 0
    assert found["there"] == 3
    survived("store: writer killed (SIGKILL)", found["killed"])
    survived("store: orphan of a killed writer cleaned", found["orphans"])


def test_eight_processes_write_one_key_and_a_ninth_tidies(tmp_path):
    found = storing.run(storing.eight, tmp_path)
    assert found == {"codes": [0] * 8, "left": 0, "entries": 1}
    survived("store: eight processes on one key", 8)


def test_a_store_without_permissions(open_folder):
    found = storing.run(storing.unprivileged, open_folder)
    assert found["there"]
    (put,) = found["put"]
    assert re.search(r"cannot be written \(.*Permission denied.*results are not kept", put)
    (get,) = found["get"]
    assert re.search(r"cannot be read \(.*Permission denied.*it is computed again", get)
    (prune,) = found["prune"]
    assert re.match(r"refused: the store's entry .* cannot be removed \(Permission denied\)", prune)
    assert found["usage"] == 2
    survived("store: no permission", 4)


def test_a_file_that_may_not_grow(tmp_path):
    found = storing.run(storing.limited, tmp_path)
    (warned,) = found["warned"]
    assert "File too large" in warned
    assert found["left"] == 0
    assert found["kept"]
    survived("store: write refused halfway (RLIMIT_FSIZE)", 3)


def test_a_full_disk(small_disk):
    store, arrays = Store(small_disk / "store"), {"a": np.zeros(5000, np.float32)}
    keys = [f"{number:02d}" * 16 for number in range(20)]
    with pytest.warns(RuntimeWarning, match="No space left on device") as seen:
        [store.put(key, arrays) for key in keys]
    assert len(seen) == 1
    kept = [key for key in keys if store.get(key)]
    assert 1 <= len(kept) < 20
    assert not list(small_disk.rglob("*.aside"))
    store.prune(0)
    store.put(keys[-1], arrays)
    assert same(store.get(keys[-1]), arrays)
    survived("store: full disk (tmpfs)", len(keys) - len(kept))


def altered(data, chance):
    """Do to a file what disks and cables do."""
    data, at = bytearray(data), chance.randrange(len(data))
    kind = chance.choice(["bits", "bytes", "zeros", "cut", "longer", "moved"])
    if kind == "bits":
        for _ in range(chance.randint(1, 8)):
            bit = chance.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
    elif kind == "cut":
        del data[at:]
    elif kind == "longer":
        data += chance.randbytes(chance.randint(1, 600))
    elif kind == "moved":
        piece = data[at : at + 64]
        data[: len(piece)] = piece
    else:
        count = min(chance.randint(1, 512), len(data) - at)
        data[at : at + count] = bytes(count) if kind == "zeros" else chance.randbytes(count)
    return kind, bytes(data)


def test_a_thousand_damages_never_give_a_wrong_array(tmp_path):
    store, arrays, chance = Store(tmp_path), whole(), random.Random(0)
    store.put(KEY, arrays)
    entry = Path(store.path(KEY))
    data, kinds, seen = entry.read_bytes(), [], 0
    for _ in range(1000):
        kind, changed = altered(data, chance)
        entry.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = store.get(KEY)
        assert found is None or same(found, arrays), kind
        seen += found is None
        kinds.append(kind)
        if found is None:
            store.put(KEY, arrays)
            assert same(store.get(KEY), arrays)
    assert seen > 700
    for kind in set(kinds):
        survived(f"store: entry damaged ({kind})", kinds.count(kind))


def with_header(header):
    return struct.pack("<Q", len(header)) + header + bytes(64)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        with_header(b"[" * 200_000),
        with_header(b'{"__metadata__": 3}'),
        with_header(b"[1, 2]"),
        with_header(b"\xff\xfe"),
        *(
            with_header(
                b'{"a": {"dtype": "F32", "shape": %s, "data_offsets": [0, 4]}, '
                b'"__metadata__": {"format": "fslab-3", "versions": "{}", "checksum": "0"}}' % shape
            )
            for shape in (b"[1" + b"0" * 40 + b"]", b"[-1]", b"[1e300]", b'"12"', b"[null]", b"7")
        ),
    ],
    ids=lambda data: f"{data[:40]!r}",
)
def test_no_bytes_make_reading_crash(tmp_path, data):
    with pytest.raises(Damaged):
        decode(data)
    store = Store(tmp_path)
    Path(store.path(KEY)).parent.mkdir()
    Path(store.path(KEY)).write_bytes(data)
    with pytest.warns(RuntimeWarning, match="is damaged"):
        assert store.get(KEY) is None
    survived("store: entry damaged (header made up)")


def test_an_entry_under_another_key_is_not_believed(tmp_path):
    store = Store(tmp_path)
    store.put(KEY, whole())
    Path(store.path(OTHER)).parent.mkdir()
    shutil.copy(store.path(KEY), store.path(OTHER))
    with pytest.warns(RuntimeWarning, match="is damaged"):
        assert store.get(OTHER) is None
    assert same(store.get(KEY), whole())
    survived("store: entry under another's key")


def test_another_version_of_the_format_is_made_again_in_silence(tmp_path, monkeypatch):
    store = Store(tmp_path)
    with monkeypatch.context() as earlier:
        earlier.setattr(store_module, "FORMAT", "fslab-0")
        store.put(KEY, whole())
    with pytest.raises(OtherFormat, match="'fslab-0', not 'fslab-3'"):
        decode(Path(store.path(KEY)).read_bytes(), KEY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(KEY) is None
        assert os.path.exists(store.path(KEY)), "a colleague's entry was removed"
        store.put(KEY, whole())
        assert same(store.get(KEY), whole())
    survived("store: another version of the format")


def in_the_way(kind, path):
    path.parent.mkdir(exist_ok=True)
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link to itself":
        path.symlink_to(path)
    else:
        path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("kind", ["a folder", "a link to itself", "a device that fails"])
def test_what_cannot_be_read_is_computed_again(tmp_path, kind):
    store = Store(tmp_path)
    in_the_way(kind, Path(store.path(KEY)))
    with pytest.warns(RuntimeWarning, match=r"cannot be read .*computed again"):
        assert store.get(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.put(KEY, whole())
        found = store.get(KEY)
    assert found is None if kind == "a folder" else same(found, whole())
    assert not list(tmp_path.rglob("*.aside"))
    survived(f"store: {kind} where the entry should be")


def test_memory_that_runs_out_while_filing_loses_nothing(tmp_path, monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(store_module, "encode", none_left)
    memory = Memory(Store(tmp_path), Recent())
    with pytest.warns(RuntimeWarning, match="memory ran out"):
        found = memory.array("made", lambda: np.arange(3))
    assert found.tolist() == [0, 1, 2]
    survived("store: memory runs out while filing")


@pytest.mark.parametrize("years", [-30, -1, 1, 30])
def test_clocks_that_jump_neither_keep_orphans_nor_end_living_writers(tmp_path, years):
    store, then = Store(tmp_path), time.time() + years * 365 * 86400
    store.put(KEY, whole())
    orphan, living = (Path(store.path(KEY)).parent / f".{name}.aside" for name in "ab")
    orphan.write_bytes(b"half")
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for path in (orphan, living, store.path(KEY)):
            os.utime(path, (then, then))
        Store(tmp_path).put(KEY, whole())
        store.prune(10**9)
        assert living.exists()
    assert not orphan.exists()
    os.utime(store.path(KEY), (then, then))
    assert same(store.get(KEY), whole())
    survived("store: clock jump", 2)


def test_without_locks_the_age_tells_orphans(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "lock_descriptor", no_locks)
    old, new = tmp_path / ".old.aside", tmp_path / ".new.aside"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    drop_orphans(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
    write_aside(tmp_path / "whole", b"data")
    assert (tmp_path / "whole").read_bytes() == b"data"
    survived("store: file system without locks")


def test_what_must_last_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *both: (order.append("name"), replace(*both)))
    write_aside(tmp_path / "report", b"figures")
    assert order == ["sync", "name"]


DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arrays_of_any_type_order_and_shape_come_back(data):
    kind = data.draw(st.sampled_from("<>")) + data.draw(st.sampled_from(DTYPES))
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    seed = data.draw(st.integers(0, 99))
    given_array = np.random.default_rng(seed).integers(0, 100, shape).astype(kind)
    if data.draw(st.booleans()):
        given_array = given_array.T
    if given_array.ndim and data.draw(st.booleans()):
        given_array = given_array[::-1]
    found = decode(encode({"a": given_array}, KEY), KEY)["a"]
    assert found.shape == given_array.shape
    assert found.dtype == given_array.dtype.newbyteorder("=")
    assert np.array_equal(found, given_array)


@pytest.mark.parametrize("ask", ["array", "shared"])
def test_nobody_changes_what_the_next_is_given(tmp_path, ask):
    for _ in ("cold", "warm"):
        memory = Memory(Store(tmp_path), Recent())
        for _ in range(2):
            found = getattr(memory, ask)("zeros", lambda: np.zeros(3))
            with pytest.raises(ValueError, match="read-only"):
                found += 1
            assert found.tolist() == [0, 0, 0]
