"""Measures of a finished clip: motion, seams, drift, and what came back of a source; as numbers and as a picture.

A frozen clip has no seams and no drift, so both stand beside its motion: a seam is measured against the clip's own
inter-frame difference, and the share of still pairs is counted.

The motion before and after a seam is that of `motion`.

Letters: T frames, H W pixels. All differences are of sRGB values in 0..1, mean absolute over pixels and channels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, median

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .motion import translation

FLOOR = 0.1 / 255  # least value that others are divided by: a tenth of an 8-bit step
STILL_MEAN, STILL_BLOCK = 1 / 255, 1 / 16  # of a still pair; a VAE's flicker mostly stays below
BLOCK = 4  # pixels
FEW = 4  # frames at a seam whose mean colours are compared: one latent
SHARE = 0.15  # of the clip, at each end, that drift compares
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


@dataclass(frozen=True)
class Seam:
    """The boundary between frame - 1 and frame; frame 0 is the one between the last frame and the first, of a loop.

    ratio: difference across it over the clip's median inter-frame difference; about 1 where nothing shows, 0 where a
    frame stands twice. Motion that changes its pace has ratios other than 1 as well. flow_jump: length of the change
    of motion, per frame, from the two frames before to the two after, over the shorter side; 0 is none, a thing that
    circles once in 17 frames has 0.06; None where a side has one frame. colour_distance: of the mean colours of up to
    4 frames on each side, 0..1.
    """

    frame: int
    ratio: float
    flow_jump: float | None
    colour_distance: float


@dataclass(frozen=True)
class Drift:
    """Change from the first 15% of the clip to the last 15%, each at least 2 frames.

    colour: distance of the mean colours, 0..1. The others have a sign and are shares of the larger of the two values,
    -1..1: 0.5 is twice as much at the end, -1 is gone. contrast: standard deviation of the luma. sharpness: mean length
    of its gradient. What comes and goes in the scene counts too.
    """

    colour: float
    brightness: float
    contrast: float
    sharpness: float
    motion: float


@dataclass(frozen=True)
class Kept:
    """What came back of a source: frames compared, those among them that are identical bit for bit (as float32),
    whether all are, and the PSNR in dB of the worst, None where all are identical."""

    compared: int
    exact: int
    identical: bool
    worst_psnr: float | None


@dataclass(frozen=True)
class Report:
    """Measures of a clip; plain Python values only.

    motion: median difference of neighbouring frames, 0..1. still: share of neighbouring pairs that differ by no more
    than 1/255 on average and 1/16 in any block of 4x4 pixels, about the flicker of a decoded still; slower than about a
    tenth of a pixel per frame is still, too. differences: of all T - 1 pairs, in order. seams: as they were given, a
    loop's at the end. kept: None without a source.
    """

    frames: int
    width: int
    height: int
    motion: float
    still: float
    differences: list[float]
    seams: list[Seam]
    drift: Drift
    kept: Kept | None

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), allow_nan=False)


def seams_of(text: str) -> list[int]:
    """Frames written with commas or spaces between them, as in `17, 25`."""
    parts = text.replace(",", " ").split()
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"seams: {text!r} is no list of frames; write them as in 17, 25")
    return [int(part) for part in parts]


@torch.no_grad()
def report(
    frames: Tensor,
    *,
    seams: Sequence[int] = (),
    source: Tensor | None = None,
    source_at: int = 0,
    loop: bool = False,
) -> Report:
    """Measure a clip (T, H, W, 3) in 0..1, two frames at a time.

    seams: boundaries to measure; k lies between frame k - 1 and frame k. loop: also that from the last frame to the
    first. source: frames (S, H, W, 3) that frames[source_at : source_at + S] are compared with. Raises ValueError for a
    clip of fewer than 2 frames, wrong shapes or values, a seam outside 1..T-1, and a source that does not fit.
    """
    _check("the clip", frames, 2)
    total, height, width = frames.shape[:3]
    for k in seams:
        if not 1 <= k < total:
            raise ValueError(
                f"seam {k} of a clip of {total} frames: choose from 1 to {total - 1}, or loop for its ends"
            )
    kept = None if source is None else _compare(frames, source, source_at)
    pairs = [(_difference(a, b), _is_still(a, b)) for a, b in pairwise(_each(frames))]
    differences = [difference for difference, _ in pairs]
    motion = median(differences)
    return Report(
        frames=total,
        width=width,
        height=height,
        motion=motion,
        still=fmean(still for _, still in pairs),
        differences=differences,
        seams=[_measure_seam(frames, k, seams, motion) for k in (*seams, *[total] * loop)],
        drift=_measure_drift(frames, differences),
        kept=kept,
    )


def _check(name: str, frames: Tensor, least: int) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise ValueError(f"{name} of shape {tuple(frames.shape)}: give a clip of shape (T, H, W, 3)")
    if len(frames) < least:
        raise ValueError(f"{name} has {len(frames)} frame{'s' * (len(frames) != 1)}: give at least {least}")
    if not frames.is_floating_point():
        raise ValueError(f"{name} of type {frames.dtype}: give floating-point values in 0..1; divide bytes by 255")
    low, high = (bound.item() for bound in torch.aminmax(frames))
    if not (low >= -1 and high <= 2):  # NaN fails too; sharpening may overshoot 0..1
        raise ValueError(
            f"{name} from {low:.3g} to {high:.3g}: values have to lie in 0..1; clamp or rescale them first"
        )


def _each(frames: Tensor) -> Iterator[Tensor]:
    """One frame (H, W, 3) after the other as float32: the clip is never copied as a whole."""
    return (frame.to("cpu", torch.float32) for frame in frames)


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


def _is_still(a: Tensor, b: Tensor) -> bool:
    """Of frames (H, W, 3): nothing moves between them. The mean alone would miss a small thing, a block a slow pan."""
    change = (b - a).movedim(-1, 0)  # 3 H W
    kernel = min(BLOCK, change.shape[1]), min(BLOCK, change.shape[2])
    block = F.avg_pool2d(change, kernel, ceil_mode=True).abs().max()
    return bool(change.abs().mean() <= STILL_MEAN and block <= STILL_BLOCK)


def _compare(frames: Tensor, source: Tensor, at: int) -> Kept:
    _check("the source", source, 1)
    total, count = len(frames), len(source)
    if source.shape[1:] != frames.shape[1:]:
        raise ValueError(
            f"source of {source.shape[2]}x{source.shape[1]} for a clip of {frames.shape[2]}x{frames.shape[1]}: "
            "give the source at the clip's size"
        )
    if not 0 <= at <= total - count:
        cure = f"choose source_at from 0 to {total - count}" if count <= total else f"give at most {total} frames"
        raise ValueError(f"source of {count} frames at frame {at} does not fit into a clip of {total}: {cure}")
    pairs = zip(_each(source), _each(frames[at : at + count]), strict=True)
    errors = [float((a.double() - b.double()).square().mean()) for a, b in pairs]  # 0 only of equal frames, in double
    worst = max(errors)
    return Kept(count, errors.count(0), worst == 0, -10 * math.log10(worst) if worst else None)


def _measure_seam(frames: Tensor, k: int, seams: Sequence[int], motion: float) -> Seam:
    """k = T is the loop's. Each side reaches to the next seam at most."""
    total = len(frames)
    cuts = sorted({0, *seams, total})
    after = k % total
    left = frames[max(cut for cut in cuts if cut < k) : k]
    right = frames[after : min(cut for cut in cuts if cut > after)]
    (last,), (first,) = _each(left[-1:]), _each(right[:1])
    jump = None
    if min(len(left), len(right)) > 1:
        change = translation(*_each(right[:2])) - translation(*_each(left[-2:]))
        jump = float(change.norm()) / min(frames.shape[1:3])
    colour = _distance(_mean_colour(left[-FEW:]), _mean_colour(right[:FEW]))
    return Seam(after, max(_difference(last, first), FLOOR) / max(motion, FLOOR), jump, colour)


