"""Files to frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from numbers import Rational
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import torch
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageOps, ImageSequence
from torch import Tensor

from .formats import BT709, MUXER_KEYS, SCALING, frame_rate

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")  # read through Pillow
_HDR = {16: "PQ", 18: "HLG"}  # code points of the transfers whose levels are no SDR ones
_Shown = TypeVar("_Shown")


@dataclass(frozen=True, eq=False)
class Video:
    """Frames (T, H, W, 3), float32 in 0..1, shown at a constant `fps`."""

    frames: Tensor
    fps: Fraction


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
    return {key.lower(): str(value) for key, value in found.items() if key.lower() not in MUXER_KEYS}


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
        tagged = {1: BT709, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVColorSpace -> swscale's matrix
        matrix = tagged.get(int(frame.colorspace), 5 if frame.height <= 576 else BT709)
        full = int(frame.color_range) == ColorRange.JPEG.value or frame.format.name.startswith("yuvj")
        # RGB has no matrix, but PyAV 14 ignores the source's where the target's is the same (by default both are the
        # frame's tag). So name BT.601, which is what swscale falls back to in that case.
        image = frame.reformat(
            format="rgb24", interpolation=SCALING,
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
