"""A log of losses as TSV: one line every so many steps, values averaged since the last line."""

from __future__ import annotations

from pathlib import Path

import torch

EVERY = 50
"""Steps between two lines."""


class LossLog:
    """Append to a TSV; a resumed run goes on in the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sums: dict[str, float] = {}
        self.count = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, step: int, samples: int, seconds: float, **values: torch.Tensor | float) -> None:
        """Count one step's values in; every `EVERY` steps write their means."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1
        if step % EVERY:
            return
        if not self.path.is_file():
            self.path.write_text("\t".join(("step", "samples", "seconds", *self.sums)) + "\n")
        means = [f"{total / self.count:.4f}" for total in self.sums.values()]
        with self.path.open("a") as lines:
            lines.write("\t".join((str(step), str(samples), f"{seconds:.0f}", *means)) + "\n")
        self.sums, self.count = {}, 0
