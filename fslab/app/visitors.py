"""Visitors' processes: one each, ended when they have left or made no move for long."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

LOOK_EVERY = 15
LEFT = 60
"""Seconds without a connection after which a visitor has left, or was none: a robot's look at the
page starts a process too."""
IDLE = 20 * 60
"""Seconds without a move after which a visitor's process is ended, also with the tab open."""


class Visitors(AsyncMappingKernelManager):
    """Keeps the processes, which Voila calls kernels."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self._alone_since: dict[str, float] = {}

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a process that nobody needs; not called for one that waits for a visitor.

        One that has waited may have been still for hours when a visitor comes, so being alone
        counts from when it was first seen.
        """
        now = time.monotonic()
        model = self.kernel_model(kernel_id)  # type: ignore[no-untyped-call]
        if model["connections"]:
            self._alone_since.pop(kernel_id, None)
            kernel: Any = self.get_kernel(kernel_id)
            still = utcnow() - kernel.last_activity
            over = still > timedelta(seconds=IDLE)
        else:
            over = now - self._alone_since.setdefault(kernel_id, now) > LEFT
        if over:
            self._alone_since.pop(kernel_id, None)
            await ensure_async(self.shutdown_kernel(kernel_id))  # type: ignore[no-untyped-call]
