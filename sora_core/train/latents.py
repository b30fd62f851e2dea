"""The latent cache: clips encoded once, of the procedural world with their scenes, so that captions stay random, and of
videos of one's own (`videos.py`) with their captions.

A cache is a folder with one folder a bucket (`17x64x64`: frames, height, width), filled part by part: what is there is
not made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..config import check_size
from ..files import replacing
from ..pipeline import frames_to_video
from ..vae import VAE
from ..world import Scene, render, sample_scene
from ..world.captions import EMPTY, canonical, draw_caption
from ..world.scene import VERSION, clip_times, extents, source_of, trajectories

PART = 250  # clips in one file
MARK = "vae.txt"  # holds the fingerprint of the VAE whose latents a cache holds
MOST = 4096  # pixels of a side, frames of a clip
NEAR, MARGIN = 1.15, 0.08  # near a thing: within so many of its radii, and so much of the frame's shorter half
VIDEOS, HELD_OUT_VIDEOS = "videos", "videos_held_out"  # splits that hold no scenes

Subject = Scene | tuple[str, ...]  # what a clip shows: a scene of the world, or the captions of a video


@dataclass(frozen=True)
class Bucket:
    """Clips of one size."""

    frames: int
    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Bucket:
        """From `frames x height x width`, as in 17x64x64."""
        try:
            return cls(*map(int, text.split("x")))
        except (ValueError, TypeError):
            raise ValueError(f"bucket {text!r}: write frames, height and width as in 17x64x64") from None

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


def claim(vae: VAE, folder: Path | str, bucket: Bucket) -> Path:
    """The bucket's folder in a cache of this VAE. Raises ValueError where the cache is of another one, and for sizes
    that do not divide into patches of 2x2 latents."""
    multiple = 2 * vae.config.space_factor
    check_size(
        bucket.width, bucket.height, bucket.frames, multiple, vae.config.time_factor,
        sides=(multiple, MOST), most_frames=MOST,
    )  # fmt: skip
    cache = Path(folder)
    if not (known := cache_of(cache)):
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(cache / MARK) as partial:
            partial.write_text(vae.fingerprint(), encoding="utf-8")
    elif known != vae.fingerprint():
        raise ValueError(f"{cache} holds latents of another VAE; choose another folder")
    (cache / str(bucket)).mkdir(exist_ok=True)
    return cache / str(bucket)


def cache_of(folder: Path | str) -> str:
    """Fingerprint of the VAE whose latents a cache holds; empty where none is."""
    mark = Path(folder) / MARK
    return mark.read_text(encoding="utf-8") if mark.exists() else ""


@torch.no_grad()
def fill_bucket(vae: VAE, folder: Path | str, bucket: Bucket, clips: int, seed: int = 0, split: str = "train") -> None:
    """Encode at least `clips` clips of a bucket into `folder`, leaving the parts that exist alone. Raises ValueError
    where these were drawn from another seed, or by another version of the world."""
    folder = claim(vae, folder, bucket)
    for part in range(-(-clips // PART)):
        path = folder / f"{split}-{part:04d}.safetensors"
        if path.exists():
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
            if (drawn := about.get("seed", str(seed))) != str(seed):
                raise ValueError(
                    f"{path} was drawn from seed {drawn}, not {seed}: give that one, or choose another folder"
                )
            _check_world(path, about)
            continue
        rng = np.random.default_rng((seed, part, bucket.frames, bucket.height, bucket.width, crc32(split.encode())))
        scenes = [sample_scene(rng, bucket.width / bucket.height, split=split) for _ in range(PART)]
        tensors = {"latents": _encoded(vae, bucket, scenes)}
        sources = [source for scene in scenes if (source := source_of(scene, split, rng)) is not None]
        if sources:
            tensors["sources"] = _encoded(vae, bucket, sources)
        with replacing(path) as partial:
            scenes_text = json.dumps([scene.to_dict() for scene in scenes])
            save_file(tensors, partial, {"scenes": scenes_text, "seed": str(seed), "world": str(VERSION)})


def _check_world(path: Path, about: dict[str, str]) -> None:
    if "scenes" in about and about.get("world", "1") != str(VERSION):
        raise ValueError(f"{path} holds scenes of an earlier version of the world: choose another folder")


def _encoded(vae: VAE, bucket: Bucket, scenes: list[Scene]) -> Tensor:
    clips = (frames_to_video(render(s, bucket.frames, bucket.height, bucket.width)) for s in scenes)
    return torch.cat([vae.encode(clip, chunk=bucket.frames).half() for clip in clips])  # faster than all at once


def read_bucket(folder: Path | str, bucket: Bucket, split: str = "train") -> tuple[Tensor, list[Subject]]:
    """All cached latents (N, C, T, H, W) of a bucket, in half precision, and what each shows."""
    latents, subjects = [], []
    for path in sorted((Path(folder) / str(bucket)).glob(f"{split}-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            latents.append(file.get_tensor("latents"))
            about = file.metadata()
            _check_world(path, about)
            subjects += [Scene.from_dict(scene) for scene in json.loads(about.get("scenes", "[]"))]
            subjects += [tuple(captions) for captions in json.loads(about.get("captions", "[]"))]
    if not latents:
        kind = "--videos FOLDER" if split in (VIDEOS, HELD_OUT_VIDEOS) else f"--split {split}"
        raise FileNotFoundError(
            f"no {split} latents of bucket {bucket} in {folder}: first run `latents --bucket {bucket} {kind}`"
        )
    return torch.cat(latents), subjects


def read_sources(folder: Path | str, bucket: Bucket, split: str) -> Tensor | None:
    """What the clips of a bucket were before they were edited, (N, C, T, H, W) in half precision (see
    `world.scene.source_of`). None of a split that has no sources."""
    sources, without = [], []
    for path in sorted((Path(folder) / str(bucket)).glob(f"{split}-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if "sources" in file.keys():  # noqa: SIM118 (it is no mapping)
                sources.append(file.get_tensor("sources"))
            else:
                without.append(path)
    if sources and without:
        raise ValueError(
            f"{without[0]} lacks what its clips are edits of, which others have: remove it, to encode anew"
        )
    return torch.cat(sources) if sources else None


def caption_of(subject: Subject, rng: np.random.Generator) -> str:
    """A caption drawn at random, empty now and then: that is what guidance goes away from."""
    if isinstance(subject, Scene):
        return draw_caption(subject, rng)
    return "" if rng.random() < EMPTY else subject[rng.integers(len(subject))]


def canonical_of(subject: Subject) -> str:
    """The caption that is always the same."""
    return canonical(subject) if isinstance(subject, Scene) else subject[0]


def near_things(subject: Subject, shape: tuple[int, int, int]) -> Tensor:
    """Latents (T, H, W) near to which a thing of a scene stands in one of the frames they cover, true. Of a video
    nothing is known."""
    latents, height, width = shape
    near = np.zeros((latents, 4, height, width), dtype=bool)
    half_width, half_height = extents(width / height)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half_width
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * half_height
    ways = trajectories(subject, clip_times(4 * latents - 3)) if isinstance(subject, Scene) else []
    for at_x, at_y, radius, _ in ((value[:, None, None] for value in way) for way in ways):
        inside = (x - at_x) ** 2 + (y[:, None] - at_y) ** 2 < (NEAR * radius + MARGIN) ** 2
        near |= np.concatenate([inside[:1].repeat(4, 0), inside[1:]]).reshape(near.shape)
    return torch.from_numpy(near.any(1))
