"""Muon for the matrices inside a network's layers, AdamW for the rest.

Muon: Keller Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
"""Muon's share of the gradients before in its running one."""


@torch.no_grad()
def orthogonalise(matrix: Tensor) -> Tensor:
    """Return nearly the orthogonal factor of [..., M, N] matrices by five Newton-Schulz iterations.

    The quintic's coefficients are Jordan's: fast rather than exact (singular values near 1).
    """
    turned = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if turned else matrix
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if turned else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised; matrices of one shape are stepped together.

    Convolutions count as matrices [out, in x kh x kw]. The step is scaled by sqrt(max(1, M / N)),
    so one learning rate fits all shapes. Weight decay is decoupled.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float) -> None:
        super().__init__(list(parameters), {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step; parameters without a gradient are left alone."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    shapes.setdefault((rows, parameter.numel() // rows), []).append(parameter)
            for (rows, columns), parameters in shapes.items():
                updates = [self._momentum(one) for one in parameters]
                steps = orthogonalise(torch.stack([one.reshape(rows, columns) for one in updates]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(step.view_as(parameter), alpha=-scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Update the running gradient and return its Nesterov look-ahead."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        running = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(running, MOMENTUM)


def make_optimizers(
    net: nn.Module, muon_rate: float, adam_rate: float, decay: float
) -> list[torch.optim.Optimizer]:
    """Give layer matrices to Muon; embeddings, first and last layers, norms and biases to AdamW."""
    matrices, rest = [], []
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        inner = parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) > 8
        outer = any(part in name for part in ("embed", "conv_in", "conv_out", "cls", "logit_scale"))
        (matrices if inner and not outer else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.99), weight_decay=0.0)
    return [Muon(matrices, lr=muon_rate, decay=decay), adam]


def set_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to `factor` times what it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("full_lr", group["lr"]) * factor


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the averaged copy's weights towards the net's (exponential moving average)."""
    pairs = zip(average.parameters(), net.parameters(), strict=True)
    for slow, fast in pairs:
        slow.lerp_(fast, 1 - decay)
