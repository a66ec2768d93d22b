"""Which of transformers' networks reads a folder, and whether it is a plain vision transformer.

No family is named here: the folder's configuration names the class, and what a network is like is
measured on it. A plain vision transformer has one token for each patch, row by row, in every layer,
and before them tokens of no place (class, registers), as many as there are.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fslab.backbones.weights import UNBUILT, check_finite
from fslab.records import FslabError
from fslab.tap import first_tensor, tap
from fslab.weights.trust import read_config

READ = "dinov2, vit, clip and other plain vision transformers, and Stable Diffusion folders"


class Tower:
    """The class and the configuration by which transformers reads a folder's vision transformer.

    Of a model with a text tower beside, the vision tower alone. Raises FslabError where the folder
    holds another network, or one that needs more than a picture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = _vision_config(folder)
        self.model = _model_class(folder, self.config)
        self.multiple = self._pixels("patch_size")
        self.resolution = self._pixels("image_size")
        if hasattr(self.config, "mask_ratio"):
            self.config.mask_ratio = 0.0  # a masked autoencoder shows its encoder all patches

    def _pixels(self, name: str) -> int:
        value = getattr(self.config, name, None)
        if value is None:
            raise FslabError(
                f"{self.folder} holds a {self.config.model_type!r} model, which has no {name} of "
                f"its own; fslab reads {READ}"
            )
        if not isinstance(value, int) or value < 1:
            raise FslabError(
                f"{self.folder} holds a {self.config.model_type!r} model, and its config.json has "
                f"the {name} {value!r}; it must be a number of pixels, the side of a square, and "
                f"fslab reads {READ}"
            )
        return value

    def settings(self) -> Any:
        """Return a configuration to build one network of, which may change it."""
        return copy.deepcopy(self.config)

    def call(self, net: nn.Module, pixels: Tensor) -> object:
        """Pass pictures [B, 3, H, W] through, positions fitted to their size, none masked."""
        more: dict[str, Any] = {}
        takes = inspect.signature(self.model.forward).parameters
        if "interpolate_pos_encoding" in takes:
            more["interpolate_pos_encoding"] = True
        if "noise" in takes:  # by which a masked autoencoder shuffles the patches: in their order
            cells = (pixels.shape[2] // self.multiple) * (pixels.shape[3] // self.multiple)
            order = torch.arange(cells, dtype=torch.float32, device=pixels.device)
            more["noise"] = order.expand(len(pixels), -1)
        return net(pixels, **more)

    def on_meta(self) -> nn.Module:
        """Return the network without numbers; FslabError where it is not a plain one."""
        net = self._bare()
        self._check_plain(net)
        return net

    def _bare(self) -> nn.Module:
        with torch.device("meta"):
            net: nn.Module = self.model(self.settings())
        return net.eval()

    def _check_plain(self, net: nn.Module) -> None:
        """Refuse a network whose output has not one token for each patch, at any size."""
        patch, side = self.multiple, max(self.resolution // self.multiple, 2) * self.multiple
        before = set()
        for height, width in ((side, side), (side, side + patch), (side + patch, side)):
            try:
                with torch.no_grad():
                    output = self.call(net, torch.empty(1, 3, height, width, device="meta"))
            except UNBUILT as error:
                raise FslabError(
                    f"{self.folder} holds a {self.config.model_type!r} model, which does not take "
                    f"a picture of {height} x {width} pixels ({' '.join(str(error).split())}); "
                    f"fslab reads {READ}"
                ) from error
            shape = first_tensor(output, "").shape
            cells = (height // patch) * (width // patch)
            before.add(shape[1] - cells if len(shape) == 3 else -1)
        if len(before) > 1 or min(before) < 0:
            raise FslabError(
                f"{self.folder} holds a {self.config.model_type!r} model, which does not keep one "
                f"token for each patch of {patch} x {patch} pixels; fslab reads {READ}"
            )

    def check_order(self, net: nn.Module) -> None:
        """Refuse a network whose patches are not its last tokens, row by row.

        Measured: in a picture of 2 x 3 patches one patch is changed at a time, and where the
        tokens enter the network, one token must follow it.
        """
        rows, columns, patch = 2, 3, self.multiple
        weight = next(net.parameters())
        noise = torch.rand(3, patch, patch, generator=torch.Generator().manual_seed(0))
        pictures = torch.zeros(1 + rows * columns, 3, rows * patch, columns * patch)
        for cell in range(rows * columns):
            y, x = (place * patch for place in divmod(cell, columns))
            pictures[1 + cell, :, y : y + patch, x : x + patch] = noise
        with torch.no_grad(), tap(net, self._entry(), stop=True) as seen:
            self.call(net, pictures.to(weight.device, weight.dtype))
        (tokens,) = check_finite(seen, self.folder).values()
        moved = (tokens[1:] - tokens[:1]).float().abs().amax(2).cpu()
        follows = moved > 0.01 * moved.amax(1, keepdim=True)
        cells = torch.eye(rows * columns, dtype=torch.bool)
        before = tokens.shape[1] - len(cells)
        if not torch.equal(follows, nn.functional.pad(cells, (before, 0))):
            raise FslabError(
                f"{self.folder} holds a {self.config.model_type!r} model, whose last tokens are "
                f"not its patches row by row; fslab reads {READ}"
            )

    def _entry(self) -> str:
        """Return the innermost layer around the patches' projection that outputs all tokens."""
        net, side = self._bare(), 2 * self.multiple
        with torch.no_grad(), tap(net, "*") as seen:
            output = self.call(net, torch.empty(1, 3, side, side, device="meta"))
        whole, path = first_tensor(output, "").shape, next(iter(seen))
        while path and (path not in seen or seen[path].shape != whole):
            path = path.rpartition(".")[0]
        if not path:
            raise FslabError(
                f"{self.folder} holds a {self.config.model_type!r} model, of which no layer "
                f"makes tokens of patches; fslab reads {READ}"
            )
        return path

    def entered_before(self, path: str) -> frozenset[str]:
        """Return the modules that a pass enters until a layer has fired, itself among them."""
        net, entered = self._bare(), set()
        with ExitStack() as hooks, torch.no_grad():
            for name, module in net.named_modules():
                hook = module.register_forward_pre_hook(lambda *_, name=name: entered.add(name))
                hooks.callback(hook.remove)
            with tap(net, path, stop=True):
                self.call(net, torch.empty(1, 3, *(2 * [self.resolution]), device="meta"))
        return frozenset(entered)


def _vision_config(folder: Path) -> Any:
    """Return the configuration of a folder's vision tower, whole: what it leaves out is known."""
    from transformers import CONFIG_MAPPING

    entries = read_config(folder)
    kind = entries.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise FslabError(f"{folder} holds a {kind!r} model; fslab reads {READ}")
    try:
        config = CONFIG_MAPPING[kind].from_dict(entries)
    except UNBUILT as error:
        reason = " ".join(str(error).split())
        raise FslabError(f"{folder} describes no network that can be built: {reason}") from error
    tower = getattr(config, "vision_config", None) or config
    if not tower.model_type.startswith(kind):
        raise FslabError(
            f"{folder} holds a {kind!r} model, of which the vision tower ({tower.model_type}) "
            f"is a part among others; fslab reads {READ}"
        )
    return tower


def _model_class(folder: Path, config: Any) -> Any:
    from transformers import MODEL_MAPPING

    found = MODEL_MAPPING.get(type(config), None)
    found = found[0] if isinstance(found, tuple) else found
    if found is None or found.main_input_name != "pixel_values":
        raise FslabError(f"{folder} holds a {config.model_type!r} model; fslab reads {READ}")
    more = _asked_for(found.forward)
    if more:
        raise FslabError(
            f"{folder} holds a {config.model_type!r} model, which asks for {' and '.join(more)} "
            "beside a picture (a NaFlex model takes patches of any grid); take one of a fixed "
            f"resolution: fslab reads {READ}"
        )
    return found


def _asked_for(forward: Any) -> Sequence[str]:
    """Return the arguments without which a network cannot be called, besides the picture."""
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    return [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind is each.POSITIONAL_OR_KEYWORD
        and each.name != "pixel_values"
    ]
