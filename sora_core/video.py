"""Video, image and animation files to frames and back.

Frames are float32 tensors (T, H, W, 3) in 0..1, as in ComfyUI's IMAGE. Videos go through PyAV, images and animations
through Pillow. No sound, no resizing, no colour grading here, and no choice of file names.

The same frames, settings and library versions give the same bytes. A file is written under a temporary name beside its
target and renamed when complete, so a crash leaves no half file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, count, islice, pairwise
from numbers import Rational
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import torch
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin
from torch import Tensor

from .files import replacing

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")  # read through Pillow
_SCALING = 0x4 | 0x2000 | 0x40000  # swscale flags: bicubic, full chroma when going to RGB, accurate rounding
_BT709 = 1  # ITU-T H.273 code point of the BT.709 primaries, transfer and matrix alike
_HDR = {16: "PQ", 18: "HLG"}  # and of the transfers whose levels are no SDR ones
_THREADS = 4  # fixed, because x264's output depends on it
METADATA_SUFFIXES = (".mp4", ".mkv", ".png")
_Shown = TypeVar("_Shown")
_MUXER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # written by containers, not by us


@dataclass(frozen=True, eq=False)
class Video:
    """Frames (T, H, W, 3), float32 in 0..1, shown at a constant `fps`."""

    frames: Tensor
    fps: Fraction


def frame_rate(fps: float | Rational) -> Fraction:
    """Exact rate of `fps`, in frames per second; 23.976, 29.97 and their like become n * 1000/1001.

    Raises ValueError outside 0 < fps <= 1000.
    """
    if not 0 < fps <= 1000:
        raise ValueError(f"fps is {fps}; it must lie above 0 and be at most 1000 frames per second")
    if isinstance(fps, Rational):
        return Fraction(fps)
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    exact = ntsc if abs(fps - ntsc) < 2e-4 * fps else Fraction(float(fps)).limit_denominator(1001)
    if not exact:
        raise ValueError(f"fps is {fps}; rates begin at 1 frame in 1001 seconds")
    return exact


# Reading


def read_video(
    path: str | Path,
    *,
    fps: float | Rational | None = None,
    max_frames: int | None = None,
    over_black: bool = False,
) -> Video:
    """Read a video, an animated image or a still image.

    A file of constant rate comes back with exactly the frames it holds. One of variable rate is put on a constant grid
    by its time stamps: at time k / fps stands the last frame that starts at or before it. Which of the two a file is
    depends on the whole file, so `max_frames` returns a beginning of what reading it all would return. Rotation
    metadata is applied, transparency dropped, or shown as black where `over_black`; pixels stay as they are where they
    are no squares (`pixel_aspect`). A still image is one frame, at 1 fps unless `fps` says otherwise.

    Args:
        path: anything ffmpeg decodes, or .png .jpg .jpeg .webp .gif .bmp.
        fps: frames per second of the result; by default the file's own (average) rate. Frames are repeated or
            dropped, never blended, and the duration stays.
        max_frames: stop after this many frames.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no video that can be decoded, or HDR; or an argument is out of range.
    """
    path = _existing(path)
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames is {max_frames}; ask for at least 1 frame, or leave it out to read them all")
    rate, shown = stream_video(path, fps=fps, over_black=over_black)
    images = list(islice(shown, max_frames))
    frames = torch.empty((len(images), *images[0].shape), dtype=torch.float32)
    for frame, image in zip(frames, images, strict=True):
        frame.copy_(torch.from_numpy(np.ascontiguousarray(image)))
    return Video(frames.div_(255), rate)


def stream_video(
    path: str | Path, *, fps: float | Rational | None = None, over_black: bool = False
) -> tuple[Fraction, Iterator[np.ndarray]]:
    """The rate, and the frames (H, W, 3) as bytes one at a time, of what `read_video` reads whole. Errors likewise,
    some of them on the way."""
    path = _existing(path)
    rate = None if fps is None else frame_rate(fps)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        own_rate, shown = _image_frames(path, over_black)
    else:
        timing = _timing(path)
        own_rate, shown = timing.rate, _video_frames(path, timing)
    if own_rate is None:  # a still
        own_rate, shown = rate or Fraction(1), [(image, 1 / (rate or Fraction(1))) for image, _ in shown]
    rate = rate or own_rate
    return rate, _of_one_size(path, _on_grid(shown, rate))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Text metadata of a video container or a PNG, keys in lower case. Errors as in `read_video`."""
    path = _existing(path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        with _opened_image(path) as image:
            image.load()
            found = getattr(image, "text", {})
    else:
        with _opened_video(path) as (container, _):
            found = dict(container.metadata)
    return {key.lower(): str(value) for key, value in found.items() if key.lower() not in _MUXER_KEYS}


def out_of_step(path: str | Path) -> tuple[int, int]:
    """How many of a file's frames `read_video` leaves out at the file's own rate, and how many it adds by showing one
    again: none but where that rate varies."""
    path = _existing(path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        rate, images = _image_frames(path, over_black=False)
        ends = [end for _, end in images]
    else:
        timing = _timing(path)
        rate, ends = timing.rate, timing.ends
    shown = list(_on_grid(enumerate(ends), rate)) if rate else []
    kept = len(set(shown))
    return (len(ends) - kept, len(shown) - kept) if shown else (0, 0)


def has_sound(path: str | Path) -> bool:
    """Whether a file has sound, which neither `read_video` nor `write_video` takes."""
    path = _existing(path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        return False
    with _opened_video(path) as (container, _):
        return bool(container.streams.audio)


def pixel_aspect(path: str | Path) -> Fraction:
    """Width of a file's pixels over their height, as its frames are read: 1 but for old television and some cameras."""
    path = _existing(path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        return Fraction(1)
    with _opened_video(path) as (container, stream):
        frame = next(container.decode(stream), None)
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)  # 0 where it is not said
        turned = frame is not None and round(frame.rotation / 90) % 2 == 1
        return 1 / aspect if turned else aspect


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); copy or export it again")
    return path


def _on_grid(shown: Iterable[tuple[_Shown, Fraction]], fps: Fraction) -> Iterator[_Shown]:
    """The image on show at 0, 1/fps, 2/fps, ...; `shown` gives each image with the time, in seconds, its show ends."""
    index = 0
    for image, end in shown:
        while index < end * fps:
            yield image
            index += 1


def _of_one_size(path: Path, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for image in images:
        if image.shape != (shape or image.shape):
            raise ValueError(f"{path} changes its frame size on the way; re-encode it to one size")
        shape = image.shape
        yield image


def _steady_rate(times: Sequence[float], candidates: Iterable[Fraction | None]) -> Fraction | None:
    """The first of the rates whose grid has each of the sorted `times` (seconds) within a quarter of a frame of its
    own place, else None: time stamps of constant-rate files are rounded, to whole milliseconds in Matroska."""
    measured = (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else 0.0
    for rate in (*candidates, Fraction(measured).limit_denominator(1001)):
        if rate and all(abs((time - times[0]) * float(rate) - place) <= 0.25 for place, time in enumerate(times)):
            return rate
    return None


@dataclass(frozen=True)
class _Timing:
    rate: Fraction  # frames per second
    constant: bool
    last: Fraction  # seconds the last frame is shown
    ends: Sequence[Fraction] = ()  # of a rate that varies: seconds from the first frame's start to each one's end


@contextmanager
def _opened_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its first video stream that is no cover picture; ffmpeg's errors become ValueError."""
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams:
                raise ValueError(f"{path} has no video stream; choose a file with pictures in it")
            if streams[0].codec_context is None:  # PyAV 14 would crash on it
                raise ValueError(f"{path} cannot be decoded as video (its codec is unknown here); convert it to mp4")
            yield container, streams[0]
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be decoded as video ({error.strerror}); it may be cut short, damaged, or no video: "
            "play it elsewhere to check, or convert it to mp4"
        ) from error


def _timing(path: Path) -> _Timing:
    """Read the packets' time stamps, decoding nothing."""
    with _opened_video(path) as (container, stream):
        shown = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
        packets = [(packet.pts, packet.duration or 0) for packet in shown]
        stamps = sorted(packet for packet in packets if packet[0] is not None)
        declared = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
        tick = stream.time_base
    if not packets:
        raise ValueError(f"{path} holds no frames; export it again")
    if len(stamps) < len(packets):  # a raw stream: frames follow each other without time stamps
        steady = declared[0] if declared else None
    else:
        steady = _steady_rate([float(pts * tick) for pts, _ in stamps], declared)
    if steady:
        return _Timing(steady, True, 1 / steady)
    if not declared:
        raise ValueError(f"{path} does not say its frame rate; convert it to mp4")
    last = stamps[-1][1] * tick or 1 / declared[0]
    starts = [(pts - stamps[0][0]) * tick for pts, _ in stamps]
    return _Timing(declared[0], False, last, [*starts[1:], starts[-1] + last])


def _video_frames(path: Path, timing: _Timing) -> Iterator[tuple[np.ndarray, Fraction]]:
    """Each image (H, W, 3) uint8 with the time its show ends, in seconds from the first one's start."""
    previous, first, start = None, None, Fraction(0)
    with _opened_video(path) as (container, stream):
        if kind := _HDR.get(int(stream.codec_context.color_trc)):
            raise ValueError(f"{path} is HDR ({kind}), whose colours would come out flat; convert it to SDR (BT.709)")
        # PyAV's default, slice threads, stays: with frame threads damaged frames are skipped without an error.
        for index, frame in enumerate(container.decode(stream)):
            if timing.constant:
                start = index / timing.rate
            else:
                first = frame.pts if first is None else first
                start = (frame.pts - first) * stream.time_base
            if previous is not None:
                yield previous, start
            previous = _to_rgb(frame)
    if previous is None:
        raise ValueError(f"{path} holds no frame that can be decoded; export it again")
    yield previous, start + timing.last


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8, upright. Colours without a tag are taken as players take them: BT.601 up to 576 lines."""
    if frame.format.is_rgb or frame.format.has_palette:
        image = frame.to_ndarray(format="rgb24")
    else:
        tagged = {1: _BT709, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVColorSpace -> swscale's matrix
        matrix = tagged.get(int(frame.colorspace), 5 if frame.height <= 576 else _BT709)
        full = int(frame.color_range) == ColorRange.JPEG.value or frame.format.name.startswith("yuvj")
        # RGB has no matrix, but PyAV 14 ignores the source's where the target's is the same (by default both are the
        # frame's tag). So name BT.601, which is what swscale falls back to in that case.
        image = frame.reformat(
            format="rgb24", interpolation=_SCALING,
            src_colorspace=matrix, dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG, dst_color_range=ColorRange.JPEG,
        ).to_ndarray()  # fmt: skip
    return np.rot90(image, round(frame.rotation / 90))  # both count counter-clockwise


@contextmanager
def _opened_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded as an image ({error}); open it elsewhere to check") from error


def _image_frames(path: Path, over_black: bool) -> tuple[Fraction | None, list[tuple[np.ndarray, Fraction]]]:
    """Rate (None for a still) and each image with the time its show ends, in seconds."""
    images, ends = [], [Fraction(0)]
    with _opened_image(path) as file:
        # A photograph may hold previews of itself behind the picture.
        for image in [file] if file.format == "MPO" else ImageSequence.Iterator(file):
            if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            if over_black and image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
            images.append(np.array(ImageOps.exif_transpose(image.convert("RGB"))))
            ends.append(ends[-1] + Fraction(file.info.get("duration", 0)) / 1000)
    if len(images) == 1:
        return None, [(images[0], Fraction(1))]
    if ends[-1] == 0:
        raise ValueError(f"{path} does not say how long its frames are shown; export it again with a frame rate")
    # Times are rounded to a tick: the simplest rate whose duration rounds to the file's is the one meant.
    tick = Fraction(1, 100 if file.format == "GIF" else 1000)
    rates = ((len(images) / ends[-1]).limit_denominator(bound) for bound in count(1))
    average = next(rate for rate in rates if rate and abs(len(images) / rate - ends[-1]) <= tick / 2)
    if steady := _steady_rate([float(end) for end in ends], [average]):
        ends = [place / steady for place in range(len(images) + 1)]
    return steady or average, list(zip(images, ends[1:], strict=True))


# Writing


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
        if not re.fullmatch(r"[a-z0-9_]+", key) or key in _MUXER_KEYS or not isinstance(value, str):
            raise ValueError(
                f"metadata {key!r}: {value!r} does not fit; keys are lower-case letters, digits and underscores and "
                f"none of {', '.join(sorted(_MUXER_KEYS))}, values are str"
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
        codec.color_primaries = codec.color_trc = _BT709
        if not how.lossless:
            codec.colorspace, codec.color_range = _BT709, ColorRange.MPEG.value
        for index, image in enumerate(chain([first], images)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if not how.lossless:
                frame = frame.reformat(
                    format="yuv420p", interpolation=_SCALING, dst_colorspace=Colorspace.ITU709,
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
