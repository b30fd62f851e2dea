"""Whether a model repeats its training clips, and whether seeds differ.

A model that remembers, asked in the words of training clips, makes clips nearer to these than new clips of the world
with the same words are. One that has fallen into a habit makes things that vary less in place and size.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..evaluate import clips_of
from ..pipeline import Pipeline
from ..world import BACKGROUNDS, Scene, analyse, canonical, follow, render, scene_of
from .latents import Bucket, Subject


def nearest(latents: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square distance (N,) of latents (N, C, T, H, W) to the nearest of (M, C, T, H, W), and which (N,)."""
    rows = latents.flatten(1).float()
    parts = [torch.cdist(rows, part.flatten(1).float()) for part in training.split(500)]
    least, index = torch.cat(parts, dim=1).min(1)
    return least / rows.shape[1] ** 0.5, index


def novelty(
    pipeline: Pipeline,
    training: Tensor,
    scenes: Sequence[Subject],
    bucket: Bucket,
    clips: int = 16,
    batch: int = 4,
    **settings: Any,
) -> tuple[dict[str, Any], list[tuple[str, Tensor, int]]]:
    """Measures; and of clips that were asked for in the words of training clips the prompt, the clip (T, H, W, 3), and
    which training clip is nearest to it.

    training: latents (N, C, T, H, W) of the bucket, and the scenes that they show, one a latent. Measures, of what is
    `made` by the model and of new clips of the `world` with the same words: the distance to the nearest training clip,
    median and least; and, of as many seeds of the first of these prompts, the standard deviation of the thing's first
    place (x, y) and of its radius, in units of half the shorter side. Raises ValueError where no scene is one plain
    thing on a plain background, which is what can be drawn anew by its words.
    """
    plain = [i for i, subject in enumerate(scenes) if isinstance(subject, Scene) and _is_plain(subject)]
    if not plain:
        raise ValueError(f"of {len(scenes)} training clips none shows one plain thing on a plain background")
    rng = np.random.default_rng(0)
    rows = rng.choice(plain, min(clips, len(plain)), replace=False).tolist()
    shape = pipeline.model.vae.latent_shape(bucket.frames, bucket.height, bucket.width)
    prompts = [canonical(scenes[i]) for i in rows]
    made = list(clips_of(pipeline, [(p, seed) for seed, p in enumerate(prompts)], shape, batch, **settings))
    seeds = list(clips_of(pipeline, [(prompts[0], seed) for seed in range(clips)], shape, batch, **settings))
    world = [_drawn_again(scenes[i], bucket, rng) for i in rows]
    again = [_drawn_again(scenes[rows[0]], bucket, rng) for _ in range(clips)]
    found: dict[str, Any] = {}
    neighbours: list[int] = []
    for name, asked, one in (("made", made, seeds), ("world", world, again)):
        distance, index = nearest(torch.cat([pipeline.encode(clip) for clip in asked]), training)
        neighbours = neighbours or index.tolist()
        places = torch.stack([follow(clip)[0] for clip in one])
        radii = torch.tensor([seen.radius for seen in map(analyse, one) if seen.shape is not None])
        found[name] = {
            "distance, median": median(distance.tolist()),
            "distance, least": float(distance.min()),
            "spread of x": _spread(places[~places.isnan().any(1), 0]),
            "spread of y": _spread(places[~places.isnan().any(1), 1]),
            "spread of radius": _spread(radii),
        }
    return found, list(zip(prompts, made, neighbours, strict=True))


def _is_plain(scene: Scene) -> bool:
    return len(scene.things) == 1 and scene.style == "plain" and not scene.wall and scene.background in BACKGROUNDS


def _spread(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else 0.0


def _drawn_again(scene: Scene, bucket: Bucket, rng: np.random.Generator) -> Tensor:
    """Frames of a new scene with the words of another."""
    thing = scene.things[0]
    words = thing.shape, thing.colour, thing.motion, scene.background, scene.style, thing.size, thing.speed
    drawn = scene_of(*words, rng=rng, aspect=bucket.width / bucket.height)
    return render(drawn, bucket.frames, bucket.height, bucket.width)
