"""The latent cache: clips of the procedural world, encoded once, with their scenes so that captions stay random.

A cache is a folder with one folder a bucket (`17x64x64`: frames, height, width), filled part by part: what is there is
not made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files import replacing
from ..pipeline import frames_to_video
from ..vae import VAE
from ..world import Scene, render, sample_scene

PART = 250  # clips in one file


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


@torch.no_grad()
def fill_bucket(vae: VAE, folder: Path | str, bucket: Bucket, clips: int, seed: int = 0, split: str = "train") -> None:
    """Encode at least `clips` clips of a bucket into `folder`, leaving the parts that exist alone."""
    folder = Path(folder) / str(bucket)
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder.parent / "vae.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") != vae.fingerprint():
        raise ValueError(f"{folder.parent} holds latents of another VAE; choose another folder")
    mark.write_text(vae.fingerprint(), encoding="utf-8")
    for part in range(-(-clips // PART)):
        path = folder / f"{split}-{part:04d}.safetensors"
        if path.exists():
            continue
        rng = np.random.default_rng((seed, part, bucket.frames, bucket.height, bucket.width))
        scenes = [sample_scene(rng, bucket.width / bucket.height, split=split) for _ in range(PART)]
        clips = (frames_to_video(render(s, bucket.frames, bucket.height, bucket.width)) for s in scenes)
        encoded = [vae.encode(clip, chunk=bucket.frames).half() for clip in clips]  # faster one by one than together
        with replacing(path) as partial:
            save_file({"latents": torch.cat(encoded)}, partial, {"scenes": json.dumps([s.to_dict() for s in scenes])})


def read_bucket(folder: Path | str, bucket: Bucket, split: str = "train") -> tuple[Tensor, list[Scene]]:
    """All cached latents (N, C, T, H, W) of a bucket, in half precision, and their scenes."""
    latents, scenes = [], []
    for path in sorted((Path(folder) / str(bucket)).glob(f"{split}-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            latents.append(file.get_tensor("latents"))
            scenes += [Scene.from_dict(scene) for scene in json.loads(file.metadata()["scenes"])]
    if not latents:
        raise FileNotFoundError(f"no {split} latents of bucket {bucket} in {folder}; fill it first")
    return torch.cat(latents), scenes
