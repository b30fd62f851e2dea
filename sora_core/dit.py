"""The Wan-shaped diffusion transformer: latents and a text in, velocity out.

Shapes: B batch, C channels, T H W latent grid, L tokens, S text tokens, D width, U distinct noise levels.
Parameter names are those of the public Wan weights (github.com/Wan-Video/Wan2.1), so these load without a key map.
Timesteps lie in 0..1000, one per sample (B,) or one per token (B, L); a token at 0 is clean and only conditions the
others. Positions are rotary in time, height and width (arXiv 2104.09864). A small model may also be told absolute ones,
as fractions of the frame and of the clip, which mean the same at every size (NaViT, arXiv 2307.06304), and see the
patches around a token through convolutions (as SANA does, arXiv 2410.10629): attention alone needs long runs to learn
to gather evidence from noise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import DiTConfig
from .patches import Grid, unpatchify


class TextKV(NamedTuple):
    """Keys and values (B, heads, S, head_dim) of the text, one pair per block: the same in every sampling step."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class Levels(NamedTuple):
    """Modulation of every distinct noise level, and which level each token has: (B, 1) or (B, L) into U."""

    embedding: Tensor  # (U, D)
    projection: Tensor  # (U, 6, D)
    index: Tensor

    def rows(self, table: Tensor) -> Tensor:
        """Per-token rows (B, 1 or L, D) of a table (U, D)."""
        return F.embedding(self.index, table)


