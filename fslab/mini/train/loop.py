"""The loop around every training: so many seconds in all, with checkpoints, progress and a log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from fslab.mini.train.checkpoint import load_checkpoint, save_checkpoint
from fslab.mini.train.losslog import LossLog

BETWEEN_CHECKPOINTS = 240
"""Seconds."""


class Training:
    """A training that goes on from its last checkpoint, until `seconds` have been spent in all.

    `steps` yields what each step needs to know of the whole; the caller takes the step and tells
    `count` what it saw; `finish` writes the last checkpoint. source: a folder to branch off
    from; its nets and optimizers are taken over, its seconds are not.
    """

    def __init__(
        self,
        out: Path,
        nets: Mapping[str, nn.Module],
        optimizers: list[torch.optim.Optimizer],
        seconds: float,
        source: Path | None = None,
    ) -> None:
        branches = source not in (None, out) and not (out / "progress.json").is_file()
        progress = load_checkpoint(source if branches else out, nets, optimizers)
        self.is_new = not progress
        self._out, self._nets, self._optimizers, self._limit = out, nets, optimizers, seconds
        self._step, self._samples = progress.get("step", 0), progress.get("samples", 0)
        self._spent = 0.0 if branches else progress.get("seconds", 0.0)
        self._log = LossLog(out.with_suffix(".tsv"))

    def steps(self) -> Iterator[tuple[int, float]]:
        """Yield each step's number and the share of the time that is over."""
        before, start, saved = self._spent, time.monotonic(), time.monotonic()
        name, limit = self._out.name, self._limit
        with tqdm(total=round(limit), initial=round(before), desc=name, unit="s") as bar:
            while (spent := before + time.monotonic() - start) < limit:
                self._spent = spent
                yield self._step, spent / limit
                bar.update(round(spent) - bar.n)
                if time.monotonic() - saved > BETWEEN_CHECKPOINTS:
                    saved = time.monotonic()
                    self._save(spent)

    def count(self, samples: int, **losses: torch.Tensor | float) -> None:
        """Count a step that saw so many samples, and log its losses."""
        self._step, self._samples = self._step + 1, self._samples + samples
        self._log.add(self._step, self._samples, self._spent, **losses)

    def finish(self) -> None:
        """Write the last checkpoint."""
        self._save(max(self._spent, self._limit))

    def _save(self, seconds: float) -> None:
        progress = {"step": self._step, "samples": self._samples, "seconds": seconds}
        save_checkpoint(self._out, self._nets, self._optimizers, progress)
