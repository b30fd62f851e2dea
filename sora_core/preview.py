"""Pictures of what has no pixels: latents through a linear map, and the grid of patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .patches import Patches

KEEP, MAKE = (0.16, 0.36, 0.62), (0.96, 0.56, 0.16)  # colours of strength 0 and 1
DARK, LIGHT = (0.09, 0.09, 0.12), (0.95, 0.95, 0.90)  # colours of the smallest and the largest norm
MARGIN, LINE, SIDE = 8, 18, 112  # pixels


def latents_to_rgb(latents: Tensor, latent_rgb: Sequence[Sequence[float]]) -> Tensor:
    """Latents (C, T, H, W) to small frames (T, H, W, 3) in 0..1, one pixel a place; see `VAEConfig.latent_rgb`."""
    table = torch.tensor(latent_rgb, dtype=torch.float32, device=latents.device)
    frames = torch.einsum("cthw,cr->thwr", latents.float(), table[:-1]) + table[-1]
    return ((frames + 1) / 2).clamp(0, 1)


def draw_patches(patches: Patches) -> Tensor:
    """The first clip's patches as a picture (H, W, 3) in 0..1: per latent frame how large each token is (its RMS), and
    below it its strength from blue (0, kept) to orange (1, made)."""
    grid = patches.grid
    rms = patches.tokens[0].float().square().mean(-1).sqrt().view(grid.t, grid.h, grid.w)
    strength = patches.strength[0].float().view(grid.t, grid.h, grid.w)
    spread = (rms - rms.min()) / (rms.max() - rms.min()).clamp(min=1e-6)
    cell = max(4, SIDE // max(grid.h, grid.w))
    width, height = grid.w * cell, grid.h * cell
    columns = min(grid.t, 8)
    step = 2 * height + 3 * LINE
    rows = -(-grid.t // columns)
    sheet = Image.new("RGB", (max(columns * (width + MARGIN) + MARGIN, 330), rows * step + 2 * LINE + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 4), f"{grid.t} x {grid.h} x {grid.w} = {grid.length} patches", fill="black")
    pen.text((MARGIN, 4 + LINE), "above: RMS of the tokens, below: strength", fill="black")
    for t in range(grid.t):
        x, y = MARGIN + t % columns * (width + MARGIN), 2 * LINE + t // columns * step
        pen.text((x, y + 4), f"latent {t * grid.patch[0]}", fill="black")
        sheet.paste(_heat(spread[t], DARK, LIGHT, cell), (x, y + LINE))
        sheet.paste(_heat(strength[t], KEEP, MAKE, cell), (x, y + LINE + height + 4))
        low, high = float(strength[t].min()), float(strength[t].max())
        text = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
        pen.text((x, y + LINE + 2 * height + 6), text, fill="black")
    return torch.from_numpy(np.asarray(sheet).copy()).float() / 255


def _heat(values: Tensor, low: Sequence[float], high: Sequence[float], cell: int) -> Image.Image:
    """A map (h, w) in 0..1 as squares with a thin gap, coloured between two colours."""
    colours = torch.lerp(torch.tensor(low), torch.tensor(high), values[..., None].cpu())
    pixels = (colours * 255).round().byte().repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    pixels[::cell], pixels[:, ::cell] = 255, 255
    return Image.fromarray(pixels.numpy())
