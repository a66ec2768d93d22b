"""Files: written whole or not at all, under names that every platform takes, held by one process."""

import os

import pytest

from fslab.errors import Unwritable
from fslab.files import ASIDE, Held, hold, one_file, portable, write_aside, write_or_refuse


@pytest.mark.parametrize("synced", [True, False])
def test_a_file_is_replaced_whole_and_nothing_stays_beside_it(tmp_path, synced):
    path = tmp_path / "new" / "file"
    for data in (b"first", b"second, longer", b""):
        write_aside(path, data, synced=synced)
        assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_aside(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unwritable, match=r"file cannot be written \(No space left on device\)"):
        write_or_refuse(path, b"new")
    assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob(f"*{ASIDE}"))


@pytest.mark.skipif(os.name == "nt", reason="files have no modes there")
def test_a_file_is_for_those_for_whom_any_file_would_be(tmp_path):
    before = os.umask(0o027)
    try:
        write_aside(tmp_path / "file", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("cat", "cat"), ("a:b", "a%3Ab"), ("aux", "%61ux"), ("Aux.png", "%41ux.png"),
        ("auxiliary", "auxiliary"), ("com1", "%63om1"), ("dots..", "dots%2E%2E"),
        ("folder/nul/end ", "folder/%6Eul/end%20"), ("tab\tbed", "tab%09bed"),
    ],
)  # fmt: skip
def test_names_are_written_as_every_platform_takes_them(name, written):
    assert portable(name) == written


def test_names_that_are_one_file_somewhere_are_told():
    assert one_file("Straße") == one_file("STRASSE")
    assert one_file("cafe\u0301") == one_file("CAF\u00c9")
    assert one_file("cat") != one_file("cats")


def test_a_file_that_is_held_is_held_once_and_goes_at_the_end(tmp_path):
    path = tmp_path / ".running"
    with hold(path):
        assert str(os.getpid()) in path.read_text()
        with pytest.raises(Held, match=f"is held by process {os.getpid()}") as refused, hold(path):
            pytest.fail("it was held twice")
        assert refused.value.holder == str(os.getpid())
    assert not path.exists()
    with hold(path):
        assert path.exists()
