"""A diffusion transformer, a text, guidance and a strength map as the one callable that the samplers take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .dit import DiT, TextKV
from .flow import TIMESTEPS, StrengthMap, before_given, denoise
from .patches import Grid, map_to_tokens


class Denoiser:
    """model(x, sigma) -> denoised, for one DiT under one text.

    text, negative: prepared keys and values. cfg: strength of classifier-free guidance (arXiv 2207.12598); at 1, or
    outside `interval` (arXiv 2404.07724), `negative` is not read. interval: the lowest and highest sigma that are
    guided. strengths: the task; None makes everything from noise. ramps: further texts, and the share of every latent
    frame (T,), from 0 to 1, that each takes over from those before it. cfg_before: guidance in the latent frame right
    before a given one, which has to lead there more than to what the text says. leading: these latent frames (B, 1, T,
    1, 1), where `strengths` is only a part of the map.
    """

    def __init__(
        self,
        dit: DiT,
        text: TextKV,
        negative: TextKV | None = None,
        cfg: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        strengths: StrengthMap | None = None,
        ramps: Sequence[tuple[TextKV, Tensor]] = (),
        cfg_before: float | None = None,
        leading: Tensor | None = None,
    ) -> None:
        if cfg != 1.0 and negative is None:
            raise ValueError(f"cfg is {cfg}: guidance needs a negative text (an empty one will do)")
        self.dit, self.cfg, self.interval, self.strengths = dit, cfg, interval, strengths
        texts = [text, *(further for further, _ in ramps)]
        self.shares = [share.view(1, 1, -1, 1, 1) for _, share in ramps]
        self.plain = _together(texts)
        self.scale: float | Tensor = cfg
        if strengths is not None and cfg_before is not None and cfg_before < cfg:
            leading = before_given(strengths.strength) if leading is None else leading
            self.scale = torch.where(leading, cfg_before, cfg)
        self.guided = None if cfg == 1.0 or negative is None else _together([*texts, negative])

    def _velocity(self, x: Tensor, timestep: Tensor, sigma: float) -> Tensor:
        low, high = self.interval
        guided = self.guided if low <= sigma <= high else None
        text = self.plain if guided is None else guided
        calls = text.keys[0].shape[0] // x.shape[0]
        parts = list(self.dit(torch.cat([x] * calls), torch.cat([timestep] * calls), text).chunk(calls))
        positive = parts[0]
        for part, share in zip(parts[1:], self.shares, strict=False):  # behind them comes the negative, if there is one
            positive = torch.lerp(positive, part, share.to(x))
        return positive if guided is None else parts[-1] + self.scale * (positive - parts[-1])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, C, T, H, W), sigma (B,) with one value."""
        now = float(sigma[0])
        task = self.strengths
        if task is None or bool((task.strength == 1).all()):
            return denoise(x, self._velocity(x, sigma * TIMESTEPS, now), now)
        level = task.level(now).expand(x.shape[0], -1, -1, -1, -1)
        tokens = map_to_tokens(level, Grid.of(tuple(x.shape[2:]), self.dit.config.patch))
        seen = task.enter(x, now)
        v = self._velocity(seen, tokens * TIMESTEPS, now)
        return task.leave(seen, denoise(seen, v, now), now)


def _together(texts: list[TextKV]) -> TextKV:
    """Several texts as one batch: the network is called once for all."""
    if len(texts) == 1:
        return texts[0]
    keys, values = zip(*texts, strict=True)
    return TextKV(*(tuple(map(torch.cat, zip(*parts, strict=True))) for parts in (keys, values)))
