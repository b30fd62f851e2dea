"""A clip under construction: which frames are given, where they stand, and what of them comes back bit for bit.

Every task of the pack is a timeline: given frames on a canvas, a strength per frame or pixel, and the part of it that
is new. Time is causal: latent frame 0 covers one video frame, every later one covers four. So frames that stand later
than the beginning are encoded behind a lead-in, their first frame standing still, which the encoder takes for the past.

Shapes: T frames, H W pixels, C channels, T' H' W' latents. Frames lie in 0..1, strengths too: 0 keep, 1 make.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .patches import Grid, map_to_tokens, tokens_to_map
from .selection import frame_range, latent_frame_of, mask_to_latents

FACTOR = 4  # video frames per latent frame, but for the first
LEAD = 9  # frames of a lead-in: the latent behind it is wrong by 0.8% of its variance; by 22% with none, 2.4% with 5
SOFT = 0.1  # strength of the first latent behind a lead-in: its past is invented, so it may move a little
TOLD = 0.5  # a latent that is given in part has strength 1 less this share of what is given: seen, and free to move
CELL = 8  # pixels: the finest colours that are led over inside of a frame
FADE = 4  # made frames beside given ones whose colours are led over
BEFORE, BEHIND = 9, 8  # frames around an edited span that the model sees: three latents and two

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Timeline:
    """Given frames on a canvas, and what is to be made.

    canvas: (T, H, W, 3), T of the form 4n + 1; what is not given is not looked at. strength: (T, 1 or H, 1 or W).
    keep: likewise, true where the canvas itself is shown. pieces: (first frame, frames) of every given part; each
    begins at frame 0 or at the first frame of a latent. show: first and last + 1 frame that are shown, between the
    frames `before` and `after`, which are the source's and lie outside of the canvas.
    """

    canvas: Tensor
    strength: Tensor
    keep: Tensor
    pieces: tuple[tuple[int, int], ...]
    show: tuple[int, int]
    before: Tensor | None = None
    after: Tensor | None = None

    @property
    def latent_frames(self) -> int:
        return (len(self.canvas) - 1) // FACTOR + 1

    @property
    def goes_forward(self) -> bool:
        """Whether all that is given begins at the first frame: what is new can be made from there on, part by part."""
        return bool(self.pieces) and all(at == 0 for at, _ in self.pieces)

    @property
    def seams(self) -> list[int]:
        """Frames of the finished clip at which made frames begin behind given ones, or given ones behind made ones."""
        lead, tail = (0 if part is None else len(part) for part in (self.before, self.after))
        whole = self.keep.flatten(1).all(1)[slice(*self.show)].tolist()
        given = [True] * lead + whole + [True] * tail
        return [t for t, (one, next_one) in enumerate(pairwise(given), 1) if one != next_one]

    def encode(self, encode: Encode, multiple: int = 16) -> tuple[Tensor, Tensor]:
        """Latents (1, C, T', H', W') of what is given, zero elsewhere, and their strength map (1, 1, T', H', W').

        encode: frames (T, H, W, 3) to latents (1, C, T', H', W'). multiple: the sides it takes, in pixels; other sizes
        are padded with their edge.
        """
        known: Tensor | None = None
        least = torch.zeros(self.latent_frames, 1, 1)
        whole = self.keep.flatten(1).all(1).float()
        most = 1 - TOLD * torch.cat([whole[:1], whole[1:].unflatten(0, (-1, FACTOR)).mean(1)]).view(-1, 1, 1)
        for at, count in self.pieces:
            first, last = latent_frame_of(at), latent_frame_of(at + count - 1)
            open_end = last * FACTOR + 1 - (at + count)  # frames of the last latent that are not given
            frames = _held(pad_sides(self._without_what_is_made(at, count), multiple), count + open_end)
            if at == 0:
                latents = encode(frames)
            else:
                latents = encode(torch.cat([frames[:1].expand(LEAD, *frames.shape[1:]), frames]))
                latents = latents[:, :, latent_frame_of(LEAD) :]
                least[first] = SOFT
            if known is None:
                known = latents.new_zeros(*latents.shape[:2], self.latent_frames, *latents.shape[3:])
            known[:, :, first : first + latents.shape[2]] = latents
        if known is None:
            raise ValueError("nothing is given on this timeline: pin an image, or sample without one")
        pixels = self.strength
        if pixels.shape[1:] != (1, 1):
            pixels = pad_sides(pixels.expand(*self.canvas.shape[:3])[..., None], multiple)[..., 0]
        strength = mask_to_latents(pixels, tuple(known.shape[2:]), FACTOR).clamp(least, most)
        rows = -(-self.canvas.shape[1] // multiple)
        cell = known.shape[3] // rows  # latents per patch: a patch is kept as a whole or not
        grid = Grid.of(tuple(known.shape[2:]), (1, cell, cell))
        return known, tokens_to_map(map_to_tokens(strength[None, None], grid), grid)

    def _without_what_is_made(self, at: int, count: int) -> Tensor:
        """Frames of the canvas. Where a part of a frame is made from noise, what the canvas shows there is painted over
        from around it, so that the latents of what is kept beside it hold nothing of it."""
        frames, free = self.canvas[at : at + count], self.strength[at : at + count] == 1
        some = free.flatten(1).any(1) & ~free.flatten(1).all(1)
        stands_in = self._stands_in(at, count, free.flatten(1).all(1))
        if not some.any() and not stands_in:
            return frames
        frames = frames.clone()
        for t, kept in stands_in.items():
            frames[t] = self.canvas[kept]
        for t in torch.nonzero(some)[:, 0].tolist():
            known = (~free[t]).float()[None, None]
            frames[t] = _painted(frames[t].movedim(-1, 0)[None].float(), known)[0].movedim(0, -1)
        return frames

    def _stands_in(self, at: int, count: int, free: Tensor) -> dict[int, int]:
        """For each of the frames at..at + count that is made from noise (free) and shares its latent with kept ones:
        the nearest of these, which is encoded in its place."""
        whole, found = self.keep.flatten(1).all(1).tolist(), {}
        for t in torch.nonzero(free)[:, 0].tolist():
            last = latent_frame_of(at + t) * FACTOR  # of the frames in its latent
            group = [s for s in range(max(0, last - FACTOR + 1), min(last + 1, len(whole))) if whole[s]]
            if group:
                found[t] = min(group, key=lambda s, t=at + t: abs(s - t))
        return found

    def ramp(self) -> Tensor:
        """Shares (T',) that rise from 0 to 1 over the latents that are made, for a second text."""
        places = torch.nonzero(self.strength.flatten(1).amax(1) > 0)[:, 0]
        first, last = (latent_frame_of(int(places[i])) for i in (0, -1)) if len(places) else (0, 0)
        steps = torch.arange(self.latent_frames) - first + 1
        return (steps / (last - first + 2)).clamp(0, 1)

    def restore(self, made: Tensor) -> Tensor:
        """The finished clip from decoded frames (T, H, W, 3): given frames and pixels bit for bit, colours of the made
        ones led over to them."""
        height, width = self.canvas.shape[1:3]
        if made.shape[0] != len(self.canvas) or made.shape[1] < height or made.shape[2] < width:
            raise ValueError(
                f"frames of shape {tuple(made.shape)}: this timeline has {len(self.canvas)} of {width}x{height}; "
                "decode the latents that it was sampled to"
            )
        made, shifts, first = made[:, :height, :width], self._shifts(made[:, :height, :width]), self.show[0]
        lead, tail = (0 if part is None else len(part) for part in (self.before, self.after))
        out = self.canvas.new_empty(lead + self.show[1] - first + tail, height, width, 3)  # the one copy of it all
        if self.before is not None:
            out[:lead] = self.before
        if self.after is not None:
            out[len(out) - tail :] = self.after
        for t in range(*self.show):
            frame = made[t].to(self.canvas)
            if t in shifts:
                frame = (frame + shifts[t]).clamp(0, 1)
            keep = self.keep[t].expand(height, width)
            if keep.any() and not keep.all():
                frame = (frame + _led_over(self.canvas[t] - frame, keep)).clamp(0, 1)
            out[lead + t - first] = torch.where(keep[..., None], self.canvas[t], frame)
        return out

    def _shifts(self, made: Tensor) -> dict[int, Tensor]:
        """What is added to made frames beside given ones, so that their slow colours move from those of the neighbour
        to their own within a few frames. Fine detail is not carried over: it would stand still where things move."""
        whole = self.keep.flatten(1).all(1)
        level = self.strength.flatten(1).amax(1)
        level = torch.cat([level[:1], level[1:].unflatten(0, (-1, FACTOR)).amax(1).repeat_interleave(FACTOR)])
        shifts: dict[int, list[tuple[float, Tensor]]] = {}  # of a frame, with their shares
        for step in (1, -1):
            for edge in [t for t in range(len(made)) if whole[t] and 0 <= t + step < len(made) and not whole[t + step]]:
                if level[edge] > SOFT:
                    continue  # its latent was made, too: what it differs in is no colour
                shift = _slow(self.canvas[edge] - made[edge].to(self.canvas))
                for i in range(FADE):
                    t = edge + step * (i + 1)
                    if not 0 <= t < len(made) or whole[t]:
                        break
                    shifts.setdefault(t, []).append((1 - (i + 1) / (FADE + 1), shift))
        out = {}
        for t, given in shifts.items():
            total = max(1.0, sum(share for share, _ in given))  # between two neighbours that are near, their mean
            out[t] = torch.stack([share / total * shift for share, shift in given]).sum(0)
        return out

    def pin(self, image: Tensor, frame: int) -> Timeline:
        """With an image (H, W, 3) given at a frame of the finished clip. The latent that covers the frame shows the
        image throughout, but where it holds frames that are given already."""
        lead = 0 if self.before is None else len(self.before)
        new = self.show[1] - self.show[0]
        total = lead + new + (0 if self.after is None else len(self.after))
        place = frame + total if frame < 0 else frame
        if not 0 <= place < total:
            raise ValueError(f"frame {frame} of a clip of {total}: choose 0 to {total - 1}, or -1 for the last")
        if not lead <= place < lead + new:
            raise ValueError(f"frame {frame} is given already; choose from {lead} to {lead + new - 1}, which are made")
        at = place - lead + self.show[0]
        if image.shape[:2] != self.canvas.shape[1:3]:
            raise ValueError(
                f"image of {image.shape[1]}x{image.shape[0]} for a clip of "
                f"{self.canvas.shape[2]}x{self.canvas.shape[1]}: resize it first"
            )
        latent = latent_frame_of(at)
        first, stop = max(0, latent * FACTOR - FACTOR + 1), latent * FACTOR + 1
        kept = self.keep[first:stop].flatten(1)
        if kept[at - first].all():
            raise ValueError(f"frame {frame} is given already; choose one that is made")
        if (kept.any(1) & ~kept.all(1)).any():
            raise ValueError(f"frame {frame} is kept in part, by a mask; pin images where whole frames are made")
        canvas, strength, keep = self.canvas.clone(), self.strength.clone(), self.keep.clone()
        free = ~keep[first:stop].flatten(1).any(1)
        free[at - first] = True
        canvas[first:stop][free], strength[first:stop], keep[at] = image, 0, True
        return replace(self, canvas=canvas, strength=strength, keep=keep, pieces=(*self.pieces, (first, stop - first)))


def empty(frames: int, height: int, width: int) -> Timeline:
    """Nothing given, everything to be made; `pin` images on it."""
    length = _whole(frames)
    nothing = torch.zeros(length, 1, 1, dtype=torch.bool)
    return Timeline(torch.zeros(length, height, width, 3), torch.ones(length, 1, 1), nothing, (), (0, frames))


def extend(frames: Tensor, *, before: int = 0, after: int = 0, overlap: int = 9) -> Timeline:
    """A clip (T, H, W, 3) with new frames before it, after it, or both. overlap: frames the model sees of it; all of
    them where it goes on at both ends, so a long clip is better extended at one end after the other."""
    _check_clip("the clip", frames, 1)
    if min(before, after) < 0 or before + after == 0:
        raise ValueError(f"extend by {before} before and {after} after: at least one has to be above 0, none below")
    _check_overlap(overlap)
    count = len(frames)
    if before and after:
        lead = _whole(before)
        return _joined([(frames, lead)], lead + count + after, (lead - before, lead + count + after))
    if after:
        seen = _whole_below(min(overlap, count))
        return _joined([(frames[count - seen :], 0)], seen + after, (seen, seen + after), before=frames)
    seen, lead = max(FACTOR, min(overlap, count) // FACTOR * FACTOR), _whole(before)
    return _joined([(_held(frames[:seen], seen), lead)], lead + seen, (lead - before, lead), after=frames)


def backward_parts(before: int, length: int, overlap: int, most: int) -> list[int]:
    """New frames of one `extend` backward after another that make `before` in all, each at once with at most `most`
    frames, of a clip of some length, which grows on the way."""
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
            f"from 0 to {most}, so that four frames of each stay"
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
    if not bool(((wanted >= 0) & (wanted <= 1)).all()):
        raise ValueError("strength: 0 keeps, 1 makes anew; every value has to lie from 0 to 1")
    changing = torch.nonzero(wanted.flatten(1).amax(1))[:, 0].tolist() or [0]
    begin, end = max(0, changing[0] - BEFORE), min(count, changing[-1] + 1 + BEHIND)
    lead = (1 - (changing[0] - begin)) % FACTOR if changing[0] else 0  # frames for which a short past stands still
    seen = torch.cat([frames[begin : begin + 1].expand(lead, -1, -1, -1), frames[begin:end]])
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
        _held(seen, length), wanted, wanted == 0, ((0, length),), inside, before=frames[:begin], after=frames[end:]
    )


def levels(
    frames: Tensor, strength: float, *, curve: str = "", first: int = 0, last: int = -1, mask: Tensor | None = None
) -> Tensor:
    """Strengths for `edit`, (T, 1, 1) or (T, H, W): one number or a curve, within a span of frames and within a mask
    (T or 1, H, W). curve: strengths at frames, straight between them, as in `0:0, 8:0.6, 16:1`."""
    total = len(frames)
    begin, end = frame_range(first, last, total)
    out = _curve(curve, total) if curve.strip() else torch.full((total,), float(strength))
    out[:begin], out[end + 1 :] = 0, 0
    out = out[:, None, None]
    if mask is None:
        return out
    if mask.ndim != 3 or mask.shape[0] not in (1, total):
        raise ValueError(f"mask of shape {tuple(mask.shape)}: give one (1, H, W), or one a frame ({total}, H, W)")
    if mask.shape[1:] != frames.shape[1:3]:
        mask = F.interpolate(mask[:, None].float(), size=frames.shape[1:3], mode="nearest-exact")[:, 0]
    masked = out * mask.to("cpu", torch.float32).clamp(0, 1)
    if bool(out.any()) and not bool(masked.any()):
        raise ValueError(
            "mask: it is black wherever the clip may change, so nothing would; white marks what changes. (Load Image "
            "gives a black mask for images without transparency.)"
        )
    return masked


def _curve(text: str, total: int) -> Tensor:
    points: list[tuple[int, float]] = []
    for part in text.replace("\n", ",").split(","):
        if part.strip():
            match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d*\.?\d+)\s*", part)
            if match is None:
                raise ValueError(f"curve: {part.strip()!r} is not FRAME:STRENGTH; write it as in `0:0, 8:0.6, 16:1`")
            if points and int(match[1]) <= points[-1][0]:
                raise ValueError(f"curve: frame {match[1]} does not come after frame {points[-1][0]}")
            points.append((int(match[1]), float(match[2])))
    if not points:
        raise ValueError("curve: there is no point in it; write it as in `0:0, 8:0.6, 16:1`")
    at, values = zip(*points, strict=True)
    return torch.from_numpy(np.interp(np.arange(total), at, values)).float()


# ---- parts


def _whole(frames: int) -> int:
    """The next length of the form 4n + 1."""
    return -(-(frames - 1) // FACTOR) * FACTOR + 1


def _whole_below(frames: int) -> int:
    return (frames - 1) // FACTOR * FACTOR + 1


def _joined(given: list[tuple[Tensor, int]], wanted: int, show: tuple[int, int], **outside: Tensor) -> Timeline:
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
        canvas[at:stop] = _held(frames, stop - at)
        strength[at:stop], keep[at:end] = 0, True
        pieces.append((at, stop - at))
    return Timeline(canvas, strength, keep, tuple(pieces), show, outside.get("before"), outside.get("after"))


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
    return _joined([(a, 0), (_held(b[:head], head), lead)], lead + head, (len(a), lead))


def _held(frames: Tensor, length: int) -> Tensor:
    """Frames whose last one stands until `length`."""
    return torch.cat([frames, frames[-1:].expand(length - len(frames), *frames.shape[1:])]).float()


def pad_sides(frames: Tensor, multiple: int) -> Tensor:
    """Frames (T, H, W, C) whose edges are repeated until both sides are multiples."""
    height, width = frames.shape[1:3]
    down, right = -height % multiple, -width % multiple
    if not (down or right):
        return frames
    return F.pad(frames.movedim(-1, 1), (0, right, 0, down), mode="replicate").movedim(1, -1)


def _slow(difference: Tensor) -> Tensor:
    """An image (H, W, 3) without its fine detail."""
    image = difference.movedim(-1, 0)[None]
    coarse = F.adaptive_avg_pool2d(image, (max(1, image.shape[2] // 32), max(1, image.shape[3] // 32)))
    return F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)[0].movedim(0, -1)


def _painted(image: Tensor, known: Tensor) -> Tensor:
    """An image (1, C, H, W) with what is not known (1, 1, H, W) painted from coarser and coarser means of the rest."""
    if bool(known.all()) or max(image.shape[2:]) == 1:
        return image
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(image * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    coarse = _painted(coarse, (weight > 0).float())
    return torch.where(known > 0, image, F.interpolate(coarse, size=image.shape[2:], mode="bilinear"))


def _led_over(difference: Tensor, keep: Tensor) -> Tensor:
    """What is added to the made pixels of a frame so that their slow colours meet those of the kept ones (H, W) beside
    them: the difference (H, W, 3) of these without its fine detail, less and less with the distance."""
    cells = [max(1, side // CELL) for side in keep.shape]
    both = torch.cat([difference * keep[..., None], keep[..., None].to(difference)], dim=-1).movedim(-1, 0)[None]
    coarse = F.avg_pool2d(F.adaptive_avg_pool2d(both, cells), 3, stride=1, padding=1, count_include_pad=False)
    *colour, share = F.interpolate(coarse, size=keep.shape, mode="bilinear")[0]
    return torch.stack(colour, dim=-1) / share.clamp(min=0.5)[..., None]


def _check_clip(name: str, frames: Tensor, least: int) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"{name} has shape {tuple(frames.shape)}: clips have (T, H, W, 3)")
    if len(frames) < least:
        raise ValueError(f"{name} has {len(frames)} frame{'s' * (len(frames) != 1)}: this takes at least {least}")


def _check_overlap(overlap: int) -> None:
    if overlap < 1:
        raise ValueError(f"overlap {overlap}: the model has to see at least 1 frame")
