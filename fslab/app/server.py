"""Voila over the one page, set up so that who opens it can do no more than the page offers."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import threading
import time
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nbclient.exceptions import DeadKernelError
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError
from traitlets import Integer
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler

from fslab.app.shown import Shown
from fslab.app.visitors import IDLE, LOOK_EVERY, Visitors
from fslab.records import FslabError
from fslab.widgets.pictures import MOST_UPLOADED

HERE = Path(__file__).parent
MOST_SENT = 2 * MOST_UPLOADED
"""Bytes that a message may have: what is a little too large is refused in words by its reader."""
EXTENSIONS = [
    "@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget"
]  # fmt: skip
"""The JupyterLab extensions that the page needs: for widgets, and for plotly's, which are
anywidgets. Others, such as plotly's 5 MB for figures that are none, only keep visitors waiting."""

_ANYWHERE = (
    "whoever reaches this machine's port {port} can run the models on it, upload pictures and see "
    "what is given here, without a password; they run no code of their own and see nothing of "
    "each other"
)
_ENDS_WITHIN = 3
"""Seconds that the process of a page takes to end, which whoever loads that page anew waits for."""
_FULL = (
    "All places are taken: each visitor needs memory of their own. This page looks again every 15 "
    "seconds."
)


class Server(Voila):
    """Voila with a template of fslab's own and a limit on visitors.

    Each visitor has a process of their own, so memory bounds how many there may be.
    """

    visitors = Integer(config=True, help="how many at most have a process at one time")

    def setup_template_dirs(self) -> None:
        """Put fslab's templates before Voila's."""
        super().setup_template_dirs()
        self.template_paths.insert(0, str(HERE / "templates"))

    def init_handlers(self) -> list[Any]:
        """Have the page itself opened by a `_Door`."""
        *others, (pattern, _, settings) = super().init_handlers()
        return [*others, (pattern, _Door, settings)]

    def launch_browser(self) -> None:
        """Open the page itself; Voila's way there loads a font from another host."""
        threading.Thread(target=webbrowser.open, args=(address(self.ip, self.port), 2)).start()


class _Door(TornadoVoilaHandler):
    """Opens the page while there is room, and else says so with status 503."""

    _arriving = 0

    async def get_generator(self, path: str | None = None) -> AsyncIterator[str]:
        """Yield the page's HTML, part by part."""
        until = time.monotonic() + _ENDS_WITHIN
        while self._is_full():
            if time.monotonic() > until:
                raise HTTPError(503, _FULL)
            await asyncio.sleep(0.2)
        arriving = True
        _Door._arriving += 1
        try:
            async for part in super().get_generator(path):
                _Door._arriving -= arriving  # its process is among the manager's now
                arriving = False
                yield part
        finally:
            _Door._arriving -= arriving

    def _is_full(self) -> bool:
        server, manager = self.settings["voila"], self.kernel_manager
        waiting = sum(heated.done() for heated in manager._pools[self.notebook_path])
        return bool(len(manager) - waiting + _Door._arriving >= server.visitors)


def serve(shown: Shown, ip: str, port: int, visitors: int, browser: bool) -> None:
    """Serve the page until Ctrl-C; says where it is, and what it means where others reach it.

    ip: the address to listen on, "0.0.0.0" for all. Raises FslabError where the page could not
    be shown, and where the port is taken.
    """
    own = _is_own(ip)
    shown.check()
    _check_free(ip, port)
    os.environ |= shown.environment()
    if shown.preset == "mini":
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(
        f"{address(ip, port)}, for up to {visitors} visitors at a time; Ctrl-C ends it", flush=True
    )
    if not own:
        print(_ANYWHERE.format(port=port), flush=True)
    logging.getLogger("tornado.general").setLevel("ERROR")  # as Voila's own, in its settings
    for name in ("asyncio", Server.__name__):
        logging.getLogger(name).addFilter(_is_no_farewell)
    settings = _settings(ip, port, visitors, browser, own)
    Server.launch_instance(argv=[], config=settings, config_file_paths=[])


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """Tell whether a line of the log is more than that a visitor left in the middle of work."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, (DeadKernelError, WebSocketClosedError))


def address(ip: str, port: int) -> str:
    """Return where a browser on this machine finds the page."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)
    return f"http://[{here}]:{port}/" if ":" in here else f"http://{here}:{port}/"


def _is_own(ip: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address("127.0.0.1" if ip == "localhost" else ip).is_loopback
    except ValueError as error:
        raise FslabError(
            f"--ip is {ip!r}; it must be an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        ) from error


def _check_free(ip: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        if os.name == "posix":  # elsewhere this would let a second server share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            other = "--ip" if error.errno == errno.EADDRNOTAVAIL else "--port"
            raise FslabError(
                f"cannot listen on {ip}, port {port} ({error.strerror}); give another {other}"
            ) from error


def _settings(ip: str, port: int, visitors: int, browser: bool, own: bool) -> Config:
    tornado: dict[str, Any] = {
        "allow_remote_access": not own,  # a page elsewhere whose name leads here is turned away
        "websocket_max_message_size": MOST_SENT,
        "disable_check_xsrf": True,  # there is no login to abuse, and a closing tab cannot say more
    }
    if not own:  # a Space shows the page in a frame, and there is no login that a frame could steal
        tornado["headers"] = {"Content-Security-Policy": "frame-ancestors *"}
    return Config(
        Server={
            "notebook_path": str(HERE / "served" / "fslab.ipynb"),
            "ip": ip, "port": port, "port_retries": 0, "open_browser": browser,
            "visitors": visitors, "tornado_settings": tornado, "log_level": "ERROR",
        },
        VoilaConfiguration={
            "preheat_kernel": True, "default_pool_size": 1, "extension_allowlist": EXTENSIONS,
            "multi_kernel_manager_class": Visitors, "resources": {"most_sent": MOST_SENT},
        },
        MappingKernelManager={"cull_idle_timeout": IDLE, "cull_interval": LOOK_EVERY},
        KernelManager={"transport": "ipc" if os.name == "posix" else "tcp"},
    )  # fmt: skip
