"""Clips of moving textures: what the VAE sees besides the world's shapes, so that real footage survives it.

Each clip is a few layers, one in front of the other, each with a texture of its own that pans, zooms and turns. A
texture is dead leaves (arXiv 2106.05963: random patches that hide each other have the statistics of photographs) under
noise whose spectrum falls as 1/f. They have no captions, and no transformer is trained on them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def texture_clip(rng: np.random.Generator, frames: int, side: int) -> Tensor:
    """A clip (3, frames, side, side) in -1..1."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    clip = _move(rng, _texture(rng, generator, 2 * side), frames, side)
    for _ in range(rng.integers(0, 3)):
        outline = _noise(generator, 2 * side, 1, slope=rng.uniform(1.2, 2.0))
        edge = (outline - rng.normal() * 0.6) * rng.uniform(3, 20)
        layer = torch.cat([_texture(rng, generator, 2 * side), edge.sigmoid()])
        *colour, cover = _move(rng, layer, frames, side).unbind(0)
        clip = torch.lerp(clip, torch.stack(colour), cover)
    if rng.random() < 0.3:  # out of focus
        clip = F.avg_pool2d(clip, 3, stride=1, padding=1, count_include_pad=False)
    drift = torch.linspace(0, float(rng.normal() * 0.05), frames).view(1, -1, 1, 1)
    grain = torch.randn(clip.shape, generator=generator) * float(rng.choice([0.0, 0.005, 0.015]))
    return (clip + drift + grain).clamp(0, 1) * 2 - 1


def _noise(generator: torch.Generator, side: int, channels: int, slope: float) -> Tensor:
    """Noise (channels, side, side) of unit variance whose amplitude falls as frequency to the power of -slope."""
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    amplitude = (y * y + x * x).sqrt().clamp(min=1 / side) ** -slope
    amplitude[0, 0] = 0
    phases = torch.randn(channels, side, side // 2 + 1, dtype=torch.complex64, generator=generator)
    noise = torch.fft.irfft2(phases * amplitude, s=(side, side))
    return noise / noise.std(dim=(1, 2), keepdim=True)


def _texture(rng: np.random.Generator, generator: torch.Generator, side: int) -> Tensor:
    """A picture (3, side, side) in 0..1: leaves, each in a colour near the picture's own, under noise."""
    base = rng.uniform(0.1, 0.9) + _colour(rng, 0.0, 0.12)
    picture = base.clamp(0, 1).repeat(1, side, side)
    if rng.random() < 0.7:
        picture = _leaves(rng, picture, base)
    light = _noise(generator, side, 1, slope=rng.uniform(0.8, 1.6)) * float(rng.uniform(0.0, 0.2))
    tint = _noise(generator, side, 3, slope=rng.uniform(1.0, 1.8)) * float(rng.uniform(0.0, 0.06))
    return (picture + light + tint).clamp(0, 1)


def _colour(rng: np.random.Generator, light: float, tint: float) -> Tensor:
    """A random offset (3, 1, 1) in lightness and, as photographs go, less in tint."""
    offset = rng.normal(0, light) + rng.normal(0, tint, size=(3, 1, 1))
    return torch.from_numpy(offset.astype(np.float32))


def _leaves(rng: np.random.Generator, picture: Tensor, base: Tensor) -> Tensor:
    """Boxes and discs with radii that follow a power law, later ones in front."""
    side = picture.shape[-1]
    places = torch.arange(side, dtype=torch.float32)
    spread = rng.uniform(0.05, 0.35)
    for _ in range(int(rng.integers(20, 120))):
        radius = min(side / 2, 2.0 / rng.uniform(0.02, 1.0))
        x, y, angle = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, math.pi)
        reach = radius * 1.5 + 2
        top, left = max(0, int(y - reach)), max(0, int(x - reach))
        box = slice(top, int(y + reach) + 1), slice(left, int(x + reach) + 1)
        v, u = places[box[0]][:, None] - y, places[box[1]][None] - x
        if rng.random() < 0.4:
            distance = (u * u + v * v).sqrt() - radius
        else:
            c, s, ratio = math.cos(angle), math.sin(angle), rng.uniform(0.1, 1.0)
            distance = torch.maximum((c * u + s * v).abs() - radius, (c * v - s * u).abs() - radius * ratio)
        shade = base + _colour(rng, spread, spread * 0.4) + (u + v) / radius * float(rng.normal() * 0.08)
        picture[:, *box] = torch.lerp(picture[:, *box], shade.clamp(0, 1), (0.5 - distance).clamp(0, 1))
    return picture


def _move(rng: np.random.Generator, picture: Tensor, frames: int, side: int) -> Tensor:
    """The picture (C, S, S) as a camera sees it that pans, zooms and turns steadily: (C, frames, side, side)."""
    t = torch.arange(frames, dtype=torch.float32) - (frames - 1) / 2
    speed = float(rng.choice([0.0, 0.5, 1.5, 4.0], p=[0.2, 0.3, 0.35, 0.15]))  # pixels a frame
    pan = torch.from_numpy(rng.normal(0, speed, size=2).astype(np.float32)) / picture.shape[-1] * 2
    zoom = float(np.exp(rng.normal(-0.1, 0.25))) * torch.exp(t * float(rng.normal() * 0.006))
    angle = t * float(rng.normal() * 0.008) + float(rng.uniform(-math.pi, math.pi))
    scale = zoom * side / picture.shape[-1]
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cos, -sin, t * pan[0]], -1), torch.stack([sin, cos, t * pan[1]], -1)]
    grid = F.affine_grid(torch.stack(rows, 1), [frames, len(picture), side, side], align_corners=False)
    seen = F.grid_sample(
        picture.expand(frames, -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return seen.transpose(0, 1)
