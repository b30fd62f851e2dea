"""Cutting large frames into overlapping tiles and blending the results, for the VAE."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OVERLAP = 96  # pixels; a quarter of a tile of 256 shows in random weights of Wan 2.2's VAE (43 dB), this does not (51)


def tile_starts(size: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """First positions of tiles that cover `size`, evenly spread, each a multiple of `multiple`."""
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    last = size - tile
    return [round(last * i / (count - 1) / multiple) * multiple for i in range(count - 1)] + [last]


def _ramp(size: int, overlap: int, before: bool, after: bool) -> Tensor:
    """Weights (size,) that rise over the middle half of an overlap: the outer quarter, where a tile misses its
    neighbourhood most, does not count."""
    ramp = torch.ones(size)
    edge = ((torch.arange(overlap) + 0.5) / overlap * 2 - 0.5).clamp(0, 1)
    if before:
        ramp[:overlap] = edge
    if after:
        ramp[-overlap:] = torch.minimum(ramp[-overlap:], edge.flip(0))
    return ramp


def blend_tiles(
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    out_shape: tuple[int, int, int, int],
    tile: int,
    scale: float,
    multiple: int,
) -> Tensor:
    """Apply `run` to square tiles of x (B, C, T, H, W) and blend them over `OVERLAP` pixels, at most half their side.

    out_shape: (C, T, H, W) of the whole result. scale: output positions per input position. multiple: tiles begin at
    multiples of this many input positions, so that they map to whole output positions.
    """
    height, width = x.shape[3:]
    tile = max(multiple, tile // multiple * multiple)
    overlap = min(tile // 2, round(OVERLAP / max(scale, 1)))  # what is decoded counts in latents
    overlap = max(multiple, overlap // multiple * multiple)
    if overlap >= tile:
        raise ValueError(f"tile of {tile} is too small to overlap; use at least {2 * multiple}")
    out = x.new_zeros(x.shape[0], *out_shape)
    weight = x.new_zeros(out_shape[2:])
    for top in tile_starts(height, tile, overlap, multiple):
        for left in tile_starts(width, tile, overlap, multiple):
            bottom, right = min(top + tile, height), min(left + tile, width)
            part = run(x[..., top:bottom, left:right])
            blend = int(overlap * scale)
            mask = (
                _ramp(part.shape[3], blend, top > 0, bottom < height)[:, None]
                * _ramp(part.shape[4], blend, left > 0, right < width)[None]
            ).to(x)
            rows = slice(int(top * scale), int(top * scale) + part.shape[3])
            columns = slice(int(left * scale), int(left * scale) + part.shape[4])
            out[..., rows, columns] += part * mask
            weight[rows, columns] += mask
    return out.div_(weight)
