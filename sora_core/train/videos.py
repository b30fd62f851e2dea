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
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
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
    """Videos of a folder and of those in it, sorted, with their captions; what is hidden is left out. Raises ValueError
    where some have none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with videos and their captions")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    shown = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    videos = [path for path in shown if path.suffix.lower() != ".txt"]
    if not videos:
        raise ValueError(f"{folder} holds no videos; put them there, with their captions")
    found = [(path, _captions_of(path.with_suffix(".txt"))) for path in videos]
    missing = [path for path, captions in found if not captions]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(videos)} videos have no caption, {missing[0]} among them; write what it shows "
            f"into {missing[0].with_suffix('.txt').name}, one caption a line"
        )
    return found


def _captions_of(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}); save it again in that encoding") from error
    return tuple(line.strip() for line in lines if line.strip())


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


def _identity(path: Path) -> str:
    """Tells one file from another under the same name, wherever it is kept."""
    with path.open("rb") as file:
        return f"{path.stat().st_size}-{zlib.crc32(file.read(1 << 16)):08x}"


def _has(target: Path, path: Path, captions: tuple[str, ...], most: int | None) -> bool:
    """Whether the cache has this video's clips. Captions that were written anew are taken over. Raises ValueError where
    it has those of another video of this name."""
    if not target.exists():
        return False
    with safe_open(target, framework="pt") as file:
        about, clips = file.metadata(), file.get_slice("latents").get_shape()[0]
    if about["video"] != _identity(path):
        raise ValueError(
            f"{target} holds clips of another {path.name} than {path}; choose another cache, or remove it to have this "
            "one encoded"
        )
    if about["most"] == str(clips) and (most is None or most > clips):  # there may be more
        return False
    told = json.dumps([captions] * clips)
    if about["captions"] != told:
        latents = load_file(target)
        with replacing(target) as partial:
            save_file(latents, partial, about | {"captions": told})
    return True


@torch.no_grad()
def fill_from_videos(vae: VAE, folder: Path | str, bucket: Bucket, videos: Path, most: int | None = None) -> None:
    """Encode the videos of a folder into a cache; of those that are there already only the captions are read again.

    One file of latents for each video, of at most `most` clips. About a tenth of the videos, always the same ones,
    are held out: training is validated on them. Raises ValueError, before anything is encoded, for videos without
    captions and for others of the same name in the cache; at the end, where some can't be read or none is long enough.
    """
    found = captioned(videos)
    folder = claim(vae, folder, bucket)
    names = {path: path.relative_to(videos).as_posix() for path, _ in found}
    held = {path for path, name in names.items() if zlib.crc32(name.encode()) % HELD_OUT == 0}
    if len(held) == len(found):  # else there would be nothing to learn
        held = set()
    wanted, here_of = [], {path: f"{name.replace('/', '%2F')}.safetensors" for path, name in names.items()}
    expected = {f"{split}-{name}" for split in (VIDEOS, HELD_OUT_VIDEOS) for name in here_of.values()}
    if gone := sorted(path for path in folder.glob(f"{VIDEOS}*.safetensors") if path.name not in expected):
        tqdm.write(
            f"{len(gone)} of the videos in the cache are not in {videos}, and are trained on all the same; to leave "
            f"them out, remove {', '.join(path.name for path in gone)} from {folder}"
        )
    for path, captions in found:
        name = here_of[path]
        targets = [folder / f"{split}-{name}" for split in (VIDEOS, HELD_OUT_VIDEOS)]
        here = next((target for target in targets if target.exists()), targets[path in held])
        if not _has(here, path, captions, most):
            wanted.append((path, captions, here))
    short, broken = [], []
    for path, captions, target in tqdm(wanted, desc=f"{videos.name} as {bucket}", disable=not wanted):
        try:
            clips = islice(clips_in(path, bucket), most)
            encoded = [vae.encode(frames_to_video(clip), chunk=bucket.frames).half() for clip in clips]
        except ValueError as error:
            broken.append(error)
            continue
        if not encoded:
            short.append(path)
            continue
        about = {"video": _identity(path), "most": str(most), "captions": json.dumps([captions] * len(encoded))}
        with replacing(target) as partial:
            save_file({"latents": torch.cat(encoded)}, partial, about)
    if short:
        say = f"{short[0]} has fewer than {bucket.frames} frames at {FPS} a second"
        if len(short) == len(found):
            raise ValueError(f"{say}, as all {len(found)} have; choose a bucket of fewer frames")
        tqdm.write(f"left out: {len(short)} of {len(found)} videos; {say}")
    if broken:
        raise ValueError(f"{len(broken)} of {len(found)} videos can't be read, the others are encoded: {broken[0]}")
