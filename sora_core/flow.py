"""Rectified flow: the path from data to noise, its schedules, and strength maps. The one place that states signs.

    x_t = (1 - t) * x0 + t * noise      t from 0 (data) to 1 (noise); the samplers call t `sigma`
    v   = noise - x0                    what the network predicts, at timestep 1000 * t
    x0  = x_t - t * v                   `denoised`

A strength map m in 0..1 says per token what the sampler may do: 0 keep, 1 make from noise, between: begin from the
given latents noised to level m (SDEdit, arXiv 2108.01073). While the sampler is at sigma, a token is at min(sigma, m).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TIMESTEPS = 1000.0  # the network's clock runs from 0 to this
MADE = 0.5  # strength above which a place is made rather than given


def add_noise(x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """Point of the path at level t (broadcast against x0)."""
    return (1 - t) * x0 + t * noise


def noise_again(x: Tensor, noise: Tensor, level: float, t: float) -> Tensor:
    """Point of the path at level t, from one at a lower level."""
    share = (1 - t) / (1 - level)
    return share * x + (t * t - (share * level) ** 2) ** 0.5 * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """What the network is trained to predict."""
    return noise - x0


def denoise(x: Tensor, v: Tensor, t: Tensor | float) -> Tensor:
    """Estimate of x0 from a point at level t and its velocity."""
    return x - t * v


def shift_levels(t: Tensor, shift: float) -> Tensor:
    """Move levels in 0..1 towards noise by `shift` >= 1 (SD3, arXiv 2403.03206, eq. 23): larger latents need it."""
    return shift * t / (1 + (shift - 1) * t)


def shift_for(tokens: int, base: float = 1.0, reference: int = 80) -> float:
    """Shift for a clip of so many tokens: `base` at `reference` tokens, growing with the square root, at least 1."""
    return max(1.0, base * (tokens / reference) ** 0.5)


def schedule(steps: int, shift: float = 1.0, start: float = 1.0) -> Tensor:
    """Levels (steps + 1,) from `start` down to 0, evenly spaced and then shifted. `start` is a level, not a fraction
    of the steps: the schedule of SDEdit from strength m has start m, and still takes all the steps."""
    if steps < 1:
        raise ValueError(f"steps is {steps}: sampling needs at least 1")
    if not 0 < start <= 1:
        raise ValueError(f"start is {start}: a level lies above 0 and at most at 1")
    begin = start / (shift - (shift - 1) * start)  # the level that the shift maps to `start`
    levels = shift_levels(torch.linspace(begin, 0, steps + 1, dtype=torch.float64), shift).float()
    levels[0] = start
    return levels


@dataclass(frozen=True)
class StrengthMap:
    """What is known of the result, and how far each place may leave it. Same shapes as the latents (B, C, T, H, W),
    the strength (B, 1, T, H, W) in 0..1 and constant within every patch. levels: the schedule, falling to 0."""

    strength: Tensor
    known: Tensor
    noise: Tensor
    levels: Tensor
    per_token: bool = True  # False for a model that takes one level for the whole clip

    def waiting(self, sigma: Tensor | float) -> Tensor:
        """Places that the falling level has not reached yet: these rest at their own level."""
        return self.strength < sigma

    def level(self, sigma: Tensor | float) -> Tensor:
        """Level (B, 1, T, H, W) at which each place is while the sampler is at sigma."""
        return self.strength.clamp(max=float(sigma))

    def enter(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """What the network sees: waiting places show the known latents noised to their strength, or, to a model that
        takes one level, to sigma (replacement, as in RePaint, arXiv 2201.09865)."""
        level = self.strength if self.per_token else sigma
        return torch.where(self.waiting(sigma), add_noise(self.known, self.noise, level), x)

    def leave(self, seen: Tensor, denoised: Tensor, sigma: Tensor | float) -> Tensor:
        """What the sampler sees, given what the network saw and the estimate that this makes if it is at sigma.

        Waiting places are known, so their trajectory is the straight path from noise to the known latents, whatever the
        solver. Where a place's own level lies between sigma and the next one, it begins to move within this step: the
        share of its estimate is such that Euler's step from sigma to the next level ends where a step from the place's
        own level would. (A model that takes one level saw more noise there than the place has; it moves it by less.)
        """
        sigma = float(sigma)
        after = float(self.levels[self.levels < sigma].amax()) if bool((self.levels < sigma).any()) else 0.0
        share = ((1 - after / self.strength) / (1 - after / sigma)).clamp(0, 1).nan_to_num(0)
        if self.per_token:
            own = torch.lerp(seen, denoised, self.strength / sigma)
        else:
            own, share = denoised, share * self.strength / sigma
        return torch.where(self.waiting(sigma), torch.lerp(self.known, own, share), denoised)

    def finish(self, x: Tensor) -> Tensor:
        """Kept places come back bit for bit, free of the solver's rounding."""
        return torch.where(self.strength == 0, self.known, x)


def before_given(strength: Tensor) -> Tensor:
    """Latent frames (B, 1, T, 1, 1) of a strength map (B, 1, T, H, W) that are made for the most part, right before
    one of which most stays."""
    frames = strength.flatten(3)  # B 1 T P
    made, given = frames.amin(3) > MADE, frames.amax(3) < MADE
    follows = torch.cat([given[:, :, 1:], torch.zeros_like(given[:, :, :1])], dim=2)
    return (made & follows)[..., None, None]


def training_levels(count: int, generator: torch.Generator, shift: float = 1.0, uniform: float = 0.2) -> Tensor:
    """Levels (count,) to train at: logit-normal ones, shifted (arXiv 2403.03206), and a share of uniform ones.

    The shift matters: the flat parts of a clip can be told from many noisy tokens, so only near pure noise does the
    text say anything new. With too few levels there a model never learns to read.
    """
    normal = shift_levels(torch.randn(count, generator=generator).sigmoid(), shift)
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < uniform, flat, normal)


def flow_loss(prediction: Tensor, x0: Tensor, noise: Tensor, level: Tensor, weight: float | Tensor = 1.0) -> Tensor:
    """Mean squared error of the velocity over the places that are not clean. level: broadcastable, 0 where clean.
    weight: how much a place counts, likewise."""
    error = (prediction - velocity(x0, noise)).square()
    counted = ((level > 0) * weight).to(error).expand_as(error)
    return (error * counted).sum() / counted.sum().clamp(min=1)
