"""Texts for parts of the frame: each is denoised by itself, as a clip of its size, and where parts overlap they are
mixed in every step (MultiDiffusion, arXiv 2302.08113). So a model that mixes up two things of one text makes both, each
from a text of its own (as RPG plans it, arXiv 2401.11708).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from .flow import StrengthMap
from .patches import Grid

Text = TypeVar("Text")

FADE = 8  # latents at most over which a region fades towards an edge inside the frame, a quarter of it at most
REST = 0.1  # weight of the text of the rest, where regions leave a rest: least beside a region's own 1
HALF = 7 / 12  # of the frame: a half and what it shares with the other one


@dataclass(frozen=True)
class Box:
    """A part of the frame, as shares of its width and height, from the upper left corner."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def __post_init__(self) -> None:
        far = self.left + self.width, self.top + self.height
        if min(self.left, self.top) < 0 or min(self.width, self.height) <= 0 or max(far) > 1 + 1e-6:
            raise ValueError(
                f"region at {self.left:g}, {self.top:g} of {self.width:g} x {self.height:g}: left and top start at 0, "
                "width and height are above 0, and the region ends inside the frame, which is 1 x 1"
            )

    def window(self, grid: Grid) -> Window:
        """The whole patches of a grid that lie nearest to the box, at least one each way."""
        rows, columns = _nearest(self.top, self.height, grid.h), _nearest(self.left, self.width, grid.w)
        return Window(*(n * grid.patch[1] for n in rows), *(n * grid.patch[2] for n in columns))


def _nearest(begin: float, length: float, count: int) -> tuple[int, int]:
    first = min(round(begin * count), count - 1)
    return first, max(round((begin + length) * count), first + 1)


@dataclass(frozen=True)
class Window:
    """Latents from top to bottom and from left to right, the ends left out."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(self, x: Tensor) -> Tensor:
        """This part of a tensor (..., H, W), a view."""
        return x[..., self.top : self.bottom, self.left : self.right]

    def weights(self, height: int, width: int) -> Tensor:
        """How much each latent counts, (bottom - top, right - left): 1, less towards edges inside the frame. The same
        as ComfyUI's for an area of a conditioning."""
        rows = _faded(self.bottom - self.top, self.top > 0, self.bottom < height)
        columns = _faded(self.right - self.left, self.left > 0, self.right < width)
        return rows[:, None] * columns


def _faded(length: int, at_begin: bool, at_end: bool) -> Tensor:
    reach = min(FADE, length // 4)
    weights, rise = torch.ones(length), (torch.arange(reach) + 1) / max(1, reach)
    if at_begin:
        weights[:reach] *= rise
    if at_end:
        weights[length - reach :] *= rise.flip(0)
    return weights


def halves(width: int, height: int, least: int = 0) -> list[Box]:
    """Two parts of a frame of this shape: the left and the right one, in a high frame the upper and the lower one. None
    where one would be less than `least` wide or high."""
    if max(width, height) * HALF < least:
        return []
    if width >= height:
        return [Box(width=HALF), Box(left=1 - HALF, width=HALF)]
    return [Box(height=HALF), Box(top=1 - HALF, height=HALF)]


Model = Callable[[Tensor, Tensor], Tensor]  # model(x, sigma) -> denoised, as the samplers take


class Composed:
    """model(x, sigma) -> denoised, (B, C, T, H, W), of models for windows that together cover the latents, each with
    its weight."""

    def __init__(self, parts: Sequence[tuple[Model, Window, float]]) -> None:
        self.parts = parts

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        total, counted = torch.zeros_like(x), x.new_zeros(height, width)
        for model, window, weight in self.parts:
            weights = weight * window.weights(height, width).to(x)
            window.cut(total).add_(weights * model(window.cut(x), sigma))
            window.cut(counted).add_(weights)
        return total / counted


def placed(regions: Sequence[tuple[Text, Box]], grid: Grid) -> list[tuple[Text | None, Window, float]]:
    """Every region's text with its window of the latents and its weight; where they leave a rest, or there are none,
    None for the text of the rest, which sees the whole frame."""
    parts: list[tuple[Text | None, Window, float]] = [(text, box.window(grid), 1.0) for text, box in regions]
    _, height, width = grid.latent_shape
    inside = torch.zeros(height, width, dtype=torch.bool)
    for _, window, _ in parts:
        window.cut(inside).fill_(True)
    return parts if inside.all() else [(None, Window(0, height, 0, width), REST if parts else 1.0), *parts]


def cut_map(task: StrengthMap, window: Window) -> StrengthMap:
    """A strength map as one window sees it."""
    known, noise = window.cut(task.known), window.cut(task.noise)
    return replace(task, strength=window.cut(task.strength), known=known, noise=noise)
