"""Frames to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, pairwise
from numbers import Rational
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, PngImagePlugin
from torch import Tensor

from ..files import replacing
from .formats import BT709, MUXER_KEYS, SCALING, frame_rate

METADATA_SUFFIXES = (".mp4", ".mkv", ".png")
_THREADS = 4  # fixed, because x264's output depends on it


def write_video(
    path: str | Path,
    frames: Tensor | Iterable[Tensor],
    fps: float | Rational,
    *,
    lossless: bool = False,
    pixel_aspect: Fraction = Fraction(1),
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    numbered: bool = False,
) -> Path:
    """Write frames to a file whose extension chooses the format; returns where it stands.

    .mp4 and .mkv are H.264, 4:2:0, BT.709, limited range, of even width and height; mp4 starts fast in browsers.
    `lossless` makes them H.264 in RGB of any size, which `read_video` returns exactly but few browsers play. .webp and
    .gif are animations for thumbnails; they show neighbouring equal frames as one that lasts longer. .png is a single
    frame, always lossless.

    Args:
        frames: (T, H, W, 3), floating point in 0..1, rounded to 8 bits; or parts of such a clip, one after the other,
            which .mp4 and .mkv write as they come.
        fps: frames per second. .gif rounds times to 1/100 s and .webp to 1/1000 s; .png has none.
        lossless: keep the 8-bit values exactly; not for .gif.
        pixel_aspect: width of a pixel over its height, which .mp4 and .mkv tell players.
        metadata: short texts, for .mp4, .mkv and .png; keys of lower-case letters, digits and underscores.
        overwrite: replace an existing file.
        numbered: or take the next free number, also where the name was taken while this was written.

    Raises:
        FileExistsError: the file exists, and neither `overwrite` nor `numbered` is set.
        FileNotFoundError: the folder does not exist.
        ValueError: an extension, shape, size, value, rate or key that does not fit.
    """
    path, rate, metadata = Path(path), frame_rate(fps), dict(metadata or {})
    suffix = path.suffix.lower()
    if not isinstance(frames, Tensor) and suffix not in (".mp4", ".mkv"):
        frames = torch.cat(list(frames))
    parts = _checked((frames,) if isinstance(frames, Tensor) else frames)
    first = next(parts, None)
    if first is None:
        raise ValueError("frames: there is not a single part")
    check_target(path, first.shape[:3], fps, lossless=lossless)
    if metadata and suffix not in METADATA_SUFFIXES:
        raise ValueError(f"{suffix} keeps no metadata here; write .mp4, .mkv or .png, or leave the metadata out")
    for key, value in metadata.items():
        if not re.fullmatch(r"[a-z0-9_]+", key) or key in MUXER_KEYS or not isinstance(value, str):
            raise ValueError(
                f"metadata {key!r}: {value!r} does not fit; keys are lower-case letters, digits and underscores and "
                f"none of {', '.join(sorted(MUXER_KEYS))}, values are str"
            )
    with (file := replacing(path, overwrite, numbered=numbered)) as part:
        _WRITERS[suffix](part, chain([first], parts), _How(rate, lossless, pixel_aspect, metadata))
    return file.path


def _checked(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """The parts of one clip, each looked at when it comes."""
    size = None
    for number, part in enumerate(parts):
        check_frames(part, f"part {number} of the frames" if number else "frames")
        size = size or part.shape[1:3]
        if part.shape[1:3] != size:
            raise ValueError(
                f"frames: part {number} is {part.shape[2]}x{part.shape[1]}, those before {size[1]}x{size[0]}"
            )
        yield part


def check_target(path: str | Path, shape: Sequence[int], fps: float | Rational, *, lossless: bool = False) -> None:
    """Raise ValueError where frames of this shape (T, H, W) cannot go into such a file: to be called before the frames
    are made."""
    path, (length, height, width) = Path(path), shape
    suffix, rate = path.suffix.lower(), frame_rate(fps)
    if suffix not in _WRITERS:
        raise ValueError(f"cannot write {path}: the extension must be one of {', '.join(_WRITERS)}")
    if suffix in (".mp4", ".mkv") and not lossless and (height % 2 or width % 2):
        raise ValueError(
            f"frames are {width}x{height}, but {suffix} needs an even width and height: crop or pad by one pixel, "
            "set lossless, or write .webp"
        )
    if suffix == ".png" and length != 1:
        raise ValueError(f"a .png holds one frame, got {length}; write .mp4, .mkv or .webp")
    if suffix == ".gif" and (lossless or rate > 50):
        raise ValueError("a .gif has 256 colours and at most 50 fps; write .webp for lossless or faster clips")


def check_frames(frames: Tensor, name: str) -> None:
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        kind = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"{name} must be a floating-point tensor in 0..1, got {kind}; divide bytes by 255")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"{name} must have the shape (T, H, W, 3), got {tuple(frames.shape)}")
    low, high = (bound.item() for bound in torch.aminmax(frames.detach()))
    if not (low >= -1 / 512 and high <= 1 + 1 / 512):  # half a step of 8 bits; NaN fails too
        raise ValueError(f"{name} must lie in 0..1, got {low:.3g}..{high:.3g}; clamp or rescale them first")


def to_bytes(parts: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 each, one at a time, of the parts of a clip."""
    for frame in chain.from_iterable(part.detach() for part in parts):
        yield frame.float().mul(255).round().clamp(0, 255).to(torch.uint8).contiguous().cpu().numpy()


