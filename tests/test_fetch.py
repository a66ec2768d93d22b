"""Archives from outside: cut connections, wrong bytes, hostile names, full disks."""

import fcntl
import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fslab.datasets.fetch import SETS, Archive, download, fetch, place, unpack
from fslab.records import FslabError

RANDOM = np.random.default_rng(0).bytes(700_000)


class Server(ThreadingHTTPServer):
    """Serves `content`; `cuts` are how many bytes each connection in turn gets to send."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.ranged, self.asked, self.status = b"", [], True, [], 200


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, given = self.server, self.headers.get("Range")
        server.asked.append(given)
        if server.status != 200:
            return self.send_error(server.status)
        start = int(given.split("=")[1].rstrip("-")) if given and server.ranged else 0
        body, whole = server.content[start:], len(server.content)
        self.send_response(206 if given and server.ranged else 200)
        if given and server.ranged:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def tar_of(*members):
    """Return a tar of (name, content) pairs, or of TarInfo for what is no ordinary file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return made.getvalue()


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_of(*members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return made.getvalue()


GOOD = tar_of(("set/pictures/a.jpg", RANDOM), ("set/list.txt", b"a\n"))


def served(server, content=GOOD, name="good.tar", brings="set"):
    server.content = content
    url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    return Archive(url, len(content), hashlib.sha256(content).hexdigest(), brings)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def run_fetch(archive, folder):
    return fetch([archive], folder, progress=False)


@pytest.mark.parametrize(
    ("content", "name"),
    [(GOOD, "good.tar"), (zip_of(("set/pictures/a.jpg", RANDOM), ("set/list.txt", b"a\n")), "good.zip")],
)  # fmt: skip
def test_a_set_comes_whole_and_once(server, tmp_path, content, name):
    archive = served(server, content, name)
    assert run_fetch(archive, tmp_path) == [tmp_path / "set"]
    assert files(tmp_path) == ["set/list.txt", "set/pictures/a.jpg"]
    assert (tmp_path / "set/pictures/a.jpg").read_bytes() == RANDOM
    assert run_fetch(archive, tmp_path) == []
    assert server.asked == [None]


def test_a_cut_connection_is_continued_by_range(server, tmp_path):
    archive = served(server)
    server.cuts = [200_000, 300_000]
    run_fetch(archive, tmp_path)
    assert server.asked == [None, "bytes=200000-", "bytes=500000-"]
    assert (tmp_path / "set/pictures/a.jpg").read_bytes() == RANDOM


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    archive = served(server)
    server.cuts, server.ranged = [200_000], False
    run_fetch(archive, tmp_path)
    assert server.asked == [None, "bytes=200000-"]
    assert (tmp_path / "set/pictures/a.jpg").read_bytes() == RANDOM


def test_a_dead_server_keeps_the_part_and_a_later_run_goes_on(server, tmp_path):
    archive = served(server)
    server.cuts = [150_000, *[0] * download.PATIENCE]
    with pytest.raises(FslabError, match=f"150000 of {len(GOOD)} bytes.*run the same command"):
        run_fetch(archive, tmp_path)
    assert files(tmp_path) == ["good.tar.part"]
    run_fetch(archive, tmp_path)
    assert server.asked[-1] == "bytes=150000-"
    assert files(tmp_path) == ["set/list.txt", "set/pictures/a.jpg"]


def test_an_unreachable_server_is_one_sentence(tmp_path, server):
    archive = served(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(FslabError, match=r"stopped at 0 of .*refused"):
        run_fetch(archive, tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusing_server_is_asked_once(server, tmp_path, status):
    archive = served(server)
    server.status = status
    with pytest.raises(FslabError, match=f"answers {status}"):
        run_fetch(archive, tmp_path)
    assert len(server.asked) == 1
    assert files(tmp_path) == []


def test_an_archive_of_another_size_is_not_downloaded(server, tmp_path):
    archive = served(server)
    server.content += b"more"
    with pytest.raises(FslabError, match=f"offers {len(GOOD) + 4} bytes"):
        run_fetch(archive, tmp_path)
    assert files(tmp_path) == []


def test_a_wrong_checksum_is_moved_aside_and_not_unpacked(server, tmp_path):
    archive = served(server)
    server.content = GOOD[:5000] + b"\0" + GOOD[5001:]
    with pytest.raises(FslabError, match=r"SHA-256.*nothing was unpacked.*good\.tar\.bad"):
        run_fetch(archive, tmp_path)
    assert files(tmp_path) == ["good.tar.bad"]
    server.content = GOOD
    run_fetch(archive, tmp_path)
    assert (tmp_path / "set/list.txt").is_file()


def test_an_archive_put_there_by_hand_is_used_or_moved_aside(server, tmp_path):
    archive = served(server)
    (tmp_path / "good.tar").write_bytes(GOOD[:-1])
    with pytest.raises(FslabError, match=f"has {len(GOOD) - 1} bytes"):
        run_fetch(archive, tmp_path)
    assert files(tmp_path) == ["good.tar.bad"]
    (tmp_path / "good.tar").write_bytes(GOOD)
    run_fetch(archive, tmp_path)
    assert server.asked == []
    assert files(tmp_path) == ["good.tar.bad", "set/list.txt", "set/pictures/a.jpg"]


HOSTILE = {
    "climbs": (tar_of(("set/ok", b"1"), ("../escaped", b"x")), ".tar", "outside"),
    "climbs within": (tar_of(("set/../../escaped", b"x")), ".tar", "outside"),
    "absolute": (tar_of(("/tmp/escaped", b"x")), ".tar", "outside"),
    "backslash": (tar_of(("set\\..\\escaped", b"x")), ".tar", "outside"),
    "symlink": (tar_of(special("set/way", tarfile.SYMTYPE, "/"), ("set/way/escaped", b"x")), ".tar", "link"),
    "hardlink": (tar_of(("set/a", b"x"), special("set/b", tarfile.LNKTYPE, "../escaped")), ".tar", "link"),
    "device": (tar_of(special("set/null", tarfile.CHRTYPE)), ".tar", "not an ordinary file"),
    "fifo": (tar_of(special("set/pipe", tarfile.FIFOTYPE)), ".tar", "not an ordinary file"),
    "twice": (tar_of(("set/a", b"1"), ("set/./a", b"2")), ".tar", "twice"),
    "cut tar": (GOOD[:300_000], ".tar", "damaged"),
    "compressed tar": (gzip.compress(GOOD), ".tar", "damaged"),
    "zip climbs": (zip_of(("set/ok", b"1"), ("../escaped", b"x")), ".zip", "outside"),
    "zip absolute": (zip_of(("/escaped", b"x")), ".zip", "outside"),
    "zip drive": (zip_of(("C:/escaped", b"x")), ".zip", "outside"),
    "bomb": (zip_of(("set/zeros", bytes(20_000_000))), ".zip", "limits are"),
    "cut zip": (zip_of(("set/a", RANDOM))[:300_000], ".zip", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_write_nothing(tmp_path, case):
    content, suffix, message = HOSTILE[case]
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(content)
    with pytest.raises(FslabError, match=message):
        unpack.unpack(path, tmp_path / "inner" / "target", lambda _: None)
    assert files(tmp_path) == [path.name]


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("set/way")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(FslabError, match="not an ordinary file"):
        unpack.unpack(tmp_path / "link.zip", tmp_path / "target", lambda _: None)
    assert files(tmp_path) == ["link.zip"]


def test_a_zip_that_lies_about_its_size_is_damaged(tmp_path):
    content, true = zip_of(("set/zeros", bytes(50_000))), (50_000).to_bytes(4, "little")
    path = tmp_path / "liar.zip"
    path.write_bytes(content.replace(true, (10).to_bytes(4, "little")))
    with pytest.raises(FslabError, match="damaged"):
        unpack.unpack(path, tmp_path / "target", lambda _: None)
    assert files(tmp_path) == ["liar.zip"]


def test_any_flipped_byte_is_unpacked_or_refused_and_never_half(tmp_path):
    """Damage is what the checksum would have caught; unpacking must stand it alone too."""
    rng = np.random.default_rng(1)
    contents = {".tar": tar_of(("set/a", b"abc" * 99), ("set/b/c", RANDOM[:2000]))}
    contents[".zip"] = zip_of(("set/a", b"abc" * 99), ("set/b/c", RANDOM[:2000]))
    outcomes = {True: 0, False: 0}
    for number in range(160):
        suffix = (".tar", ".zip")[number % 2]
        data = bytearray(contents[suffix])
        data[rng.integers(len(data))] = rng.integers(256)
        path, target = tmp_path / f"flipped{suffix}", tmp_path / f"target{number}"
        path.write_bytes(data)
        try:
            unpack.unpack(path, target, lambda _: None)
        except FslabError:
            assert not target.exists()
        outcomes[target.exists()] += 1
    assert min(outcomes.values()) > 10
    assert not [name for name in files(tmp_path) if not name.startswith(("target", "flipped"))]


def full_after(count):
    """Return a Path.open whose files take `count` bytes and then find the disk full."""
    written = [0]
    real = Path.open

    class Full(io.FileIO):
        def write(self, data):
            written[0] += len(data)
            if written[0] > count:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def opened(path, mode="r", *rest, **named):
        if "b" in mode and mode != "rb":
            return Full(path, mode.replace("b", ""))
        return real(path, mode, *rest, **named)

    return opened


def test_a_full_disk_keeps_the_part(server, tmp_path, monkeypatch):
    archive = served(server)
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", full_after(400_000))
        with pytest.raises(FslabError, match=r"No space left.*make room for another 0\.00 GB"):
            run_fetch(archive, tmp_path)
    assert files(tmp_path) == ["good.tar.part"]
    kept = (tmp_path / "good.tar.part").read_bytes()
    assert 0 < len(kept) <= 400_000
    assert kept == GOOD[: len(kept)]
    run_fetch(archive, tmp_path)
    assert (tmp_path / "set/pictures/a.jpg").read_bytes() == RANDOM


def test_a_full_disk_while_unpacking_keeps_the_archive(server, tmp_path, monkeypatch):
    archive = served(server)
    (tmp_path / "good.tar").write_bytes(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", full_after(100_000))
        with pytest.raises(FslabError, match=r"No space left.*the archive is kept"):
            run_fetch(archive, tmp_path)
    assert files(tmp_path) == ["good.tar"]
    run_fetch(archive, tmp_path)
    assert files(tmp_path) == ["set/list.txt", "set/pictures/a.jpg"]


@pytest.mark.parametrize("stage", ["download", "unpack"])
def test_an_interruption_leaves_nothing_half(server, tmp_path, monkeypatch, stage):
    archive = served(server)

    def interrupted(*words):
        told = words[-1]

        def listener(there):
            if there > 0:
                raise KeyboardInterrupt
            told(there)

        return real(*words[:-1], listener)

    with monkeypatch.context() as patched:
        real = getattr(place, stage)
        patched.setattr(place, stage, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_fetch(archive, tmp_path)
    assert files(tmp_path) == (["good.tar.part"] if stage == "download" else ["good.tar"])
    run_fetch(archive, tmp_path)
    assert (tmp_path / "set/pictures/a.jpg").read_bytes() == RANDOM
    assert len(server.asked) == (2 if stage == "download" else 1)


def test_what_a_kill_left_half_unpacked_is_cleaned(server, tmp_path):
    left = tmp_path / ".good.tar.unpacking" / "set"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    run_fetch(served(server), tmp_path)
    assert files(tmp_path) == ["set/list.txt", "set/pictures/a.jpg"]


def test_a_second_fetch_in_the_same_folder_is_refused(server, tmp_path):
    archive = served(server)
    with (tmp_path / place.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FslabError, match="another fetch is at work"):
            run_fetch(archive, tmp_path)
    assert server.asked == []
    run_fetch(archive, tmp_path)
    assert (tmp_path / "set").is_dir()


def test_a_lock_that_goes_while_it_is_taken_is_taken_again(tmp_path, monkeypatch):
    plain, calls = fcntl.flock, []

    def late(handle, how):
        lock = tmp_path / place.LOCK
        if lock.exists():  # first a file without a name is locked, to see whether any can be
            calls.append(handle)
        if len(calls) == 1:
            lock.unlink(missing_ok=True)
        plain(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with place._alone(tmp_path):
        assert len(calls) == 2
        with pytest.raises(FslabError, match="another fetch is at work"), place._alone(tmp_path):
            pass
    assert files(tmp_path) == []


def test_other_sets_beside_are_left_alone(server, tmp_path):
    (tmp_path / "VOCdevkit/VOC2007").mkdir(parents=True)
    content = tar_of(("VOCdevkit/VOC2012/list", b"a"), ("elsewhere/x", b"b"))
    run_fetch(served(server, content, brings="VOCdevkit/VOC2012"), tmp_path)
    assert files(tmp_path) == ["VOCdevkit/VOC2012/list"]
    assert (tmp_path / "VOCdevkit/VOC2007").is_dir()


def test_an_archive_without_its_folder_is_refused(server, tmp_path):
    with pytest.raises(FslabError, match="holds no 'other'"):
        run_fetch(served(server, brings="other"), tmp_path)
    assert files(tmp_path) == ["good.tar"]


def command(*words, **names):
    line = [sys.executable, "-m", "fslab", "fetch", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **names)


def test_the_command_says_size_and_place(server, tmp_path, monkeypatch, capsys):
    from fslab.cli import fetch as command_module

    monkeypatch.setitem(SETS, "voc", (served(server),))
    command_module.fetch_set("voc", tmp_path)
    command_module.fetch_set("voc", tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(server_url(server))
    assert "0.00 GB to download" in said[0]
    assert "SHA-256 was right" in said[1]
    assert "is there already" in said[2]


def server_url(server):
    return f"http://127.0.0.1:{server.server_address[1]}/good.tar"


def test_an_unknown_set_is_refused_and_nothing_is_made(tmp_path):
    done = command("ade", tmp_path / "data")
    assert done.returncode == 2
    assert done.stderr.startswith("fslab: there is no data set 'ade' to fetch into ")
    assert "there is voc and coco" in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(tmp_path) == []


def test_the_table_is_whole_and_the_only_place_of_an_address():
    for archive in (entry for group in SETS.values() for entry in group):
        assert archive.name.endswith((".tar", ".zip"))
        assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256)
        assert archive.size > 10**8
    package = Path(unpack.__file__).parents[2]
    hosts = {archive.url.split("/")[2] for group in SETS.values() for archive in group}
    texts = {path.name: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    found = {name for name, text in texts.items() if any(host in text for host in hosts)}
    assert found == {"archives.py"}
