"""A real JupyterLab with settings of its own, and a real Chromium that opens notebooks in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TOKEN = "of-this-test-alone"
STARTS_WITHIN = 120
PATIENCE = 180_000
"""Milliseconds that one step in the browser may take: far above what it needs on a busy machine."""


def chromium() -> str | None:
    """Return the browser on the path, if there is one."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@dataclass(frozen=True)
class Server:
    """A running JupyterLab over one folder."""

    port: int
    folder: Path

    def url(self, notebook: str) -> str:
        return f"http://127.0.0.1:{self.port}/lab/tree/{notebook}?token={TOKEN}&reset"


@contextlib.contextmanager
def serve(
    folder: Path, home: Path, store: Path, theme: str = "JupyterLab Light"
) -> Iterator[Server]:
    """Run JupyterLab on a folder of notebooks; home holds its settings, store is fslab's."""
    environment = {**os.environ, **_places(home), "FSLAB_STORE": str(store)}
    environment |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    environment.pop("PLOTLY_RENDERER", None)
    _write_settings(home / "settings", theme)
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--port-retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _await(process, port, home / "server.log")
            yield Server(port, folder)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def browse(home: Path, size: tuple[int, int] = (1180, 1500)) -> Iterator[Any]:
    """Open one page of a new Chromium, width and height in pixels.

    What its console says is wrong is collected in `page.wrong`.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(home / "browser"), executable_path=chromium(), args=list(FLAGS),
            viewport={"width": size[0], "height": size[1]}, accept_downloads=True,
        )  # fmt: skip
        context.set_default_timeout(PATIENCE)
        try:
            page = context.pages[0] if context.pages else context.new_page()
            page.wrong = wrong = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda line: line.type == "error" and wrong.append(line.text))
            yield page
        finally:
            context.close()


def run_all(page: Any, server: Server, notebook: str) -> None:
    """Open a notebook, run all its cells, and return when the kernel has done so."""
    page.goto(server.url(notebook))
    idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
    # The indicator says idle before there is a kernel, and running then asks for one.
    page.locator(".jp-Toolbar-kernelName", has_text="Python 3").first.wait_for()
    page.locator(".jp-StatusBar-Widget", has_text="| Idle").first.wait_for()
    page.locator(idle).first.wait_for(state="attached")
    page.get_by_role("menuitem", name="Run", exact=True).first.click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(_ALL_RAN)
    page.locator(idle).first.wait_for(state="attached")


_ALL_RAN = """() => {
  const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(x => x.innerText);
  return prompts.length > 0 && prompts.every(x => /\\[\\d+\\]/.test(x) || /\\[ ?\\]/.test(x))
    && prompts.some(x => /\\[\\d+\\]/.test(x)) && !prompts.some(x => x.includes('*'));
}"""


def _places(home: Path) -> dict[str, str]:
    names = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }  # fmt: skip
    return {variable: str(home / name) for variable, name in names.items()}


def _write_settings(folder: Path, theme: str) -> None:
    """No news, a theme, and cells that stay in the page when they are scrolled away."""
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "apputils-extension/themes": {"theme": theme, "adaptive-theme": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }
    for name, content in settings.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await(process: subprocess.Popen, port: int, log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended at once:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            address = f"http://127.0.0.1:{port}/api/status?token={TOKEN}"
            with urllib.request.urlopen(address, timeout=5):
                return
        time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not answer within {STARTS_WITHIN} s")
