"""How a clip moves, and how it goes on if it goes on moving so.

Motion here is one translation of whatever changes, fitted coarse to fine (Lucas and Kanade 1981). Against the
procedural world's true motion it is within half a pixel of 96 where things travel, over scenes too, and next to none
where they spin, grow or where only waves roll.

Letters: T frames, H W pixels. Frames lie in 0..1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

_COARSEST = 12  # least shorter side of the pyramid, pixels
_STEPS = 6  # of the fit, per level, of a pixel at most
_MOVES = 0.25  # of the largest change in a frame: where something moves, not where noise flickers


def translation(a: Tensor, b: Tensor) -> Tensor:
    """The one displacement (x, y) in pixels of what changes from frame a to frame b, each (H, W, 3).

    Only changed places count, so a still background does not hold things back. What no translation explains (spinning,
    growing, waves, noise, a cut) counts as no motion: from a quarter of the squared change explained, where the motion
    begins to count, to three quarters, where it counts fully.
    """
    levels = [(a.movedim(-1, 0)[None], b.movedim(-1, 0)[None])]  # 1 3 H W
    while min(levels[-1][0].shape[2:]) >= 2 * _COARSEST:
        a, b = (F.avg_pool2d(image, 2) for image in levels[-1])
        levels.append((a, b))
    shift = torch.zeros(2)
    for a, b in reversed(levels):
        shift, moving = 2 * shift, _moving(a, b)
        for _ in range(_STEPS):
            moved, inside = shifted(b, shift)
            step = _fit(a, moved, moving & inside)
            shift = shift + step / step.norm().clamp(min=1)
    moved, inside = shifted(b, shift)
    weight = (moving & inside).float()
    before, after = (((a - image).square() * weight).sum() for image in (b, moved))
    explained = 1 - after / before.clamp(min=1e-12)
    return shift * (2 * explained - 0.5).clamp(0, 1)


def _moving(a: Tensor, b: Tensor) -> Tensor:
    """Places (1, 1, H, W) that change, from images (1, 3, H, W)."""
    change = F.avg_pool2d((a - b).abs().amax(1, keepdim=True), 3, 1, 1)
    some = change.flatten()[:: 1 + change.numel() // 2**22]  # quantiles of more than 2**24 values are refused
    return change > max(_MOVES * float(some.quantile(0.99)), 1 / 255)


def shifted(image: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """An image (1, 3, H, W) sampled `shift` (x, y) pixels away, and the places (H, W) where that lies inside it."""
    height, width = image.shape[2:]
    x, y = torch.arange(width) + 0.5 + shift[0], torch.arange(height) + 0.5 + shift[1]
    places = torch.stack(torch.meshgrid(x * 2 / width - 1, y * 2 / height - 1, indexing="xy"), -1)  # H W 2
    inside = (places.abs() <= 1).all(-1)
    return F.grid_sample(image, places[None], padding_mode="border", align_corners=False), inside


def _fit(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """The small displacement (x, y) from a to b, images (1, 3, H, W), by least squares over the marked places."""
    padded = F.pad((a + b) / 2, (1, 1, 1, 1), mode="replicate")
    slopes = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    gradient = (torch.stack(slopes, -1) / 2 * where[..., None]).flatten(0, -2)  # pixels 2
    normal = gradient.T @ gradient
    normal = normal + (0.01 * normal.trace() + 1e-9) * torch.eye(2)  # an edge alone says nothing of motion along it
    return torch.linalg.solve(normal, gradient.T @ (a - b).flatten())


STEADY = 0.05  # of the change within a clip: most that its motion may leave unexplained; true ones leave 0.02
LEAST = 5  # frames that tell a steady motion from a chance
MOST = 256  # pixels of the shorter side at which motion is measured


@torch.no_grad()
def carried_on(frames: Tensor, count: int) -> Tensor | None:
    """`count` frames behind a clip (T, H, W, 3) that go on as it moves: its last frame, moved further each time, its
    edge repeated. None where the clip is short or stands still, and where one steady motion of the whole frame does not
    explain it: where things turn, grow or bounce, or move in front of something that shows."""
    if len(frames) < LEAST:
        return None
    half, factor = len(frames) // 2, max(1.0, min(frames.shape[1:3]) / MOST)
    small = [_reduced(frame, factor) for frame in frames]
    pace = torch.stack([translation(a, b) for a, b in pairwise(small)]).median(0).values
    middle, last = (small[i].movedim(-1, 0)[None] for i in (half, -1))
    moved, inside = shifted(middle, -pace * (len(frames) - 1 - half))
    changed, unexplained = (_unlike(image, last, inside) for image in (middle, moved))
    if pace.norm() < 0.1 or unexplained > STEADY * changed:
        return None
    last = frames[-1].to("cpu", torch.float32).movedim(-1, 0)[None]
    return torch.cat([shifted(last, -pace * factor * (i + 1))[0] for i in range(count)]).movedim(1, -1).to(frames)


def _reduced(frame: Tensor, factor: float) -> Tensor:
    """A frame (H, W, 3) at a part of its size, in float32."""
    image = frame.to("cpu", torch.float32).movedim(-1, 0)[None]
    size = [round(side / factor) for side in image.shape[2:]]
    return F.interpolate(image, size, mode="area")[0].movedim(0, -1) if factor > 1 else image[0].movedim(0, -1)


def _unlike(a: Tensor, b: Tensor, where: Tensor) -> float:
    """Mean difference of images (1, 3, H, W) at marked places (H, W), but for what a shift by part of a pixel blurs."""
    return float((F.avg_pool2d(a - b, 3, 1, 1).abs() * where).mean())
