"""How much noise a timestep means: the model's own schedule, whichever sampler its folder names."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fslab.backbones.understood import BOOKKEEPING, unknown_setting
from fslab.backbones.weights import UNBUILT
from fslab.records import FslabError

FILE = "scheduler_config.json"

SCHEDULERS = (
    "DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler",
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler",
    "UniPCMultistepScheduler", "SASolverScheduler", "DDIMInverseScheduler",
    "DPMSolverMultistepInverseScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler",
)  # fmt: skip
"""Samplers of diffusers whose timesteps are those of DDPM training (Ho et al. 2020)."""

NOISE = frozenset(
    ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
     "rescale_betas_zero_snr")
)  # fmt: skip
"""Settings that say how much noise a timestep means."""

VALUES: dict[str, tuple[Any, ...]] = {
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_type": ("discrete",),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
}
"""Settings that may stand for another kind of schedule, and the values with which they do not."""

SAMPLING = frozenset(
    ("algorithm_type", "clip_sample", "clip_sample_range", "corrector_order", "disable_corrector",
     "dynamic_thresholding_ratio", "euler_at_final", "final_sigmas_type", "flow_shift",
     "interpolation_type", "lambda_min_clipped", "lower_order_final", "original_inference_steps",
     "predict_x0", "predictor_order", "rho", "sample_max_value", "set_alpha_to_one",
     "set_alpha_to_zero", "shift_terminal", "sigma_max", "sigma_min", "skip_prk_steps",
     "solver_order", "solver_p", "solver_type", "steps_offset", "tau_func", "tensor_format",
     "thresholding", "time_shift_type", "timestep_scaling", "timestep_spacing",
     "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas",
     "variance_type")
)  # fmt: skip
"""Settings of how pictures are drawn, step by step; noising a picture does not read them."""


class Schedule(ABC):
    """How much noise a timestep means; timesteps are 0 up to one less than their number."""

    @property
    @abstractmethod
    def timesteps(self) -> int:
        """Number of timesteps."""

    @abstractmethod
    def noised(self, latent: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return a latent with noise of a timestep."""


class Flow(Schedule):
    """Flow matching along a straight line: timestep t means sigma = t / timesteps.

    So it is as diffusers' FlowMatchEulerDiscreteScheduler has it: its networks are told sigma x
    1000 whatever the sampler's shift, which says only at which sigmas a picture is drawn and is
    therefore not read here. Source: Esser et al. 2024 (SD 3).
    """

    def __init__(self, timesteps: int) -> None:
        self._timesteps = timesteps

    @property
    def timesteps(self) -> int:
        """Number of timesteps."""
        return self._timesteps

    def noised(self, latent: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return (1 - sigma) x latent + sigma x noise, as the scheduler's `scale_noise` does."""
        sigma = torch.tensor(timestep, dtype=torch.float32) / self.timesteps
        return sigma * noise + (1.0 - sigma) * latent


class Betas(Schedule):
    """A DDPM schedule. alphas: how much of the picture's variance is left, f32 [timesteps]."""

    def __init__(self, alphas: Tensor) -> None:
        self.alphas = alphas

    @property
    def timesteps(self) -> int:
        """Number of timesteps."""
        return len(self.alphas)

    def noised(self, latent: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return a latent with noise of a timestep, as diffusers' DDPM family adds it.

        Samplers in terms of sigma (Euler, Heun and others) add it on another scale and bring it
        back to this one before the UNet reads it.
        """
        alpha = self.alphas[timestep]
        return alpha**0.5 * latent + (1 - alpha) ** 0.5 * noise


def check_schedule(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a scheduler_config.json whose noise is not DDPM training's, by its names alone.

    folder: where it lies, for messages.
    """
    name = config.get("_class_name", "DDPMScheduler")
    if name not in SCHEDULERS:
        raise FslabError(
            f"{folder}/{FILE} is of a {name}, whose timesteps are not those of DDPM training (as "
            "EDM's and flow matching's are not); fslab would add another noise than it knows"
        )
    if "_class_name" not in config and "beta_schedule" not in config:
        raise FslabError(f"{folder}/{FILE} names no class and no beta_schedule")
    for key, value in config.items():
        if value is not None and value not in VALUES.get(key, (value,)):
            raise FslabError(
                f"{folder}/{FILE} has {key} = {value!r}, which means another noise than DDPM "
                "training's; fslab does not add it"
            )
        listed = BOOKKEEPING | SAMPLING | VALUES.keys() | NOISE
        if key not in listed and unknown_setting(name, key, value):
            raise FslabError(
                f"{folder}/{FILE} has {key} = {value!r}, which fslab does not understand; if it "
                "changes no number, take it out of the file"
            )


def read_schedule(folder: Path, config: Mapping[str, Any]) -> Betas:
    """Return the schedule that a scheduler_config.json describes.

    What the file leaves out is the default of the class that it names. Raises FslabError as
    `check_schedule` does, and where that class makes no schedule of the settings.
    """
    import diffusers

    check_schedule(folder, config)
    name = config.get("_class_name", "DDPMScheduler")
    kind = getattr(diffusers, name)
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    for key in sorted(NOISE - known):
        if config.get(key):
            raise FslabError(
                f"{folder}/{FILE} has {key} = {config[key]!r}, which {name} of diffusers ignores"
            )
    try:
        scheduler = kind(**{key: value for key, value in config.items() if key in known})
        alphas = scheduler.alphas_cumprod.to(torch.float32)
    except UNBUILT as error:
        reason = " ".join(str(error).split())
        raise FslabError(f"{folder}/{FILE} describes no schedule: {reason}") from error
    steps = config.get("num_train_timesteps", len(alphas))
    if len(alphas) != steps:
        raise FslabError(f"{folder}/{FILE} has {len(alphas)} betas for {steps} timesteps")
    betas = scheduler.betas
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise FslabError(f"{folder}/{FILE} describes no schedule: its betas lie outside 0 to 1")
    return Betas(alphas)


FLOW = frozenset(
    ("num_train_timesteps", "shift", "use_dynamic_shifting", "base_shift", "max_shift",
     "base_image_seq_len", "max_image_seq_len", "shift_terminal", "use_karras_sigmas",
     "use_exponential_sigmas", "use_beta_sigmas", "time_shift_type", "stochastic_sampling")
)  # fmt: skip
"""Settings of FlowMatchEulerDiscreteScheduler that do not change what a timestep means."""


def read_flow(folder: Path, config: Mapping[str, Any]) -> Flow:
    """Return the flow that a scheduler_config.json describes; FslabError for another schedule."""
    name, known = config.get("_class_name"), FLOW | BOOKKEEPING
    if name == "DPMSolverMultistepScheduler" and config.get("use_flow_sigmas"):
        known |= SAMPLING | NOISE | {"prediction_type", "use_flow_sigmas"}  # reads no betas then
    elif name != "FlowMatchEulerDiscreteScheduler":
        raise FslabError(
            f"{folder}/{FILE} is of {name or 'no class'}; this family of networks is trained by "
            "flow matching, and its scheduler is FlowMatchEulerDiscreteScheduler, or "
            "DPMSolverMultistepScheduler with use_flow_sigmas"
        )
    for key, value in config.items():
        if key not in known and unknown_setting(name, key, value):
            raise FslabError(
                f"{folder}/{FILE} has {key} = {value!r}, which fslab does not understand; if it "
                "changes no number, take it out of the file"
            )
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise FslabError(
            f"{folder}/{FILE} has num_train_timesteps = {steps!r}; it must be 1 or more"
        )
    return Flow(steps)
