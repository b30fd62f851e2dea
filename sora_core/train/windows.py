"""Windows of a frame around what a scene shows. Much of a frame is background, of which a transformer soon knows all:
in windows, two to four times as many clips fill a batch. Tokens keep their places in the whole frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import reduce

from ..patches import Grid
from ..world import Scene
from .latents import Subject, near_things

SHARES = (
    (1 / 2, 1 / 2), (7 / 12, 7 / 12), (2 / 3, 3 / 4), (3 / 4, 2 / 3), (1, 1 / 2), (1 / 2, 1), (1, 7 / 12), (7 / 12, 1),
)  # fmt: skip
SMALLEST = 6  # tokens of a side
FEWEST = 40  # clips that fit into a window; fewer would be learnt by heart


class Windows:
    """Which clips of a bucket fit into which windows. Videos stay whole.

    sizes: rows that fit, by the height and width of a window in tokens.
    """

    def __init__(self, subjects: Sequence[Subject], grid: Grid) -> None:
        self.grid = grid
        self.boxes = np.zeros((len(subjects), 4), dtype=int)  # first and last row, first and last column, of tokens
        known = np.zeros(len(subjects), dtype=bool)
        for i, subject in enumerate(subjects):
            if isinstance(subject, Scene):
                near = near_things(subject, grid.latent_shape).numpy()
                _, q, r = grid.patch
                seen = reduce(near, "t (h q) (w r) -> h w", "max", q=q, r=r)
                rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
                if len(rows):  # else it is so small that it lies between the latents
                    self.boxes[i], known[i] = (rows[0], rows[-1], columns[0], columns[-1]), True
        top, bottom, left, right = self.boxes.T
        self.sizes: dict[tuple[int, int], np.ndarray] = {}
        for high, wide in SHARES:
            size = round(high * grid.h), round(wide * grid.w)
            fit = np.flatnonzero(known & (bottom - top < size[0]) & (right - left < size[1]))
            if min(size) >= SMALLEST and len(fit) >= FEWEST:
                self.sizes[size] = fit

    def draw_size(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Height and width in tokens of one of the windows; None where there are none."""
        return list(self.sizes)[rng.integers(len(self.sizes))] if self.sizes else None

    def draw_corner(self, rng: np.random.Generator, row: int, size: tuple[int, int]) -> tuple[int, int]:
        """Top and left, in tokens, of a window inside the frame around all things of a row's scene (in neon, not all of
        their glow)."""
        top, bottom, left, right = self.boxes[row]
        return tuple(
            int(rng.integers(max(0, last - length + 1), min(first, whole - length) + 1))
            for first, last, length, whole in zip(
                (top, left), (bottom, right), size, (self.grid.h, self.grid.w), strict=True
            )
        )  # type: ignore[return-value]


def cut(
    maps: torch.Tensor, corners: Sequence[tuple[int, int]], size: tuple[int, int], scale: tuple[int, int]
) -> torch.Tensor:
    """Windows (B, ..., h, w) of maps (B, ..., H, W), each at its own corner. scale: rows and columns of a token."""
    (q, r), (h, w) = scale, size
    return torch.stack(
        [one[..., q * y : q * (y + h), r * x : r * (x + w)] for one, (y, x) in zip(maps, corners, strict=True)]
    )
