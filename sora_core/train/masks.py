"""A second task while the transformer learns: tokens behind two thirds of it have to tell what the things of the scene
cover, by a head that is thrown away. So silhouettes, which are few latents of many, have a say of their own at every
noise level. (REPA, arXiv 2410.06940, has the features of a block in the middle follow another network's.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from ..dit import DiT
from ..patches import Grid
from ..world import Scene
from ..world.render import mask
from .latents import Subject

DEPTH = 2 / 3  # of the transformer, behind which tokens are asked
CELLS = 4, 2, 2  # of a latent: frames, rows, columns
EMPTY = 0.03  # weight of cells far from things, which are many; of those near things it is this and 1
UNKNOWN = -1.0


def covered_by(subject: Subject, shape: tuple[int, int, int]) -> Tensor:
    """Share (1, 4T, 2H, 2W) of every cell of latents (T, H, W) that things cover, behind a wall, too; UNKNOWN
    throughout for a video."""
    frames, height, width = (size * cells for size, cells in zip(shape, CELLS, strict=True))
    if not isinstance(subject, Scene):
        return torch.full((1, frames, height, width), UNKNOWN)
    things = [mask(subject, i, frames - 3, height, width) for i in range(len(subject.things))]
    covered = torch.stack(things).amax(0, keepdim=True)
    return torch.cat([covered[:, :1].expand(-1, 3, -1, -1), covered], dim=1)  # the first latent is of one frame


class MaskHead(nn.Module):
    """Watches a transformer and tells from its tokens which cells are covered."""

    def __init__(self, dit: DiT) -> None:
        super().__init__()
        dim, self.patch = dit.config.dim, dit.config.patch
        self.read = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, math.prod(CELLS) * math.prod(self.patch))
        )
        self.tokens: Tensor | None = None  # (B, L, D) of the last call that learns
        dit.blocks[round(DEPTH * dit.config.layers) - 1].register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: tuple, tokens: Tensor) -> None:
        if torch.is_grad_enabled():
            self.tokens = tokens

    def initialise(self, generator: torch.Generator) -> None:
        for layer in self.read:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, covered: Tensor, near: Tensor) -> Tensor:
        """Cross entropy of what the tokens of the last call tell. covered: (B, 1, 4T, 2H, 2W), in 0..1 or UNKNOWN;
        near: (B, 1, T, H, W), where things are near."""
        if self.tokens is None:
            raise ValueError("the transformer was not called yet")
        grid = Grid.of(tuple(near.shape[2:]), self.patch)
        p, q, r = (size * cells for size, cells in zip(self.patch, CELLS, strict=True))
        wanted = rearrange(covered, "b 1 (t p) (h q) (w r) -> b (t h w) (p q r)", p=p, q=q, r=r)
        p, q, r = grid.patch
        close = reduce(near.float(), "b 1 (t p) (h q) (w r) -> b (t h w) 1", "max", p=p, q=q, r=r)
        weight = (EMPTY + close) * (wanted >= 0)
        tokens, self.tokens = self.tokens, None
        loss = F.binary_cross_entropy_with_logits(self.read(tokens).float(), wanted.clamp(min=0), reduction="none")
        return (loss * weight).sum() / weight.sum().clamp(min=1)
