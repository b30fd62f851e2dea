"""Whether a model repeats its training clips, and whether seeds differ: what it makes of one prompt, beside new clips
of the world with the same words.

A model that remembers makes clips nearer to a training clip than a new clip of the world is. One that has fallen into a
habit makes things that vary less in place and size.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..evaluate import clips_of
from ..pipeline import Pipeline
from ..world import Scene, analyse, canonical, follow, render, scene_of
from .latents import Bucket


def nearest(latents: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square distance (N,) of latents (N, C, T, H, W) to the nearest of (M, C, T, H, W), and which (N,)."""
    rows = latents.flatten(1).float()
    parts = [torch.cdist(rows, part.flatten(1).float()) for part in training.split(500)]
    least, index = torch.cat(parts, dim=1).min(1)
    return least / rows.shape[1] ** 0.5, index


def novelty(
    pipeline: Pipeline, scene: Scene, training: Tensor, bucket: Bucket, seeds: int = 16, batch: int = 4, **settings: Any
) -> tuple[dict[str, Any], list[tuple[Tensor, int]]]:
    """Measures, and of every seed the clip that was made and the index of the training clip nearest to it.

    scene: gives the prompt, and new clips with its words. training: latents of the bucket. Measures: the distance to
    the nearest training clip, median and least, and the standard deviation over seeds of the thing's first place (x, y)
    and of its radius, in units of half the shorter side; `made` by the model, and of the `world`.
    """
    thing = scene.things[0]
    shape = pipeline.model.vae.latent_shape(bucket.frames, bucket.height, bucket.width)
    made = list(clips_of(pipeline, [(canonical(scene), seed) for seed in range(seeds)], shape, batch, **settings))
    rng = np.random.default_rng(0)
    words = thing.shape, thing.colour, thing.motion, scene.background, scene.style, thing.size, thing.speed
    drawn = [scene_of(*words, rng=rng, aspect=bucket.width / bucket.height) for _ in range(seeds)]
    world = [render(one, bucket.frames, bucket.height, bucket.width) for one in drawn]
    found: dict[str, Any] = {}
    for name, clips in (("made", made), ("world", world)):
        distance, index = nearest(torch.cat([pipeline.encode(clip) for clip in clips]), training)
        places = torch.stack([follow(clip)[0] for clip in clips])
        radii = torch.tensor([seen.radius for seen in map(analyse, clips) if seen.shape is not None])
        found[name] = {
            "distance, median": median(distance.tolist()),
            "distance, least": float(distance.min()),
            "spread of x": float(places[~places.isnan().any(1), 0].std()),
            "spread of y": float(places[~places.isnan().any(1), 1].std()),
            "spread of radius": float(radii.std()),
        }
        if name == "made":
            neighbours = index.tolist()
    return found, list(zip(made, neighbours, strict=True))