def _mean_colour(frames: Tensor) -> Tensor:
    return torch.stack([frame.mean((0, 1)) for frame in _each(frames)]).mean(0)


def _distance(a: Tensor, b: Tensor) -> float:
    """Of two colours (3,): root mean square over the channels, 0..1."""
    return float((a - b).square().mean().sqrt())


def _measure_drift(frames: Tensor, differences: Sequence[float]) -> Drift:
    count = max(2, round(SHARE * len(frames)))
    ends = frames[:count], frames[-count:]
    motions = median(differences[: count - 1]), median(differences[-(count - 1) :])
    looks = [torch.tensor([_look(frame) for frame in _each(end)]).mean(0).tolist() for end in ends]
    colour = _distance(_mean_colour(ends[0]), _mean_colour(ends[1]))
    pairs = [*zip(*looks, strict=True), motions]
    return Drift(colour, *((last - first) / max(first, last, FLOOR) for first, last in pairs))


def _look(frame: Tensor) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness of a frame (H, W, 3)."""
    luma = frame @ torch.tensor(LUMA)
    padded = F.pad(luma[None], (0, 1, 0, 1), mode="replicate")[0]
    gradient = torch.hypot(padded[1:, :-1] - luma, padded[:-1, 1:] - luma)
    return float(luma.mean()), float(luma.std(correction=0)), float(gradient.mean())


# -- picture -----------------------------------------------------------------------------------------------------

WIDTH, MARGIN, LINE, PLOT = 640, 16, 19, 180  # pixels: of the picture, its border, a line of text, the curve's height
LEFT = 60  # room for the numbers beside the curve, pixels
INK, PALE, CURVE, CUT = (30, 30, 36), (150, 150, 156), (41, 92, 158), (214, 112, 20)  # text, axes, curve, seams


def draw_report(report: Report) -> Tensor:
    """A picture (H, 640, 3) in 0..1: the differences of neighbouring frames as a curve with the seams and their ratios
    in it, and all other measures below."""
    shares = ("brightness", "contrast", "sharpness", "motion")
    changes = [round(getattr(report.drift, name), 2) + 0.0 for name in shares]  # + 0.0 takes the sign off a zero
    columns = {  # by their left side, in pixels
        MARGIN: ["Motion", f"{report.motion:.4f} a frame (median)", f"{report.still:.0%} of pairs still"],
        230: ["Drift, first to last 15%", "colour", *shares],
        320: ["", f"{report.drift.colour:.3f}", *(f"{change:+.0%}" for change in changes)],
        450: ["Kept of the source", *_kept_lines(report.kept)],
    }
    table = [("Seam at", "Difference", "Flow jump", "Colour")] if report.seams else []
    for seam in report.seams:
        jump = "-" if seam.flow_jump is None else f"{seam.flow_jump:.3f}"
        table.append((_name(seam), f"{_ratio(seam)} x median", jump, f"{seam.colour_distance:.3f}"))
    top = MARGIN + 3 * LINE  # title and two rows of ratios
    below = top + PLOT + 2 * LINE
    end = below + (max(map(len, columns.values())) + 1) * LINE
    sheet = Image.new("RGB", (WIDTH, end + len(table) * LINE + MARGIN * bool(table)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(13)
    title = f"{report.frames} frames of {report.width}x{report.height}: difference from frame to frame; dashed: median"
    pen.text((MARGIN, MARGIN - 4), title, fill=INK)
    _draw_curve(pen, report, top)
    for x, lines in columns.items():
        _draw_lines(pen, lines, x, below)
    for i, x in enumerate((MARGIN, 230, 360, 480)):
        _draw_lines(pen, [row[i] for row in table], x, end)
    return torch.from_numpy(np.asarray(sheet).copy()).float() / 255


def _draw_curve(pen: ImageDraw.ImageDraw, report: Report, top: int) -> None:
    """A boundary stands over the number of the frame after it; the loop's, which is in no pair, right of all."""
    bottom, right = top + PLOT, WIDTH - MARGIN
    last = report.frames if any(seam.frame == 0 for seam in report.seams) else report.frames - 1
    highest = 1.1 * max(*report.differences, FLOOR)

    def place(k: float, value: float) -> tuple[float, float]:
        return LEFT + (right - LEFT) * (k - 1) / max(last - 1, 1), bottom - PLOT * value / highest

    pen.rectangle((LEFT, top, right, bottom), outline=PALE)
    for value in (0, highest):
        pen.text((LEFT - 6, place(1, value)[1]), f"{value:.4f}", fill=INK, anchor="rm")
    for k in sorted({1 + round(i * (report.frames - 2) / 4) for i in range(5)}):
        x = place(k, 0)[0]
        pen.line((x, bottom, x, bottom + 4), fill=PALE)
        pen.text((x, bottom + 6), str(k), fill=INK, anchor="ma")
    free = [0.0, 0.0]  # where the next ratio fits in, per row
    for seam in sorted(report.seams, key=lambda seam: seam.frame or report.frames):
        x = place(seam.frame or report.frames, 0)[0]
        pen.line((x, top, x, bottom), fill=CUT)
        half = pen.textlength(_ratio(seam)) / 2 + 2
        row = next((row for row in (1, 0) if x - half >= free[row]), None)
        if row is not None:  # where seams stand too close the table below still has them all
            pen.text((x, top - (2 - row) * LINE + 4), _ratio(seam), fill=CUT, anchor="ma")
            free[row] = x + half
    level = place(1, report.motion)[1]
    for x in range(LEFT, right, 8):
        pen.line((x, level, x + 3, level), fill=PALE)
    points = [place(k, value) for k, value in enumerate(report.differences, start=1)]
    pen.line(points, fill=CURVE, width=2, joint="curve")
    if len(points) <= 64:
        for x, y in points:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=CURVE)


def _draw_lines(pen: ImageDraw.ImageDraw, lines: Sequence[str], x: float, y: float) -> None:
    """A heading and the lines below it."""
    for i, line in enumerate(lines):
        pen.text((x, y + i * LINE), line, fill=INK if i else CURVE)


def _name(seam: Seam) -> str:
    return f"frame {seam.frame}" if seam.frame else "last to first"


def _ratio(seam: Seam) -> str:
    return f"{seam.ratio:.1f}" if seam.ratio < 10 else f"{seam.ratio:.0f}"


def _kept_lines(kept: Kept | None) -> list[str]:
    if kept is None:
        return ["no source given"]
    lines = [f"{kept.exact} of {kept.compared} frames exact"]
    return lines if kept.worst_psnr is None else [*lines, f"worst frame {kept.worst_psnr:.1f} dB"]
