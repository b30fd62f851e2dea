"""The tasks: each puts what is given on a timeline, and says what of it is made.

Frames are (T, H, W, 3) in 0..1; strengths too: 0 keep, 1 make.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .edges import held
from .motion import carried_on
from .selection import frame_range
from .timeline import FACTOR, SOFT, Timeline

CARRY = 0.9  # strength of frames that begin from the motion carried on: lower ones stay nearer to it
BLACK = 0.02  # of a mask, below which it is black: that of a lossy file is not quite 0
BEFORE, BEHIND = 9, 8  # frames around an edited span that the model sees: three latents and two


def empty(frames: int, height: int, width: int) -> Timeline:
    """Nothing given, everything to be made; `pin` images on it."""
    if min(frames, height, width) < 1:
        raise ValueError(f"an empty clip of {frames} frames of {width}x{height}: each of them is at least 1")
    length = _whole(frames)
    nothing = torch.zeros(length, 1, 1, dtype=torch.bool)
    return Timeline(torch.zeros(length, height, width, 3), torch.ones(length, 1, 1), nothing, (), (0, frames))


def extend(frames: Tensor, *, before: int = 0, after: int = 0, overlap: int = 9, carry: float = CARRY) -> Timeline:
    """A clip (T, H, W, 3) with new frames before it, after it, or both. overlap: frames the model sees of it; all of
    them where it goes on at both ends, so the clip has at most twice as many then. carry: where the clip moves steadily
    (`motion.carried_on`), at one end, up to as many new frames as are seen begin from its motion carried on, at this
    strength; at 1 they begin from noise, as all others do."""
    _check_clip("the clip", frames, 1)
    check_ends(before, after)
    _check_overlap(overlap)
    if not 0 <= carry <= 1:
        raise ValueError(f"carry {carry}: 1 begins from noise, less from the motion carried on; choose from 0 to 1")
    count = len(frames)
    if before and after:
        if count > 2 * overlap:
            raise ValueError(
                f"the clip has {count} frames, and with new ones at both ends the model sees all of them at once: "
                f"extend it at one end after the other, or give an overlap of {-(-count // 2)} or more"
            )
        lead = _whole(before)
        return _joined([(frames, lead)], lead + count + after, (lead - before, lead + count + after))
    if after:
        seen = _whole_below(min(overlap, count))
        line = _joined([(frames[count - seen :], 0)], seen + after, (seen, seen + after), before=frames)
        return _carrying_on(line, seen, carry)
    seen, lead = max(FACTOR, min(overlap, count) // FACTOR * FACTOR), _whole(before)
    line = _joined([(held(frames[:seen], seen), lead)], lead + seen, (lead - before, lead), after=frames)
    return replace(_leading_up(line, lead, carry), leads_up=True)


def check_ends(before: int, after: int) -> None:
    """Raises ValueError where a clip cannot get so many new frames."""
    if min(before, after) < 0 or before + after == 0:
        raise ValueError(f"extend by {before} before and {after} after: at least one has to be above 0, none below")


def backward_parts(before: int, length: int, overlap: int, most: int) -> list[int]:
    """New frames of one `extend` backward after another that make `before` in all, each at once with at most `most`
    frames, of a clip of some length, which grows on the way."""
    if before < 1:
        raise ValueError(f"extend by {before} before: choose 1 or more")
    room = most - max(FACTOR, min(overlap, length + before) // FACTOR * FACTOR)
    if room < 1:
        raise ValueError(f"overlap {overlap}: of {most} frames at once none is left to be made; choose less")
    size = _whole_below(room)
    return [size] * (before // size) + [before % size] * (before % size > 0)


def interpolate(a: Tensor, b: Tensor, count: int, *, overlap: int = 5, soften: int = 0) -> Timeline:
    """Clip a, `count` new frames, clip b: (T, H, W, 3) of one size. soften: frames of each that may change as well, the
    more the nearer they are to the new ones."""
    _check_clip("clip a", a, 1)
    _check_clip("clip b", b, 1)
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"clip a is {a.shape[2]}x{a.shape[1]} and clip b {b.shape[2]}x{b.shape[1]}: resize one of them first"
        )
    line = _gap(a, b, count, overlap)
    ends = line.show[0], len(line.canvas) - line.show[1], len(a), len(b)
    most = max(0, min(ends) - FACTOR)  # one latent of each stays at least
    if not 0 <= soften <= most:
        raise ValueError(
            f"soften {soften}: with overlap {overlap} and clips of {len(a)} and {len(b)} frames choose "
            f"from 0 to {most}, so that four frames of each stay; for more raise overlap, of clips that are as long"
        )
    begin, end = line.show[0] - soften, line.show[1] + soften
    rise = (torch.arange(soften) + 1) / (soften + 1)
    strength, keep = line.strength.clone(), line.keep.clone()
    strength[begin : begin + soften, 0, 0], strength[end - soften : end, 0, 0] = rise, rise.flip(0)
    keep[begin:end] = False
    return replace(line, strength=strength, keep=keep, show=(begin, end), before=a[: len(a) - soften], after=b[soften:])


def loop(frames: Tensor, count: int, *, overlap: int = 5) -> Timeline:
    """A clip (T, H, W, 3) and `count` new frames that lead from its end to its beginning."""
    _check_clip("the clip", frames, 2)
    return replace(_gap(frames, frames, count, overlap), before=frames)


def edit(frames: Tensor, strength: float | Tensor) -> Timeline:
    """A clip (T, H, W, 3) to be changed in place (SDEdit, arXiv 2108.01073). strength: one number, a curve (T,) over
    frames, or a map (T or 1, H, W) of pixels; where it is 0 the clip stays bit for bit. Of the frames before and behind
    all that may change the model sees a few; what may change begins with a latent of its own."""
    _check_clip("the clip", frames, 1)
    count = len(frames)
    wanted = torch.as_tensor(strength, dtype=torch.float32)
    if wanted.ndim == 1 and len(wanted) == count:
        wanted = wanted[:, None, None]
    elif wanted.ndim == 0:
        wanted = wanted.expand(count, 1, 1)
    elif wanted.ndim == 3 and wanted.shape[0] in (1, count) and wanted.shape[1:] in ((1, 1), frames.shape[1:3]):
        wanted = wanted.expand(count, -1, -1)
    else:
        raise ValueError(
            f"strength of shape {tuple(wanted.shape)}: give one number, {count} numbers (one a frame), or a map "
            f"({count} or 1, {frames.shape[1]}, {frames.shape[2]})"
        )
    _check_strengths(wanted)
    changing = torch.nonzero(wanted.flatten(1).amax(1))[:, 0].tolist() or [0]
    begin, end = max(0, changing[0] - BEFORE), min(count, changing[-1] + 1 + BEHIND)
    lead = (1 - (changing[0] - begin)) % FACTOR if changing[0] else 0  # frames for which a short past stands still
    end = min(count, end + (1 - (lead + end - begin)) % FACTOR)  # so that nothing stands still where frames go on
    seen = frames[begin:end]
    if lead:
        seen = torch.cat([seen[:1].expand(lead, -1, -1, -1), seen])
    length = _whole(len(seen))
    wanted = torch.cat(
        [
            torch.zeros_like(wanted[:1]).expand(lead, -1, -1),
            wanted[begin:end],
            wanted[end - 1 : end].expand(length - len(seen), -1, -1),
        ]
    )
    inside = (lead, len(seen))
    return Timeline(
        held(seen, length), wanted, wanted == 0, ((0, length),), inside, before=frames[:begin], after=frames[end:]
    )


def strengths(
    frames: Tensor, strength: float, *, curve: str = "", first: int = 0, last: int = -1, mask: Tensor | None = None
) -> Tensor:
    """Strengths for `edit`, (T, 1, 1) or (T, H, W): one number or a curve, within a span of frames and within a mask
    (T or 1, H, W, or one (H, W)). curve: strengths at frames, straight between them, as in `0:0, 8:0.6, 16:1`."""
    total = len(frames)
    begin, end = frame_range(first, last, total)
    out = _curve(curve, total) if curve.strip() else torch.full((total,), float(strength))
    _check_strengths(out)
    out[:begin], out[end + 1 :] = 0, 0
    out = out[:, None, None]
    if mask is None:
        return out
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3:
        raise ValueError(f"mask of shape {tuple(mask.shape)}: give one (1, H, W), or one a frame ({total}, H, W)")
    if mask.shape[0] not in (1, total):
        raise ValueError(f"mask: it has {mask.shape[0]} frames and the clip {total}; give one image, or one a frame")
    if mask.shape[1:] != frames.shape[1:3]:
        size = frames.shape[1:3]
        least = tuple(map(min, mask.shape[1:], size))  # thin strokes of a larger mask stay
        mask = F.interpolate(F.adaptive_max_pool2d(mask[:, None].float(), least), size=size, mode="nearest-exact")[:, 0]
    mask = mask.to("cpu", torch.float32).clamp(0, 1)
    masked = out * torch.where(mask < BLACK, 0, mask)
    if bool(out.any()) and not bool(masked.any()):
        raise ValueError(
            "mask: it is black wherever the clip may change, so nothing would; white marks what changes. (ComfyUI's "
            "Load Image gives a black mask for images without transparency.)"
        )
    return masked


def curve_points(text: str) -> list[tuple[int, float]]:
    """Frames and their strengths, of a curve as in `0:0, 8:0.6, 16:1`; of an empty text none. Raises ValueError."""
    points = []
    for part in text.replace("\n", ",").split(","):
        if part.strip():
            match = re.fullmatch(r"\s*(-?\d+)\s*:\s*(\d*\.?\d+)\s*", part)
            if match is None:
                raise ValueError(f"curve: {part.strip()!r} is not FRAME:STRENGTH; write it as in `0:0, 8:0.6, 16:1`")
            _check_strengths(torch.tensor(float(match[2])))
            points.append((int(match[1]), float(match[2])))
    if text.strip() and not points:
        raise ValueError("curve: there is no point in it; write it as in `0:0, 8:0.6, 16:1`")
    return points


def _curve(text: str, total: int) -> Tensor:
    at: list[int] = []
    points = curve_points(text)
    for frame, _ in points:
        if frame < -total:
            raise ValueError(f"curve: frame {frame} of a clip of {total}: -1 is the last, {-total} the first")
        if frame >= total:
            raise ValueError(f"curve: frame {frame} of a clip of {total}: the last is {total - 1}, or -1")
        counted = frame + total if frame < 0 else frame
        if at and counted <= at[-1]:
            raise ValueError(f"curve: frame {frame} does not come after frame {at[-1]}")
        at.append(counted)
    values = [strength for _, strength in points]
    return torch.from_numpy(np.interp(np.arange(total), at, values)).float()


# ---- parts


def _check_strengths(wanted: Tensor) -> None:
    if not bool(((wanted >= 0) & (wanted <= 1)).all()):
        least, most = float(wanted.min()), float(wanted.max())
        told = f"{least:g}" if least == most else f"from {least:g} to {most:g}"
        raise ValueError(f"strength {told}: 0 keeps, 1 makes anew; every value has to lie from 0 to 1")


def _whole(frames: int) -> int:
    """The next length of the form 4n + 1."""
    return -(-(frames - 1) // FACTOR) * FACTOR + 1


def _whole_below(frames: int) -> int:
    return (frames - 1) // FACTOR * FACTOR + 1


def _joined(
    given: list[tuple[Tensor, int]],
    wanted: int,
    show: tuple[int, int],
    before: Tensor | None = None,
    after: Tensor | None = None,
) -> Timeline:
    """Clips at their places on a canvas of at least `wanted` frames; the rest is to be made. A clip that ends there is
    held to the canvas' end."""
    length = _whole(wanted)
    first = given[0][0]
    canvas = torch.zeros(length, *first.shape[1:])
    strength, keep = torch.ones(length, 1, 1), torch.zeros(length, 1, 1, dtype=torch.bool)
    pieces = []
    for frames, at in given:
        end = at + len(frames)
        stop = length if end == wanted else end
        canvas[at:stop] = held(frames, stop - at)
        strength[at:stop], keep[at:end] = 0, True
        pieces.append((at, stop - at))
    return Timeline(canvas, strength, keep, tuple(pieces), show, before, after)


