"""What another system lacks or forbids: POSIX's modules, open files that are renamed, case."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_dataset

from fslab import files
from fslab.files import ASIDE, Held, drop_orphans, hold, write_aside
from fslab.store import Store

KEY = "ab" * 16

WITHOUT_POSIX = """
import builtins, os, sys

LACKING = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}
OURS = ("fslab", "filelock")
plain = builtins.__import__

def careful(name, globals=None, *rest, **named):
    asks = (globals or {}).get("__name__", "").partition(".")[0]
    if name.partition(".")[0] in LACKING and asks in OURS:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain(name, globals, *rest, **named)

builtins.__import__ = careful
sys.modules["fcntl"] = None
for name in (
    "pread", "pwrite", "fchmod", "fchown", "fork", "sched_getaffinity", "statvfs", "O_DIRECTORY",
    "getpgid", "killpg", "symlink", "link", "posix_fadvise", "mkfifo", "nice",
):
    delattr(os, name)
"""
"""Takes away what Windows lacks: from fslab and its locks what other libraries ask of Linux,
and from everyone the file locks."""


def run_without_posix(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning:fslab", "-c", WITHOUT_POSIX + code, *arguments],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


def test_lab_store_and_command_line_run_without_posix(tmp_path, tiny):
    data = write_dataset(tmp_path / "set", 1)
    code = """
import fslab
from fslab.cli import main

preset, data, out = sys.argv[1:]
lab = fslab.Lab(preset, store=f"{out}/store")
picture = fslab.read(f"{data}/JPEGImages/noise_0.png")
print(lab.extract(picture).size, lab.store.usage().entries > 0, lab.store.prune(0).entries > 0)
evaluate = ["evaluate", data, "--preset", preset, "--cluster", "kmeans", "--metric", "mbo", "--out", f"{out}/e"]
segment = ["segment", f"{data}/JPEGImages", "--backbone", "rgb", "--preset", preset, "--classes", "dog", "--out", f"{out}/s"]
check, score = ["check", data], ["score", f"{data}/SegmentationClass", f"{data}/SegmentationClass"]
for words in (["cache"], ["layers", preset], evaluate, segment, check, score):
    sys.argv = ["fslab", *words]
    try:
        main()
    except SystemExit as ended:
        print("ended", ended.code)
"""
    done = run_without_posix(code, str(tiny), str(data), str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "(64, 96) True True" in done.stdout
    assert done.stdout.count("ended 0") + done.stdout.count("ended None") == 6, done.stderr
    assert (tmp_path / "e" / "report.json").is_file()
    assert not (tmp_path / "e" / ".running").exists()


def test_without_locks_a_file_is_the_lock_and_a_dead_holder_s_counts_for_nothing(tmp_path):
    code = """
from fslab.files import Held, hold
with hold(sys.argv[1]):
    try:
        with hold(sys.argv[1]):
            print("twice")
    except Held as error:
        print("held by us:", error.holder == str(os.getpid()))
    if len(sys.argv) > 2:
        os._exit(9)
"""
    lock = tmp_path / "lock"
    assert run_without_posix(code, str(lock), "die").returncode == 9
    assert lock.exists()
    done = run_without_posix(code, str(lock))
    assert done.stdout == "held by us: True\n", done.stderr
    assert not lock.exists()


def test_a_file_system_without_locks_is_held_too(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "lock_descriptor", no_locks)
    with hold(tmp_path / "lock"), pytest.raises(Held), hold(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


def opened():
    """Return the files that this process has open."""
    return {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def windows(monkeypatch):
    """Renaming, replacing and removing as on Windows: not while the file is open."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("which files are open is asked of /proc")
    plain = {name: getattr(os, name) for name in ("replace", "unlink")}

    def refusing(name):
        def call(*paths):
            for path in map(os.path.realpath, paths):
                if path in opened():
                    raise PermissionError(errno.EACCES, "it is used by another process", path)
            return plain[name](*paths)

        return call

    for name in plain:
        monkeypatch.setattr(os, name, refusing(name))
    monkeypatch.setattr(files, "WINDOWS", True)


@pytest.mark.usefixtures("windows")
def test_where_open_files_stay_as_they_are_files_are_written_held_and_tidied(tmp_path):
    path = tmp_path / "report"
    for words in (b"first", b"second"):
        write_aside(path, words)
        assert path.read_bytes() == words
    with hold(tmp_path / "lock"), pytest.raises(Held) as held, hold(tmp_path / "lock"):
        pass
    assert held.value.holder == str(os.getpid())
    old, new = tmp_path / f".old{ASIDE}", tmp_path / f".new{ASIDE}"
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    drop_orphans(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [f".new{ASIDE}", "report"]


@pytest.mark.usefixtures("windows")
def test_a_file_that_someone_reads_is_replaced_when_they_are_done(tmp_path, monkeypatch):
    path, waits = tmp_path / "report", []
    path.write_bytes(b"old")
    reader = path.open("rb")

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            reader.close()

    monkeypatch.setattr(files.time, "sleep", wait)
    write_aside(path, b"new")
    assert (path.read_bytes(), len(waits)) == (b"new", 3)
    with path.open("rb"), pytest.raises(PermissionError):
        write_aside(path, b"newer")
    assert [each.name for each in tmp_path.iterdir()] == ["report"]


@pytest.mark.usefixtures("windows")
def test_the_store_keeps_entries_where_open_files_stay_as_they_are(tmp_path, recwarn):
    import numpy as np

    store = Store(tmp_path)
    for value in (1, 2):
        store.put(KEY, {"a": np.full(3, value)})
    assert store.get(KEY)["a"].tolist() == [2, 2, 2]
    assert store.prune(0).entries == 1
    assert not recwarn.list
