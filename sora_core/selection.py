"""Choosing places of a clip by frames, by a box and by a mask, on the grid of its latents.

Time is causal: latent frame 0 covers video frame 0, each later one covers `time_factor` frames.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .patches import Grid, Patches, map_to_tokens


def count_frames(latent_frames: int, time_factor: int = 4) -> int:
    """Video frames that so many latent frames decode to."""
    return (latent_frames - 1) * time_factor + 1


def latent_frame_of(frame: int, time_factor: int = 4) -> int:
    """Latent frame that covers a video frame."""
    return -(-frame // time_factor)


def frame_range(first: int, last: int, total: int) -> tuple[int, int]:
    """First and last frame of a range in a clip of `total` frames; negative ones count from the end.

    Raises ValueError where the range is empty or leaves the clip.
    """
    begin, end = (index + total if index < 0 else index for index in (first, last))
    if 0 <= end < begin < total:
        raise ValueError(f"frames {first} to {last} of a clip of {total}: the first of them comes after the last")
    if not 0 <= begin <= end < total:
        raise ValueError(f"frames {first} to {last} of a clip of {total}: choose 0 to {total - 1}, or -1 for the last")
    return begin, end


def select_frames(latent_frames: int, first: int, last: int, time_factor: int = 4) -> Tensor:
    """Ones (T,) where a latent frame covers any of the video frames first..last, as in `frame_range`."""
    begin, end = frame_range(first, last, count_frames(latent_frames, time_factor))
    chosen = torch.zeros(latent_frames)
    chosen[latent_frame_of(begin, time_factor) : latent_frame_of(end, time_factor) + 1] = 1
    return chosen


def check_box(left: float, top: float, right: float, bottom: float) -> None:
    """Raises ValueError where the sides of a box, as fractions of the frame, are not in order."""
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"box {left:g}, {top:g} to {right:g}, {bottom:g}: left lies below right, top below bottom, all in 0..1"
        )


def select_box(height: int, width: int, left: float, top: float, right: float, bottom: float) -> Tensor:
    """Ones (H, W) where a latent place touches the box, whose sides are fractions of the frame."""
    check_box(left, top, right, bottom)
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows = ((rows + 1) > top * height) & (rows < bottom * height)
    inside_columns = ((columns + 1) > left * width) & (columns < right * width)
    return (inside_rows[:, None] & inside_columns).float()


def mask_to_latents(mask: Tensor, latent_shape: tuple[int, int, int], time_factor: int = 4) -> Tensor:
    """A mask (F, H, W) of pixels in 0..1 to latents (T, H', W'): the largest value that a latent place covers.

    F is 1, for every frame (as is a mask (H, W)), or the clip's number of frames; H and W may be any, the mask is
    stretched to the frame.
    """
    latent_frames, height, width = latent_shape
    total = count_frames(latent_frames, time_factor)
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or mask.shape[0] not in (1, total):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)}: expected (1, H, W) for the whole clip or ({total}, H, W), one a frame"
        )
    mask = F.adaptive_max_pool2d(mask.to("cpu", torch.float32), (height, width)).clamp(0, 1)
    if mask.shape[0] == 1:
        return mask.expand(latent_frames, -1, -1)
    later = mask[1:].unflatten(0, (-1, time_factor)).amax(1) if latent_frames > 1 else mask[1:]
    return torch.cat([mask[:1], later])


def mask_to_map(mask: Tensor, clips: int, latent_shape: tuple[int, int, int], time_factor: int = 4) -> Tensor:
    """A mask as a strength map (1 or B, 1, T, H', W') for a batch of so many clips.

    mask: (H, W), (N, H, W), (N, 1, H, W) or (1 or B, 1, N, H, W); N is 1 for the whole clip, T for one a latent frame,
    or the clip's number of frames; H and W may be any. Raises ValueError where it is none of these.
    """
    frames, height, width = latent_shape
    total = count_frames(frames, time_factor)
    laid = mask
    if mask.ndim in (2, 3) or (mask.ndim == 4 and mask.shape[1] == 1):
        laid = mask.reshape(1, 1, -1, *mask.shape[-2:])
    if laid.ndim != 5 or laid.shape[:2] not in ((1, 1), (clips, 1)) or laid.shape[2] not in (1, frames, total):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)}: this clip takes one (1, H, W), one a latent frame ({frames}, H, W) or "
            f"one a frame ({total}, H, W)"
        )

    def of_clip(masks: Tensor) -> Tensor:
        if len(masks) == frames:
            return torch.cat([mask_to_latents(one, (1, height, width)) for one in masks])
        return mask_to_latents(masks, latent_shape, time_factor)

    return torch.stack([of_clip(masks) for masks in laid[:, 0]])[:, None]


def set_strength(patches: Patches, strength: float, chosen: Tensor) -> Patches:
    """Patches whose strength is `strength` where chosen (T, H, W) is 1, theirs where it is 0, blended between."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength:g}: 0 keeps a patch, 1 makes it from noise; choose from 0 to 1")
    weight = map_to_tokens(chosen[None, None], patches.grid)
    return replace(patches, strength=torch.lerp(patches.strength, torch.full_like(patches.strength, strength), weight))


def select(
    grid: Grid,
    first: int = 0,
    last: int = -1,
    box: tuple[float, float, float, float] = (0, 0, 1, 1),
    mask: Tensor | None = None,
    time_factor: int = 4,
) -> Tensor:
    """Places (T, H, W) in 0..1 that lie in the frames and in the box (left, top, right, bottom) and in the mask."""
    frames, height, width = grid.latent_shape
    chosen = select_frames(frames, first, last, time_factor)[:, None, None] * select_box(height, width, *box)
    return chosen if mask is None else chosen * mask_to_latents(mask, grid.latent_shape, time_factor)
