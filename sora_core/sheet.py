"""Contact sheets: pictures of clips, for looking at them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .video import check_frames, to_bytes

_GAP, _PAPER, _INK = 2, (24, 24, 24), (235, 235, 235)  # pixels between pictures, and the sheet's colours


def contact_sheet(clips: Sequence[Tensor], labels: Sequence[str] | None = None, frames_per_clip: int = 8) -> Tensor:
    """A picture of clips: one row each, its frames evenly spaced from the first to the last.

    Args:
        clips: each (T, H, W, 3) in 0..1, of any length and size; nothing is scaled.
        labels: text above each row.
        frames_per_clip: columns; a shorter clip shows all its frames.

    Returns:
        (1, H, W, 3), float32 in 0..1: `write_video` writes it to a .png.

    Raises:
        ValueError: no clips, not one label per clip, a clip of the wrong shape or range.
    """
    if not clips or (labels is not None and len(labels) != len(clips)):
        raise ValueError(f"a contact sheet needs clips and one label each, got {len(clips)} and {len(labels or ())}")
    if frames_per_clip < 1:
        raise ValueError(f"frames_per_clip is {frames_per_clip}; it must be at least 1")
    rows: list[Image.Image] = []
    for number, clip in enumerate(clips):
        check_frames(clip, f"clips[{number}]")
        chosen = torch.linspace(0, len(clip) - 1, min(frames_per_clip, len(clip))).round().long()
        rows.append(_strip([Image.fromarray(image) for image in to_bytes([clip[chosen.to(clip.device)]])]))
    width = max(row.width for row in rows)
    if labels is not None:
        rows = [part for label, row in zip(labels, rows, strict=True) for part in (_caption(label, width), row)]
    sheet = Image.new("RGB", (width, sum(row.height + _GAP for row in rows) - _GAP), _PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + _GAP
    return torch.from_numpy(np.array(sheet)).float().div(255)[None]


def _strip(images: list[Image.Image]) -> Image.Image:
    step = images[0].width + _GAP
    strip = Image.new("RGB", (step * len(images) - _GAP, images[0].height), _PAPER)
    for column, image in enumerate(images):
        strip.paste(image, (column * step, 0))
    return strip


def _caption(text: str, width: int) -> Image.Image:
    """`text` wrapped to `width` pixels."""
    font = ImageFont.load_default()
    letters = int((width - 4) / font.getlength("n"))
    wrapped = textwrap.fill(text, max(1, letters))
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((2, 2), wrapped, font=font)
    caption = Image.new("RGB", (width, int(box[3]) + 3), _PAPER)
    ImageDraw.Draw(caption).multiline_text((2, 2), wrapped, fill=_INK, font=font)
    return caption
