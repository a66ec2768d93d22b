"""`fslab app`: the page in a real Chromium, what it refuses, and what visitors cannot do."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser.jupyter import browse, chromium, free_port
from typer.main import get_command

import fslab
from fslab.app import Page, Shown
from fslab.cli.app import serve_page
from fslab.cli.main import app
from fslab.datasets import voc
from fslab.evaluate import evaluate
from fslab.records import FslabError
from fslab.widgets import pictures as uploads
from fslab.widgets import segment_yours

ROOT = os.path.dirname(fslab.__path__[0])
DATA = f"{ROOT}/data/minivoc"
LACKING = [name for name in ("voila", "playwright") if not importlib.util.find_spec(name)]
LACKING += [] if chromium() else ["chromium"]
REQUIRED = os.environ.get("FSLAB_BROWSER") == "required"


def serve(*, results=None, dataset=None, ip="127.0.0.1", port=8866):
    serve_page(
        results, dataset, split="val", format="voc", preset="mini", ip=ip, port=port, visitors=1,
        browser=False,
    )  # fmt: skip


def test_a_missing_voila_is_one_sentence(monkeypatch):
    monkeypatch.setattr("fslab.cli.app.find_spec", lambda name: None)
    with pytest.raises(FslabError, match=r"needs Voila.*pip install 'fslab\[app\]'"):
        serve()


@pytest.mark.skipif("voila" in LACKING and not REQUIRED, reason="voila is not installed")
def test_what_cannot_be_shown_is_refused_before_the_page_is_served(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FslabError, match=r"cannot listen on 127\.0\.0\.1, port \d+ \(.*--port"):
            serve(port=taken.getsockname()[1])
    for given, words in (
        ({"ip": "my-machine"}, "--ip is 'my-machine'"),
        ({"ip": "192.0.2.1"}, "give another --ip"),
        ({"results": tmp_path}, "holds no finished evaluation.*pictures are given by --dataset"),
        ({"dataset": str(tmp_path / "none")}, "does not exist"),
    ):
        with pytest.raises(FslabError, match=words):
            serve(**given)


def test_the_image_s_commands_are_those_that_fslab_takes():
    text = (Path(ROOT) / "Dockerfile").read_text().replace("\\\n", "")
    lines = re.findall(r"\bfslab ((?:scenes|evaluate|app) [^&\n]+?)(?:\"\]|&&|\n)", text)
    given = {}
    for line in lines:
        name, *words = shlex.split(line.replace('\\"${PORT:-7860}\\"', "7860"))
        given[name] = get_command(app).commands[name].make_context(name, words).params
    assert given["app"]["results"] == Path(given["evaluate"]["out"])
    assert (
        given["app"]["dataset"] == given["evaluate"]["dataset"] == str(given["scenes"]["out_dir"])
    )
    assert (given["app"]["ip"], given["app"]["port"]) == ("0.0.0.0", 7860)


def test_pictures_that_are_given_are_all_there_is_to_read(tmp_path):
    lab = fslab.Lab("mini", store=tmp_path)
    explorer = segment_yours(lab, [f"{DATA}/JPEGImages/val_0000.png"])
    explorer.wait()
    assert explorer.result.picture.name == explorer.picture == "val_0000"
    with pytest.raises(FslabError, match="set `picture`"):
        explorer.file = f"{DATA}/JPEGImages/val_0001.png"
    explorer._file.value = f"{DATA}/JPEGImages/val_0001.png"  # as a forged message would
    explorer.wait()
    assert explorer.result.picture.name == "val_0000"
    with pytest.raises(FslabError, match="it must be one of 'val_0000'"):
        explorer.picture = "val_0001"
    with pytest.raises(FslabError, match="set `file` to a path"):
        segment_yours(lab).picture = "val_0000"


def test_an_upload_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "MOST_UPLOADED", 2**20)
    with pytest.raises(FslabError, match=r"'a\.png' has 2 MiB; upload a picture of at most 1"):
        uploads.read_upload({"name": "a.png", "content": memoryview(bytes(2**21))})


@pytest.mark.parametrize("name", ["..", "\U0001f999" * 90 + ".png", "it's.png", "\ud800.png", ""])
def test_an_upload_may_have_any_name(name):
    """Also one that this machine could not give to a file."""
    content = Path(DATA, "JPEGImages", "val_0003.png").read_bytes()
    picture = uploads.read_upload({"name": name, "content": content})
    assert picture.name
    picture.name.encode()
    with pytest.raises(FslabError, match="is not a picture") as refusal:
        uploads.read_upload({"name": name, "content": b"no picture"})
    assert "/" not in str(refusal.value)


def test_explorers_are_made_once_a_browser_would_hear_of_them(tmp_path, monkeypatch):
    """What changes while a browser takes the page over reaches nobody: it stayed `computing …`."""
    monkeypatch.setenv("FSLAB_STORE", str(tmp_path))
    page = Page(Shown(dataset=DATA))
    _, tabs, bell = page.children
    assert [place.children for place in tabs.children] == [(), ()]
    bell.rung += 1
    (explorer,), later = (place.children for place in tabs.children)
    explorer.wait()
    assert explorer.result.picture.name == "val_0000"
    assert later == ()
    bell.rung += 1  # as a second tab on the same process would
    assert tabs.children[0].children == (explorer,)


END = """() => {
  const id = JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId;
  return fetch(`/voila/api/shutdown/${id}`, {method: 'POST'}).then(answer => answer.status);
}"""
"""Asks for the end of the visitor's process, as a tab does when it is closed."""


