"""Captioned videos of one's own as latents: each file becomes clips of a bucket's size, beside its captions.

A folder holds video files (or images) and, for each, a text file of the same name: `dog.mp4`, `dog.txt`. Every line of
the text is one caption, of which training draws one at random.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from ..config import SamplingDefaults
from ..files import replacing
from ..pipeline import frames_to_video
from ..vae import VAE
from ..video import stream_video
from .latents import HELD_OUT_VIDEOS, VIDEOS, Bucket, claim

FPS = Fraction(SamplingDefaults().fps)  # at which every video is read
HELD_OUT = 10  # every so many files, one is kept out of training


def captioned(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Videos of a folder and of those in it, sorted, with their captions. Raises ValueError where some have none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with videos and their captions")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    videos = [path for path in files if path.suffix.lower() != ".txt"]
    if not videos:
        raise ValueError(f"{folder} holds no videos; put them there, with their captions")
    found, missing = [], []
    for path in videos:
        text = path.with_suffix(".txt")
        lines = text.read_text(encoding="utf-8").splitlines() if text.exists() else []
        captions = tuple(line.strip() for line in lines if line.strip())
        found.append((path, captions))
        if not captions:
            missing.append(path)
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(videos)} videos have no caption, {missing[0]} among them; write what it shows "
            f"into {missing[0].with_suffix('.txt').name}, one caption a line"
        )
    return found


def fitted(image: np.ndarray, height: int, width: int) -> Tensor:
    """A frame (height, width, 3) in 0..1 from bytes of any size: its middle in the shape that is asked for, scaled."""
    rows, columns = image.shape[:2]
    top = max(0, math.ceil((rows - columns * height / width) / 2))
    left = max(0, math.ceil((columns - rows * width / height) / 2))
    top, left = min(top, (rows - 1) // 2), min(left, (columns - 1) // 2)
    pixels = torch.from_numpy(np.ascontiguousarray(image[top : rows - top, left : columns - left]))
    pixels = pixels.permute(2, 0, 1)[None].float() / 255
    scaled = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return scaled[0].permute(1, 2, 0).clamp(0, 1)


def clips_in(path: Path, bucket: Bucket) -> Iterator[Tensor]:
    """Clips (T, H, W, 3) of a video, one after the other, at `FPS`; a rest that is too short is left out."""
    frames: list[Tensor] = []
    for image in stream_video(path, fps=FPS)[1]:
        frames.append(fitted(image, bucket.height, bucket.width))
        if len(frames) == bucket.frames:
            yield torch.stack(frames)
            frames.clear()


@torch.no_grad()
def fill_from_videos(vae: VAE, folder: Path | str, bucket: Bucket, videos: Path, most: int | None = None) -> None:
    """Encode the videos of a folder into a cache; those that are there already are left alone.

    One file of latents for each video, of at most `most` clips. About a tenth of the videos, always the same ones,
    are held out: training is validated on them. Raises ValueError, before anything is encoded, for videos without
    captions, and where none is long enough.
    """
    found = captioned(videos)
    folder = claim(vae, folder, bucket)
    left_out = []
    for path, captions in tqdm(found, desc=f"{videos.name} as {bucket}"):
        name = path.relative_to(videos).as_posix()
        split = HELD_OUT_VIDEOS if zlib.crc32(name.encode()) % HELD_OUT == 0 else VIDEOS
        target = folder / f"{split}-{name.replace('/', '%2F')}.safetensors"
        if target.exists():
            continue
        encoded = []
        for clip in clips_in(path, bucket):
            encoded.append(vae.encode(frames_to_video(clip), chunk=bucket.frames).half())
            if len(encoded) == most:
                break
        if not encoded:
            left_out.append(path)
            continue
        with replacing(target) as partial:
            save_file({"latents": torch.cat(encoded)}, partial, {"captions": json.dumps([captions] * len(encoded))})
    if left_out:
        say = f"{left_out[0]} has fewer than {bucket.frames} frames at {FPS} a second"
        if len(left_out) == len(found):
            raise ValueError(f"{say}, as all {len(found)} have; choose a bucket of fewer frames")
        tqdm.write(f"left out: {len(left_out)} of {len(found)} videos; {say}")
