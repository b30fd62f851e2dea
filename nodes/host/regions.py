"""Texts for parts of the frame as the host's areas, which it cuts out of the latents and mixes again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ...sora_core.patches import Grid
from ...sora_core.regions import Box, Window, placed

REGIONS = "sora_regions"  # key of a CONDITIONING: texts for parts of the frame, their places, the text of the rest
Entry = list[Any]  # of a CONDITIONING: features, and a dict of options
Place = Box | int  # or the number of a half, 0 or 1, whichever way the frame is parted


def with_region(rest: list[Entry], text: list[Entry], place: Place) -> list[Entry]:
    """A CONDITIONING with one more text, which stands in its place instead of the others. A box takes the place of
    halves; a text that has places of its own is read as one."""
    out = []
    for features, options in rest:
        others = [one for one in options.get(REGIONS, []) if isinstance(one[1], Box) == isinstance(place, Box)]
        out.append([features, options | {REGIONS: [*others, *((_alone(entry), place, features) for entry in text)]}])
    return out


def as_areas(
    positive: list[Entry], negative: list[Entry], grid: Grid, halves: list[Box]
) -> tuple[list[Entry], list[Entry]]:
    """Both CONDITIONINGs with every region as an area of the latents; the negative is read in the same areas. halves:
    the two boxes of numbered places, or none, where such texts are read as one; so they are where a node has changed
    the text since, which its halves know nothing of."""
    frames, height, width = grid.latent_shape
    made: list[Entry] = []
    against: dict[tuple[int, ...], dict[str, Any]] = {}
    for entry in positive:
        outer = entry[1].get("strength", 1.0)
        regions = [
            (text, place if isinstance(place, Box) else halves[place])
            for text, place, rest in entry[1].get(REGIONS, [])
            if isinstance(place, Box) or (halves and torch.equal(rest.to(entry[0]), entry[0]))
        ]
        for text, window, weight in placed(regions, grid):
            features, own = (entry[0], {}) if text is None else text
            size = window.bottom - window.top, window.right - window.left
            area = (frames, *size, 0, window.top, window.left)
            place: dict[str, Any] = {} if size == (height, width) else {"area": area}
            options = _alone(entry)[1] | own | place | {"strength": outer * weight}
            if place and "mask" in options:
                options["mask"] = _faded(options["mask"], window, height, width)
            made.append([features, options])
            against[area] = place | {"strength": weight}
    if not any("area" in place for place in against.values()) and len(made) == len(positive):
        return made, negative
    return made, [[features, options | place] for features, options in negative for place in against.values()]


def _faded(mask: torch.Tensor, window: Window, height: int, width: int) -> torch.Tensor:
    """A mask (T or 1, H, W), of latents or of pixels, that fades towards a window's edges inside the frame: the host
    fades areas without a mask alone."""
    weights = torch.ones(height, width)
    window.cut(weights).copy_(window.weights(height, width))
    return mask * F.interpolate(weights[None, None], mask.shape[-2:])[0].to(mask)


def _alone(entry: Entry) -> Entry:
    features, options = entry
    return [features, {key: value for key, value in options.items() if key != REGIONS}]