@pytest.fixture(scope="module")
def page_of_one_visitor(tmp_path_factory):
    """A served page's address, with room for one visitor and an evaluation to look through."""
    if LACKING and REQUIRED:
        pytest.fail(f"{', '.join(LACKING)} not installed, and FSLAB_BROWSER=required")
    if LACKING:
        pytest.skip(f"{', '.join(LACKING)} not installed")
    home = tmp_path_factory.mktemp("app")
    data = voc(DATA, "val").limit(2)
    evaluate(fslab.Lab("mini", store=home / "store"), data, "fslab", out=home / "results")
    port = free_port()
    command = [
        *(sys.executable, "-m", "fslab", "app", str(home / "results"), "--dataset", DATA),
        *("--port", str(port), "--no-browser", "--visitors", "1"),
    ]
    environment = {**os.environ, "FSLAB_STORE": str(home / "store"), "HF_HUB_OFFLINE": "1"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home)
        try:
            _await(process, port, home / "log")
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(30)


def _await(process, port, log):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    pytest.fail(f"no page after two minutes:\n{log.read_text()}")


def opened(address, host=None):
    """Status and text of what an address answers."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


SEND = """async ([type, content]) => {
  const id = JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId;
  const socket = new WebSocket(`ws://${location.host}/api/kernels/${id}/channels`);
  const message = (type, content) => JSON.stringify({channel: 'shell', parent_header: {},
    metadata: {}, content, header: {msg_id: type, msg_type: type, username: '', session: 'a',
    version: '5.3', date: new Date().toISOString()}});
  return await new Promise(done => {
    const heard = [];
    socket.onmessage = event => {
      const header = JSON.parse(event.data).header;
      heard.push(header.msg_type);
      if (header.msg_type === 'comm_info_reply') done(heard);
    };
    socket.onopen = () => {
      socket.send(message(type, content));
      socket.send(message('comm_info_request', {}));
    };
  });
}"""
"""Sends what the page never would, and then what it may; returns what the kernel answered."""


def test_the_page_in_a_browser(page_of_one_visitor, tmp_path):
    """One visit: reloads, all from this machine, an upload, tabs, no code, no second visitor."""
    from playwright.sync_api import TimeoutError

    with browse(tmp_path, (400, 900)) as page:
        asked = set()
        page.on("request", lambda request: asked.add(urlsplit(request.url)))
        for _ in range(2):  # a page that is left before it has connected gives its place back
            assert page.goto(page_of_one_visitor, wait_until="commit").status == 200
            page.locator("#jupyter-config-data").wait_for(state="attached")
        page.goto(page_of_one_visitor)
        says = page.locator("[role=status]:visible")
        shown = says.filter(has_text="val_0000: fslab")
        try:
            shown.wait_for(timeout=60_000)
        except TimeoutError:  # two visits were broken off within a second: a visitor reloads
            page.goto(page_of_one_visitor)
            shown.wait_for()
        page.locator(".js-plotly-plot .imagelayer image").first.wait_for()
        hosts = {each.hostname for each in asked if each.scheme not in ("data", "blob")}
        assert hosts == {"127.0.0.1"}
        assert "mini: small models that know a drawn world only" in page.content()
        assert page.evaluate("document.documentElement.scrollWidth") == 400

        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="your own picture").click()
        chooser.value.set_files(
            {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}
        )
        says.filter(has_text="no.png").wait_for()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="your own picture").click()
        chooser.value.set_files(f"{DATA}/JPEGImages/val_0003.png")
        says.filter(has_text="val_0003: fslab").wait_for()

        page.get_by_role("tab", name="features").click()
        says.filter(has_text="t = ").wait_for()
        page.get_by_role("tab", name="results").click()
        says.filter(has_text="val_000").wait_for()

        told = {"code": f"open({str(tmp_path / 'ran')!r}, 'w')", "silent": False}
        heard = page.evaluate(SEND, ["execute_request", told])
        assert "execute_reply" not in heard
        assert not (tmp_path / "ran").exists()

        status, text = opened(page_of_one_visitor)
        assert (status, "All places are taken" in text) == (503, True)
        assert "//" not in text
        assert opened(page_of_one_visitor, host="elsewhere.example")[0] == 403
        assert opened(f"{page_of_one_visitor}voila/files/fslab.ipynb")[0] == 403
        page.evaluate(END)
        page.get_by_role("alert").filter(has_text="Reload it to begin anew").wait_for()
    until = time.monotonic() + 60
    while (status := opened(page_of_one_visitor)[0]) == 503 and time.monotonic() < until:
        time.sleep(0.5)
    assert status == 200