@dataclass(frozen=True)
class _How:
    fps: Fraction
    lossless: bool
    pixel_aspect: Fraction
    metadata: dict[str, str]


def _write_h264(muxer: str, part: Path, parts: Iterable[Tensor], how: _How) -> None:
    images = to_bytes(parts)
    first = next(images)
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart+use_metadata_tags"} if muxer == "mp4" else {})
    with av.open(str(part.absolute()), "w", format=muxer, options=options) as container:
        container.metadata.update(how.metadata)
        stream = container.add_stream("libx264rgb" if how.lossless else "libx264", rate=how.fps)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "rgb24" if how.lossless else "yuv420p"
        # cpu-independent: x264's AVX-512 code gives other bytes about once in twenty files, without it.
        stream.options = {
            "crf": "0" if how.lossless else "16",
            "preset": "medium",
            "x264-params": "cpu-independent=1",
        }
        codec = stream.codec_context
        codec.thread_count = _THREADS
        codec.sample_aspect_ratio = how.pixel_aspect
        codec.color_primaries = codec.color_trc = BT709
        if not how.lossless:
            codec.colorspace, codec.color_range = BT709, ColorRange.MPEG.value
        for index, image in enumerate(chain([first], images)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if not how.lossless:
                frame = frame.reformat(
                    format="yuv420p", interpolation=SCALING, dst_colorspace=Colorspace.ITU709,
                    src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
                )  # fmt: skip
            frame.pts, frame.time_base = index, 1 / how.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_animation(kind: str, tick: int, part: Path, parts: Iterable[Tensor], how: _How) -> None:
    """`tick`: the milliseconds of which every frame's duration is a multiple."""
    first, *rest = (Image.fromarray(image) for image in to_bytes(parts))
    ticks = [round(place * 1000 / (how.fps * tick)) for place in range(len(rest) + 2)]
    durations = [(after - before) * tick for before, after in pairwise(ticks)]
    options = {"lossless": how.lossless, "quality": 85} if kind == "WEBP" else {}
    first.save(part, kind, save_all=True, append_images=rest, duration=durations, loop=0, **options)


def _write_png(part: Path, parts: Iterable[Tensor], how: _How) -> None:
    text = PngImagePlugin.PngInfo()
    for key, value in how.metadata.items():
        text.add_itxt(key, value)
    Image.fromarray(next(to_bytes(parts))).save(part, "PNG", pnginfo=text)


_WRITERS: dict[str, Callable[[Path, Iterable[Tensor], _How], None]] = {
    ".mp4": partial(_write_h264, "mp4"),
    ".mkv": partial(_write_h264, "matroska"),
    ".webp": partial(_write_animation, "WEBP", 1),
    ".gif": partial(_write_animation, "GIF", 10),
    ".png": _write_png,
}
