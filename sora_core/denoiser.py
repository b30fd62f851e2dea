"""A diffusion transformer, a text, guidance and a strength map as the one callable that the samplers take."""

from __future__ import annotations

import torch
from torch import Tensor

from .dit import DiT, TextKV
from .flow import TIMESTEPS, StrengthMap, denoise
from .patches import Grid, map_to_tokens


class Denoiser:
    """model(x, sigma) -> denoised, for one DiT under one text.

    text, negative: prepared keys and values. cfg: strength of classifier-free guidance (arXiv 2207.12598); at 1, or
    outside `interval` (arXiv 2404.07724), the network is called once and `negative` is not read. interval: the lowest
    and highest sigma that are guided. strengths: the task; None makes everything from noise.
    """

    def __init__(
        self,
        dit: DiT,
        text: TextKV,
        negative: TextKV | None = None,
        cfg: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        strengths: StrengthMap | None = None,
    ) -> None:
        if cfg != 1.0 and negative is None:
            raise ValueError(f"cfg is {cfg}: guidance needs a negative text (an empty one will do)")
        self.dit, self.text, self.cfg, self.interval, self.strengths = dit, text, cfg, interval, strengths
        self.both: TextKV | None = None
        if cfg != 1.0 and negative is not None:
            self.both = TextKV(
                *(tuple(map(torch.cat, zip(*pair, strict=True))) for pair in zip(text, negative, strict=True))
            )

    def _velocity(self, x: Tensor, timestep: Tensor, sigma: float) -> Tensor:
        low, high = self.interval
        if self.both is None or not low <= sigma <= high:
            return self.dit(x, timestep, self.text)
        positive, negative = self.dit(torch.cat([x, x]), torch.cat([timestep, timestep]), self.both).chunk(2)
        return negative + self.cfg * (positive - negative)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, C, T, H, W), sigma (B,) with one value."""
        now = float(sigma[0])
        task = self.strengths
        if task is None or bool((task.strength == 1).all()):
            return denoise(x, self._velocity(x, sigma * TIMESTEPS, now), now)
        level = task.level(now).expand(x.shape[0], -1, -1, -1, -1)
        tokens = map_to_tokens(level, Grid.of(tuple(x.shape[2:]), self.dit.config.patch))
        v = self._velocity(task.enter(x, now), tokens * TIMESTEPS, now)
        return task.leave(denoise(x, v, now), now)
