"""Checkpoints without pickles: tensors as safetensors, the rest as JSON, replaced atomically."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def save_checkpoint(
    folder: Path,
    nets: Mapping[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    progress: Mapping[str, object],
) -> None:
    """Write nets, optimizer states and progress (step, samples, seconds...) as one folder."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, net in nets.items():
        tensors = {key: value.contiguous().clone() for key, value in net.state_dict().items()}
        save_file(tensors, fresh / f"{name}.safetensors")
    for index, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()["state"]
        tensors = {
            f"{number}.{key}": torch.as_tensor(value).contiguous()
            for number, values in state.items()
            for key, value in values.items()
        }
        save_file(tensors, fresh / f"optimizer_{index}.safetensors")
    (fresh / "progress.json").write_text(json.dumps(dict(progress)))
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, nets: Mapping[str, nn.Module], optimizers: list[torch.optim.Optimizer]
) -> dict:
    """Fill nets and optimizers from a checkpoint; return its progress, {} if there is none."""
    if not (folder / "progress.json").is_file():
        folder = folder.with_name(folder.name + ".old")
        if not (folder / "progress.json").is_file():
            return {}
    for name, net in nets.items():
        net.load_state_dict(load_file(folder / f"{name}.safetensors"))
    for index, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in load_file(folder / f"optimizer_{index}.safetensors").items():
            number, field = key.split(".", 1)
            state.setdefault(int(number), {})[field] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return json.loads((folder / "progress.json").read_text())
