"""A clip under construction: which frames are given, where they stand, and what of them comes back bit for bit.

Every task of the pack (`tasks.py`) is a timeline: given frames on a canvas, a strength per frame or pixel, and the part
of it that is new. Time is causal: latent frame 0 covers one video frame, every later one covers four. So frames that
stand later than the beginning are encoded behind a lead-in, their first frame standing still, which the encoder takes
for the past.

Shapes: T frames, H W pixels, C channels, T' H' W' latents. Frames lie in 0..1, strengths too: 0 keep, 1 make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby, pairwise

import torch
from torch import Tensor

from .edges import FADE, held, led_over, pad_sides, painted, slow_colours
from .fingerprint import digest
from .patches import Grid, map_to_tokens, tokens_to_map
from .selection import latent_frame_of, mask_to_latents

FACTOR = 4  # video frames per latent frame, but for the first
LEAD = 9  # frames of a lead-in: the latent behind it is wrong by 0.8% of its variance; by 22% with none, 2.4% with 5
SOFT = 0.1  # strength of the first latent behind a lead-in: its past is invented, so it may move a little
TOLD = 0.5  # a latent that is given in part has strength 1 less this share of what is given: seen, and free to move

Encode = Callable[[Tensor], Tensor]


def check_factor(factor: int) -> None:
    """Raises ValueError where a VAE's latent frames do not cover what a timeline's do."""
    if factor != FACTOR:
        raise ValueError(
            f"the VAE has {factor} frames in a latent frame, and tasks are laid out for {FACTOR}: take a model whose "
            f"VAE has {FACTOR}"
        )


@dataclass(frozen=True)
class Timeline:
    """Given frames on a canvas, and what is to be made.

    canvas: (T, H, W, 3), T of the form 4n + 1; what is not given is not looked at. strength: (T, 1 or H, 1 or W).
    keep: likewise, true where the canvas itself is shown. pieces: (first frame, frames) of every given part; each
    begins at frame 0 or at the first frame of a latent. show: first and last + 1 frame that are shown, between the
    frames `before` and `after`, which are the source's and lie outside of the canvas. leads_up: what is new only
    leads up to what follows, even where the canvas begins with a guess of it. guess: first and last + 1 frame of the
    canvas that were worked out from what is given.
    """

    canvas: Tensor
    strength: Tensor
    keep: Tensor
    pieces: tuple[tuple[int, int], ...]
    show: tuple[int, int]
    before: Tensor | None = None
    after: Tensor | None = None
    leads_up: bool = False
    guess: tuple[int, int] = (0, 0)

    @property
    def latent_frames(self) -> int:
        return (len(self.canvas) - 1) // FACTOR + 1

    @property
    def goes_forward(self) -> bool:
        """Whether all that is given begins at the first frame, and what is new does not only lead up to what follows:
        then it can be made from there on, part by part."""
        return bool(self.pieces) and all(at == 0 for at, _ in self.pieces) and not self.leads_up

    @property
    def seams(self) -> list[int]:
        """Frames of the finished clip at which made frames begin behind given ones, or given ones behind made ones."""
        lead, tail = (0 if part is None else len(part) for part in (self.before, self.after))
        whole = self.keep.flatten(1).all(1)[slice(*self.show)].tolist()
        given = [True] * lead + whole + [True] * tail
        return [t for t, (one, next_one) in enumerate(pairwise(given), 1) if one != next_one]

    def spans(self, strength: Tensor) -> list[tuple[int, float | None]]:
        """The finished clip as (frames, how strongly they are made), one after the other: None where they come back
        bit for bit, else the most of their latents. strength: (1, 1, T', H', W'), as `encode` gives it."""
        lead, tail = (0 if part is None else len(part) for part in (self.before, self.after))
        level = strength.amax((0, 1, 3, 4))
        level = torch.cat([level[:1], level[1:].repeat_interleave(FACTOR)])[slice(*self.show)].tolist()
        whole = self.keep.flatten(1).all(1)[slice(*self.show)].tolist()
        made = [None if kept else round(value, 3) for kept, value in zip(whole, level, strict=True)]
        return [(len(list(same)), value) for value, same in groupby([None] * lead + made + [None] * tail)]

    def fingerprint(self) -> str:
        """Tells this task from others by what is given, bit for bit; not by latents and guesses, whose last bits depend
        on the machine."""
        first, last = self.guess
        given = digest(self.canvas[:first], self.canvas[last:])
        parts = [given, digest(self.strength), digest(self.keep), repr((self.pieces, self.show, self.guess))]
        return sha256(" ".join(parts).encode()).hexdigest()[:16]

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
            frames = held(pad_sides(self._without_what_is_made(at, count), multiple), count + open_end)
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
        stands_in = self._stands_in(at, free.flatten(1).all(1))
        if not some.any() and not stands_in:
            return frames
        frames = frames.clone()
        for t, kept in stands_in.items():
            frames[t] = self.canvas[kept]
        for t in torch.nonzero(some)[:, 0].tolist():
            known = (~free[t]).float()[None, None]
            frames[t] = painted(frames[t].movedim(-1, 0)[None].float(), known)[0].movedim(0, -1)
        return frames

    def _stands_in(self, at: int, free: Tensor) -> dict[int, int]:
        """For each of the frames from `at` on that is made from noise (free) and shares its latent with kept ones:
        the nearest of these, which is encoded in its place."""
        whole, found = self.keep.flatten(1).all(1).tolist(), {}
        for t in torch.nonzero(free)[:, 0].tolist():
            last = latent_frame_of(at + t) * FACTOR  # of the frames in its latent
            group = [s for s in range(max(0, last - FACTOR + 1), min(last + 1, len(whole))) if whole[s]]
            if group:
                found[t] = min(group, key=lambda s, t=at + t: abs(s - t))
        return found

    def ramp(self) -> Tensor:
        """Shares (T',) that rise from 0 to 1 over the latents that are made, for a second text. Strengths up to SOFT,
        as where a clip begins again, count only where there are no others."""
        level = self.strength.flatten(1).amax(1)
        places = torch.nonzero(level > (SOFT if level.max() > SOFT else 0))[:, 0]
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
                frame = (frame + led_over(self.canvas[t] - frame, keep)).clamp(0, 1)
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
                shift = slow_colours(self.canvas[edge] - made[edge].to(self.canvas))
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
        canvas[first:stop][free], strength[first:stop], keep[at] = image, 0, True
        return replace(self, canvas=canvas, strength=strength, keep=keep, pieces=(*self.pieces, (first, stop - first)))
