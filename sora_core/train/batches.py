"""Batches of cached latents to train the transformer on: clips, their noise and levels, captions, and what is known of
the scenes.

Every sample draws a task: make everything, or keep some patches (a prefix, a suffix, both ends, random frames, a block
of space) at level 0, or give every latent frame a level of its own (diffusion forcing, arXiv 2407.01392), or edit
another clip (SDEdit's way from that one to this). Some batches are cut to windows around the things of their scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..dit import fourier_positions
from ..flow import shift_for, training_levels
from ..patches import Grid
from ..timeline import SOFT
from ..world import Scene
from .latents import Bucket, Subject, canonical_of, caption_of, near_things, read_bucket, read_sources
from .masks import CELLS, covered_by
from .run import Training
from .windows import Windows, cut


@dataclass(frozen=True)
class DiTTraining(Training):
    learning_rate: float = 2.5e-3
    adamw: float = 0.2
    save_every: int = 250
    validate_every: int = 250
    sheet_every: int = 2000
    tokens: int = 1280  # a batch is as many clips of its bucket as give about this many tokens
    mix: tuple[tuple[str, float], ...] = (("17x64x64", 1.0),)  # buckets[:split] and how often each is drawn
    shift: float = 5.0  # at 80 tokens
    conditioned: float = 0.25  # share of samples with kept patches
    cued: float = 0.5  # share of turning scenes that go from their beginning to where the caption says
    independent: float = 0.1  # share of samples with a level per frame
    edited: float = 0.5  # share of scenes with a source that begin from it
    focus: float = 0.0  # how much more the loss counts near things of the world; see `focused`
    windows: float = 0.0  # share of batches cut to windows around their things, where these are known
    masks: float = 0.0  # weight of telling what things cover; see `masks`
    bf16: bool = False  # multiply in bfloat16; see `fast`


EDIT_STRENGTHS = (0.4, 0.98)  # from which edits are learnt
KEPT = {"prefix": 0.25, "suffix": 0.25, "ends": 0.2, "frames": 0.1, "block": 0.2}  # what is kept, and how often


def draw_strengths(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A strength map (T, H, W) of a random kind: zeros (kept), ones (made), and half of the time, where what is kept
    stands behind what is made, `SOFT` at its first latent, as the tasks have it. Something is always made. Blocks of
    space are aligned to patches of 2x2."""
    frames, height, width = shape
    made = torch.ones(shape)
    kinds = {"block": 1.0} if frames == 1 else KEPT
    kind = rng.choice(list(kinds), p=list(kinds.values()))
    if kind == "prefix":
        made[: rng.integers(1, frames)] = 0
    elif kind == "suffix" or (kind == "ends" and frames < 3):
        first = int(rng.integers(1, frames))
        made[first:] = 0
        made[first] = SOFT * rng.integers(2)
    elif kind == "ends":
        made = draw_gap(rng, shape)
    elif kind == "frames":
        made[torch.from_numpy(rng.permutation(frames)[: rng.integers(1, frames)])] = 0
    else:
        top, left = (2 * int(rng.integers(0, size // 4 + 1)) for size in (height, width))
        inside = slice(top, top + max(2, height // 4 * 2)), slice(left, left + max(2, width // 4 * 2))
        block = torch.zeros(shape, dtype=torch.bool)
        block[:, *inside] = True
        made[block if rng.random() < 0.5 and not block.all() else ~block] = 0
    return made


def draw_gap(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A strength map (T, H, W) that keeps both ends and makes what lies between, at most four fifths."""
    frames = shape[0]
    if frames < 3:
        raise ValueError(
            f"clips of {frames} latent frames have no gap between two ends; take buckets of 9 frames or more"
        )
    made = torch.zeros(shape)
    begin = int(rng.integers(max(1, frames // 5), max(2, frames * 2 // 5 + 1)))
    end = max(begin + 1, frames - int(rng.integers(1, max(2, frames // 5 + 1))))
    made[begin:end] = 1
    if end < frames:
        made[end] = SOFT * rng.integers(2)
    return made


def draw_turn(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A strength map (T, H, W) that keeps the beginning alone, all but two frames at most: the first scene, before it
    turns or while it does, as the windows of a long clip see it where its text has changed."""
    made = torch.ones(shape)
    made[: int(rng.integers(1, max(2, shape[0] - 1)))] = 0
    return made


def draw_level_map(
    rng: np.random.Generator, generator: torch.Generator, training: DiTTraining, shape: tuple[int, int, int],
    shift: float,
) -> Tensor:  # fmt: skip
    """Level (1, T, H, W) of every latent of one sample."""
    kind = rng.random()
    if kind < training.independent:
        return training_levels(shape[0], generator, shift).view(1, -1, 1, 1).expand(1, *shape)
    level = training_levels(1, generator, shift).view(1, 1, 1, 1).expand(1, *shape)
    if kind < training.independent + training.conditioned:
        return level.minimum(draw_strengths(rng, shape))
    return level


def edit_noise(rng: np.random.Generator, x0: Tensor, source: Tensor, noise: Tensor, level: float) -> Tensor:
    """The noise of the way that an edit goes (SDEdit): from its source noised to the strength, drawn from
    `EDIT_STRENGTHS` but not below this level, straight to the clip x0 that is asked for. The way's point at the
    strength is the former, and at every lower level what a perfect edit has come to."""
    low, high = EDIT_STRENGTHS
    strength = float(rng.uniform(max(low, level), high)) if level < high else level
    return noise + (1 - strength) / strength * (source - x0)


def focused(level: Tensor, near: Tensor, focus: float) -> Tensor:
    """Weights of the loss: 1, and `focus` more near things, where these are few among much background. Only below the
    levels at which places are open: a weight by what the noise still hides would make things larger than they are."""
    return 1 + focus * near * ((0.9 - level) / 0.3).clamp(0, 1)


@dataclass(frozen=True)
class Clips:
    """What one bucket has: latents (N, C, T, H, W), what each shows, and what it was before it was edited, if so."""

    latents: Tensor
    subjects: Sequence[Subject]
    sources: Tensor | None = None
    windows: Windows | None = None  # to which its batches may be cut

    @classmethod
    def read(cls, cache: Path | str, bucket: Bucket, split: str) -> Clips:
        return cls(*read_bucket(cache, bucket, split), read_sources(cache, bucket, split))

    def with_windows(self, patch: tuple[int, int, int]) -> Clips:
        return replace(self, windows=Windows(self.subjects, Grid.of(tuple(self.latents.shape[2:]), patch)))


@dataclass(frozen=True)
class Batch:
    """Latents and noise (B, C, T, H, W), levels and places near things (B, 1, T, H, W), captions; with `masks`, what
    things cover (see `masks.covered_by`); of windows, what the transformer is told of their places (B, L, 24)."""

    x0: Tensor
    noise: Tensor
    level: Tensor
    near: Tensor
    captions: list[str]
    covered: Tensor | None = None
    places: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        return Batch(
            **{f.name: v.to(device) if isinstance(v := getattr(self, f.name), Tensor) else v for f in fields(self)}
        )


def draw_batch(
    rng: np.random.Generator,
    generator: torch.Generator,
    training: DiTTraining,
    clips: Clips,
    patch: tuple[int, int, int],
) -> Batch:
    """One batch of a bucket's clips, whole or in windows."""
    shape = tuple(clips.latents.shape[2:])
    grid = Grid.of(shape, patch)
    size = clips.windows.draw_size(rng) if clips.windows is not None and rng.random() < training.windows else None
    fit = np.arange(len(clips.latents)) if size is None else clips.windows.sizes[size]
    length = grid.length if size is None else grid.t * size[0] * size[1]
    rows = rng.choice(fit, size=max(1, round(training.tokens / length)))
    shift = shift_for(grid.length, training.shift)
    batch = _draw_samples(rng, generator, training, clips, rows, shift)
    if size is None:
        return batch
    batch = _cut_batch(batch, [clips.windows.draw_corner(rng, row, size) for row in rows], size, grid)
    kept = batch.level.amax((1, 2, 3, 4), keepdim=True) == 0  # all of a window: of it something is made after all
    anew = training_levels(len(rows), generator, shift).view(-1, 1, 1, 1, 1)
    return replace(batch, level=torch.where(kept, anew, batch.level))


def _draw_samples(
    rng: np.random.Generator,
    generator: torch.Generator,
    training: DiTTraining,
    clips: Clips,
    rows: np.ndarray,
    shift: float,
) -> Batch:
    shape = tuple(clips.latents.shape[2:])
    x0 = clips.latents[torch.from_numpy(rows)].float()
    noise = torch.randn(x0.shape, generator=generator)
    levels, captions = [], []
    near = torch.stack([near_things(clips.subjects[row], shape) for row in rows])[:, None]
    covered = torch.stack([covered_by(clips.subjects[row], shape) for row in rows]) if training.masks else None
    for i, row in enumerate(rows):
        subject = clips.subjects[row]
        if clips.sources is not None and rng.random() < training.edited:
            level = training_levels(1, generator, shift).view(1, 1, 1, 1)
            noise[i] = edit_noise(rng, x0[i], clips.sources[row].float(), noise[i], float(level))
            levels.append(level.expand(1, *shape))
            captions.append(canonical_of(subject))  # short ones do not tell what the edit is
            continue
        if not isinstance(subject, Scene) or subject.then is None:
            levels.append(draw_level_map(rng, generator, training, shape, shift))
        else:  # a caption tells one scene of the two: both ends are kept, or the beginning where it tells the other
            over = rng.random() < training.cued
            made = draw_turn(rng, shape) if over else draw_gap(rng, shape)
            levels.append(training_levels(1, generator, shift).view(1, 1, 1, 1).minimum(made))
            subject = subject.then if over or rng.random() < 0.5 else replace(subject, then=None)
        captions.append(caption_of(subject, rng))
    return Batch(x0, noise, torch.stack(levels), near, captions, covered)


def _cut_batch(batch: Batch, corners: list[tuple[int, int]], size: tuple[int, int], grid: Grid) -> Batch:
    _, q, r = grid.patch
    x0, noise, level, near = (
        cut(maps, corners, size, (q, r)) for maps in (batch.x0, batch.noise, batch.level, batch.near)
    )
    places = fourier_positions((grid.t, grid.h, grid.w), torch.device("cpu")).unflatten(0, (grid.t, grid.h, grid.w))
    places = rearrange(places, "t h w c -> c t h w").expand(len(corners), -1, -1, -1, -1)
    places = rearrange(cut(places, corners, size, (1, 1)), "b c t h w -> b (t h w) c")
    covered = None if batch.covered is None else cut(batch.covered, corners, size, (q * CELLS[1], r * CELLS[2]))
    return Batch(x0, noise, level, near, batch.captions, covered, places)
