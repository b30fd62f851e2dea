"""What is done to frames where they end: sides that are padded, a last frame that stands, and colours that are painted
into what is not known or led over into what is beside it.

Frames are (T, H, W, C) in 0..1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FADE = 4  # made frames beside given ones whose colours are led over
CELL = 8  # pixels: the finest colours that are led over inside of a frame


def held(frames: Tensor, length: int) -> Tensor:
    """Frames whose last one stands until `length`."""
    if len(frames) == length:
        return frames.float()
    return torch.cat([frames, frames[-1:].expand(length - len(frames), *frames.shape[1:])]).float()


def pad_sides(frames: Tensor, multiple: int) -> Tensor:
    """Frames (T, H, W, C) whose edges are repeated until both sides are multiples."""
    height, width = frames.shape[1:3]
    down, right = -height % multiple, -width % multiple
    if not (down or right):
        return frames
    return F.pad(frames.movedim(-1, 1), (0, right, 0, down), mode="replicate").movedim(1, -1)


def slow_colours(difference: Tensor) -> Tensor:
    """An image (H, W, 3) without its fine detail."""
    image = difference.movedim(-1, 0)[None]
    coarse = F.adaptive_avg_pool2d(image, (max(1, image.shape[2] // 32), max(1, image.shape[3] // 32)))
    return F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)[0].movedim(0, -1)


def faded(frames: Tensor, shift: Tensor) -> Tensor:
    """Frames with a shift of colours (H, W, 3), less of it from each of the first few to the next."""
    count = min(FADE, len(frames))
    shares = (1 - (torch.arange(count) + 1) / (FADE + 1)).view(-1, 1, 1, 1)
    return torch.cat([(frames[:count] + shares * shift).clamp(0, 1), frames[count:]])


def painted(image: Tensor, known: Tensor) -> Tensor:
    """An image (1, C, H, W) with what is not known (1, 1, H, W) painted from coarser and coarser means of the rest."""
    if bool(known.all()) or max(image.shape[2:]) == 1:
        return image
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(image * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    coarse = painted(coarse, (weight > 0).float())
    return torch.where(known > 0, image, F.interpolate(coarse, size=image.shape[2:], mode="bilinear"))


def led_over(difference: Tensor, keep: Tensor) -> Tensor:
    """What is added to the made pixels of a frame so that their slow colours meet those of the kept ones (H, W) beside
    them: the difference (H, W, 3) of these without its fine detail, less and less with the distance."""
    cells = [max(1, side // CELL) for side in keep.shape]
    both = torch.cat([difference * keep[..., None], keep[..., None].to(difference)], dim=-1).movedim(-1, 0)[None]
    coarse = F.avg_pool2d(F.adaptive_avg_pool2d(both, cells), 3, stride=1, padding=1, count_include_pad=False)
    *colour, share = F.interpolate(coarse, size=keep.shape, mode="bilinear")[0]
    return torch.stack(colour, dim=-1) / share.clamp(min=0.5)[..., None]