def _carrying_on(line: Timeline, seen: int, carry: float) -> Timeline:
    """Where the first `seen` frames move steadily, up to as many behind them begin from that, at this strength."""
    stop = min(seen + (seen - 1) // FACTOR * FACTOR, len(line.canvas))
    guess = carried_on(line.canvas[:seen], stop - seen) if carry < 1 and seen < stop else None
    if guess is None:
        return line
    canvas, strength = line.canvas.clone(), line.strength.clone()
    canvas[seen:stop], strength[seen:stop] = guess, carry
    return replace(line, canvas=canvas, strength=strength, pieces=((0, stop),), guess=(seen, stop))


def _leading_up(line: Timeline, lead: int, carry: float) -> Timeline:
    """Where the frames from `lead` on move steadily, up to as many before them begin from what led there."""
    seen = (len(line.canvas) - lead) // FACTOR * FACTOR
    begin = 0 if lead <= seen + 1 else lead - seen  # of a latent, either way
    guess = carried_on(line.canvas[lead:].flip(0), lead - begin) if carry < 1 and begin < lead else None
    if guess is None:
        return line
    canvas, strength = line.canvas.clone(), line.strength.clone()
    canvas[begin:lead], strength[begin:lead] = guess.flip(0), carry
    strength[lead : lead + FACTOR] = SOFT  # its past is a guess, so it may move a little
    pieces = ((begin, len(canvas) - begin),)
    return replace(line, canvas=canvas, strength=strength, pieces=pieces, guess=(begin, lead))


def _gap(a: Tensor, b: Tensor, count: int, overlap: int) -> Timeline:
    """The end of a, a gap, the beginning of b, which begins with a latent."""
    if count < 1:
        raise ValueError(f"{count} new frames: make at least 1")
    _check_overlap(overlap)
    seen = min(overlap, len(a))
    drop = (seen + count - 1) % FACTOR  # so that the gap ends with a latent
    seen, hold = (seen - drop, 0) if drop < seen else (seen, FACTOR - drop)
    a = a[len(a) - seen :]
    a = torch.cat([a[:1].expand(hold, *a.shape[1:]), a])
    lead = len(a) + count
    head = max(FACTOR, min(overlap, len(b)) // FACTOR * FACTOR)
    return _joined([(a, 0), (held(b[:head], head), lead)], lead + head, (len(a), lead))


def _check_clip(name: str, frames: Tensor, least: int) -> None:
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        kind = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"{name} is of {kind}: clips are torch tensors of floats in 0..1, as `read_video` gives them")
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"{name} has shape {tuple(frames.shape)}: clips have (T, H, W, 3)")
    if len(frames) < least:
        raise ValueError(f"{name} has {len(frames)} frame{'s' * (len(frames) != 1)}: this takes at least {least}")


def _check_overlap(overlap: int) -> None:
    if overlap < 1:
        raise ValueError(f"overlap {overlap}: the model has to see at least 1 frame")
