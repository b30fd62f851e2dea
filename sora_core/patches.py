"""Spacetime patches: cutting latents into tokens and putting them together again.

Shapes: B batch, C channels, T H W latent grid, L = t*h*w tokens in time-major order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from .config import nearest


@dataclass(frozen=True)
class Grid:
    """How many patches a latent has along time, height and width, and how large each is."""

    t: int
    h: int
    w: int
    patch: tuple[int, int, int]

    @classmethod
    def of(cls, latent_shape: tuple[int, int, int], patch: tuple[int, int, int]) -> Grid:
        """Grid of latents (T, H, W). Raises ValueError that names the axis and the nearest size that fits."""
        for axis, size, step in zip(("frames", "height", "width"), latent_shape, patch, strict=True):
            if size < step or size % step:
                fit = nearest(size, step, step)
                raise ValueError(f"latent {axis} {size} does not divide into patches of {step}; use {fit}")
        return cls(*(size // step for size, step in zip(latent_shape, patch, strict=True)), patch=patch)

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.t * self.h * self.w

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.t * self.patch[0], self.h * self.patch[1], self.w * self.patch[2]


def patchify(latents: Tensor, patch: tuple[int, int, int]) -> tuple[Tensor, Grid]:
    """Latents (B, C, T, H, W) to tokens (B, L, pt*ph*pw*C) and their grid."""
    grid = Grid.of(tuple(latents.shape[2:]), patch)
    p, q, r = patch
    return rearrange(latents, "b c (t p) (h q) (w r) -> b (t h w) (p q r c)", p=p, q=q, r=r), grid


def unpatchify(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens (B, L, pt*ph*pw*C) to latents (B, C, T, H, W). Exact inverse of `patchify`."""
    if tokens.shape[1] != grid.length:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill a grid of {grid.t} x {grid.h} x {grid.w}")
    p, q, r = grid.patch
    return rearrange(
        tokens, "b (t h w) (p q r c) -> b c (t p) (h q) (w r)", t=grid.t, h=grid.h, w=grid.w, p=p, q=q, r=r
    )


def map_to_tokens(strength: Tensor, grid: Grid) -> Tensor:
    """Strength map (B, 1, T, H, W) to one strength per token (B, L): the largest in the patch, since a token of which
    any part is to be made has to be made."""
    if strength.ndim != 5 or strength.shape[1] != 1 or tuple(strength.shape[2:]) != grid.latent_shape:
        expected = ", ".join(map(str, grid.latent_shape))
        raise ValueError(f"strength map of shape {tuple(strength.shape)}: expected (B, 1, {expected})")
    p, q, r = grid.patch
    return reduce(strength, "b 1 (t p) (h q) (w r) -> b (t h w)", "max", p=p, q=q, r=r)


def tokens_to_map(strength: Tensor, grid: Grid) -> Tensor:
    """One strength per token (B, L) to a map (B, 1, T, H, W) that is constant in every patch."""
    p, q, r = grid.patch
    return repeat(strength, "b (t h w) -> b 1 (t p) (h q) (w r)", t=grid.t, h=grid.h, w=grid.w, p=p, q=q, r=r)


@dataclass(frozen=True)
class Patches:
    """A clip as the transformer sees it: tokens (B, L, pt*ph*pw*C), their grid, and a strength (B, L) in 0..1 each, on
    the CPU in single precision. extras: what else the latents came with, handed on untouched."""

    tokens: Tensor
    grid: Grid
    strength: Tensor
    extras: Mapping[str, Any] = field(default_factory=dict)


def to_patches(latents: Tensor, strength: Tensor | float, patch: tuple[int, int, int]) -> Patches:
    """Cut latents (B, C, T, H, W) and their strength map (B or 1, 1, T, H, W), or one strength for all."""
    if latents.ndim != 5:
        raise ValueError(f"latents of shape {tuple(latents.shape)}: patches are cut from a video's (B, C, T, H, W)")
    tokens, grid = patchify(latents, patch)
    if isinstance(strength, Tensor):
        if strength.shape[0] not in (1, tokens.shape[0]):
            raise ValueError(f"strength maps of {strength.shape[0]} clips for latents of {tokens.shape[0]}")
        per_token = map_to_tokens(strength.to("cpu", torch.float32), grid).expand(tokens.shape[0], -1)
    else:
        per_token = torch.full(tokens.shape[:2], float(strength))
    return Patches(tokens, grid, per_token)


def from_patches(patches: Patches) -> tuple[Tensor, Tensor]:
    """Latents (B, C, T, H, W) and their strength map (B, 1, T, H, W). Inverse of `to_patches`."""
    return unpatchify(patches.tokens, patches.grid), tokens_to_map(patches.strength, patches.grid)