@lru_cache(maxsize=4)  # for Wan at 1280x720 one has 39 MB, which the host does not know of
def rotary_table(
    grid: tuple[int, int, int],
    head_dim: int,
    device: torch.device,
    scale: tuple[float, float, float] = (1, 1, 1),
    shift: tuple[float, float, float] = (0, 0, 0),
) -> Tensor:
    """Unit complex numbers (L, head_dim / 2) that turn each pair of channels by the token's position (time, height,
    width), which is its number, scaled and shifted."""
    width = 2 * (head_dim // 6)
    with torch.inference_mode(False):
        angles = []
        for size, dim, by, on in zip(grid, (head_dim - 2 * width, width, width), scale, shift, strict=True):
            rates = 10_000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            angles.append((torch.arange(size, dtype=torch.float64) * by + on)[:, None] * rates)
        t, h, w = grid
        turns = torch.cat(
            [
                angles[0][:, None, None].expand(t, h, w, -1),
                angles[1][None, :, None].expand(t, h, w, -1),
                angles[2][None, None, :].expand(t, h, w, -1),
            ],
            dim=-1,
        ).flatten(0, 2)
        return torch.polar(torch.ones_like(turns), turns).to(torch.complex64).to(device)


@lru_cache(maxsize=4)
def fourier_positions(grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """Sines and cosines (L, 24) of every token's place: time in -1..1 over the clip; height and width such that the
    shorter side spans -1..1."""
    with torch.inference_mode(False):
        _, h, w = grid
        reach = 1.0, h / min(h, w), w / min(h, w)
        axes = [((torch.arange(n) + 0.5) / n * 2 - 1) * r for n, r in zip(grid, reach, strict=True)]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)  # L 3
        angles = (places[..., None] * torch.pi / 2 * 2.0 ** torch.arange(4)).flatten(1)  # L 12
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(device)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Apply rotary positions to (B, heads, L, head_dim), neighbouring channels forming pairs."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)


def sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """Embedding (U, dim) of timesteps (U,): cosines, then sines."""
    rates = 10_000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angles = timestep.to("cpu", torch.float64)[:, None] * rates  # not every device has doubles
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float().to(timestep.device)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


class Attention(nn.Module):
    """Queries, keys and values with RMS norm of q and k over the full width. product: of queries, keys and values
    (B, heads, L, head_dim); a host, and training in bfloat16, put their own there."""

    product = staticmethod(F.scaled_dot_product_attention)

    def __init__(self, cfg: DiTConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads = cfg.heads
        for name in ("q", "k", "v", "o"):
            setattr(self, name, operations.Linear(cfg.dim, cfg.dim, **factory))
        self.norm_q = operations.RMSNorm(cfg.dim, eps=cfg.eps, **factory)
        self.norm_k = operations.RMSNorm(cfg.dim, eps=cfg.eps, **factory)

    def _split(self, x: Tensor) -> Tensor:
        return rearrange(x, "b l (n d) -> b n l d", n=self.heads)

    def query(self, x: Tensor) -> Tensor:
        return self._split(self.norm_q(self.q(x)))

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.norm_k(self.k(x))), self._split(self.v(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.o(rearrange(self.product(q, k, v), "b n l d -> b l (n d)"))


class Block(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; the first and last modulated by the noise level."""

    def __init__(self, cfg: DiTConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.dim, self.eps = cfg.dim, cfg.eps
        self.self_attn = Attention(cfg, operations, **factory)
        self.norm3 = operations.LayerNorm(cfg.dim, eps=cfg.eps, **factory)
        self.cross_attn = Attention(cfg, operations, **factory)
        self.ffn = nn.Sequential(
            operations.Linear(cfg.dim, cfg.ffn_dim, **factory),
            nn.GELU(approximate="tanh"),
            operations.Linear(cfg.ffn_dim, cfg.dim, **factory),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, cfg.dim, **factory))
        self.local = operations.Conv3d(cfg.dim, cfg.dim, 3, padding=1, groups=cfg.dim, **factory) if cfg.local else None

    def forward(self, x: Tensor, levels: Levels, positions: Tensor, text: tuple[Tensor, Tensor], grid: Grid) -> Tensor:
        tables = (levels.projection + self.modulation.to(levels.projection)).unbind(1)
        shift1, scale1, gate1, shift2, scale2, gate2 = (levels.rows(table.to(x.dtype)) for table in tables)

        h = _modulate(F.layer_norm(x, (self.dim,), eps=self.eps), shift1, scale1)
        k, v = self.self_attn.key_value(h)
        q = rotate(self.self_attn.query(h), positions)
        x = torch.addcmul(x, self.self_attn.attend(q, rotate(k, positions), v.contiguous()), gate1)

        x = x + self.cross_attn.attend(self.cross_attn.query(self.norm3(x)), *text)

        h = _modulate(F.layer_norm(x, (self.dim,), eps=self.eps), shift2, scale2)
        if self.local is not None:
            around = self.local(h.transpose(1, 2).unflatten(2, (grid.t, grid.h, grid.w)))  # B D t h w
            h = h + around.flatten(2).transpose(1, 2)
        return torch.addcmul(x, self.ffn(h), gate2)


class Head(nn.Module):
    """Last modulated norm and the projection to patches."""

    def __init__(self, cfg: DiTConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.dim, self.eps = cfg.dim, cfg.eps
        p, q, r = cfg.patch
        self.head = operations.Linear(cfg.dim, p * q * r * cfg.out_dim, **factory)
        self.modulation = nn.Parameter(torch.empty(1, 2, cfg.dim, **factory))

    def forward(self, x: Tensor, levels: Levels) -> Tensor:
        shift, scale = (levels.embedding[:, None] + self.modulation.to(levels.embedding)).unbind(1)
        x = F.layer_norm(x, (self.dim,), eps=self.eps)
        return self.head(_modulate(x, levels.rows(shift.to(x.dtype)), levels.rows(scale.to(x.dtype))))


class DiT(nn.Module):
    """Diffusion transformer over spacetime patches.

    operations: where Linear, Conv3d, LayerNorm and RMSNorm come from; a host passes its own to cast and offload.
    """

    reads_longer = False  # texts of more tokens than it was trained on, which attention takes as they are

    def __init__(
        self,
        cfg: DiTConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.config = cfg
        linear = operations.Linear
        self.patch_embedding = operations.Conv3d(cfg.in_dim, cfg.dim, cfg.patch, stride=cfg.patch, **factory)
        self.text_embedding = nn.Sequential(
            linear(cfg.text_dim, cfg.dim, **factory), nn.GELU(approximate="tanh"), linear(cfg.dim, cfg.dim, **factory)
        )
        self.time_embedding = nn.Sequential(
            linear(cfg.freq_dim, cfg.dim, **factory), nn.SiLU(), linear(cfg.dim, cfg.dim, **factory)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), linear(cfg.dim, 6 * cfg.dim, **factory))
        self.neighbour_embedding = None
        if cfg.local:
            kernel = tuple(3 * p for p in cfg.patch)
            self.neighbour_embedding = operations.Conv3d(
                cfg.in_dim, cfg.dim, kernel, stride=cfg.patch, padding=cfg.patch, **factory
            )
        self.position_embedding = linear(24, cfg.dim, **factory) if cfg.absolute else None
        self.blocks = nn.ModuleList(Block(cfg, operations, **factory) for _ in range(cfg.layers))
        self.head = Head(cfg, operations, **factory)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Random weights to start training from; the head is zero, so that the first velocity is zero."""
        for name, parameter in self.named_parameters():
            if name == "text_embedding.2.bias":
                # Else padded text has keys of zero, where their norm is steepest and drowns every other gradient.
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif name.startswith("head.head") or name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("modulation"):
                nn.init.normal_(parameter, std=self.config.dim**-0.5, generator=generator)
            elif parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter.flatten(1), generator=generator)

    def prepare_text(self, context: Tensor) -> TextKV:
        """Keys and values of the text (B, S, text_dim), S at most text_len: compute once, pass to every step.

        The text is zero-padded before its projection and attention over it is not masked, as the public weights expect.
        """
        if context.ndim != 3 or context.shape[2] != self.config.text_dim:
            raise ValueError(f"text of shape {tuple(context.shape)}: this model reads (B, S, {self.config.text_dim})")
        if context.shape[1] > self.config.text_len and not self.reads_longer:
            raise ValueError(f"text of {context.shape[1]} tokens: this model reads at most {self.config.text_len}")
        context = F.pad(context, (0, 0, 0, max(0, self.config.text_len - context.shape[1])))
        context = self.text_embedding(context)  # B S D
        pairs = [block.cross_attn.key_value(context) for block in self.blocks]
        return TextKV(tuple(k.contiguous() for k, _ in pairs), tuple(v.contiguous() for _, v in pairs))

    def _levels(self, timestep: Tensor, grid: Grid, dtype: torch.dtype) -> Levels:
        if timestep.ndim == 2 and timestep.shape[1] == grid.length:
            distinct, index = timestep.unique(return_inverse=True)
        elif timestep.ndim == 1:
            distinct, index = timestep, torch.arange(timestep.shape[0], device=timestep.device)[:, None]
        else:
            raise ValueError(f"timestep of shape {tuple(timestep.shape)}: expected (B,) or (B, {grid.length})")
        embedding = self.time_embedding(sinusoid(distinct, self.config.freq_dim).to(dtype))  # U D
        projection = self.time_projection(embedding).unflatten(1, (6, self.config.dim))
        return Levels(embedding.float(), projection.float(), index)

    def rotary(self, grid: Grid, device: torch.device) -> Tensor:
        """Rotary positions of a grid's tokens; a host may move them."""
        return rotary_table((grid.t, grid.h, grid.w), self.config.head_dim, device)

    def run_block(
        self, number: int, x: Tensor, levels: Levels, positions: Tensor, text: tuple[Tensor, Tensor], grid: Grid
    ) -> Tensor:
        """Tokens (B, L, D) through one block; a host may put something in its place."""
        return self.blocks[number](x, levels, positions, text, grid)

    def forward(self, x: Tensor, timestep: Tensor, text: Tensor | TextKV, places: Tensor | None = None) -> Tensor:
        """Velocity (B, out_dim, T, H, W) of latents (B, in_dim, T, H, W) at timesteps (B,) or (B, L), given a text
        (B, S, text_dim) or its prepared keys and values. places: (B, L, 24) of the tokens of windows of larger frames,
        as `fourier_positions` has them of whole ones."""
        grid = Grid.of(tuple(x.shape[2:]), self.config.patch)
        if not isinstance(text, TextKV):
            text = self.prepare_text(text)
        levels = self._levels(timestep, grid, x.dtype)
        positions = self.rotary(grid, x.device)
        patches = self.patch_embedding(x)  # B D t h w
        if self.neighbour_embedding is not None:
            patches = patches + self.neighbour_embedding(x)
        x = patches.flatten(2).transpose(1, 2)  # B L D
        if places is not None and self.position_embedding is None:
            raise ValueError(
                "places: this model has no absolute positions, so it cannot be told that these are windows"
            )
        if self.position_embedding is not None:
            places = fourier_positions((grid.t, grid.h, grid.w), x.device) if places is None else places
            x = x + self.position_embedding(places.to(x.dtype))
        for number, pair in enumerate(zip(text.keys, text.values, strict=True)):
            x = self.run_block(number, x, levels, positions, pair, grid)
        return unpatchify(self.head(x, levels), grid)
