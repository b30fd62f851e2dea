"""Texts for parts of the frame as the host's areas, which it cuts out of the latents and mixes again."""

from __future__ import annotations

from typing import Any

import torch

from ...sora_core.patches import Grid
from ...sora_core.regions import Box, Window, placed
from ...sora_core.selection import mask_to_map

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
    places = [_placed_texts(entry, grid, halves) for entry in positive]
    parted = any(len(texts) > 1 for texts in places)
    negative = [[features, _masked("negative", options, grid, parted)] for features, options in negative]
    made: list[Entry] = []
    against: dict[Window, float] = {}
    for entry, texts in zip(positive, places, strict=True):
        outer = entry[1].get("strength", 1.0)
        for text, window, weight in texts:
            features, own = (entry[0], {}) if text is None else text
            options = _masked("positive", _alone(entry)[1] | own, grid, parted)
            made.append([features, _within(window, grid, options) | {"strength": outer * weight}])
            against[window] = weight
    if not parted:
        return made, negative
    return made, [
        [features, _within(window, grid, options) | {"strength": weight}]
        for features, options in negative
        for window, weight in against.items()
    ]


def _placed_texts(entry: Entry, grid: Grid, halves: list[Box]) -> list[tuple[Entry | None, Window, float]]:
    regions = [
        (text, place if isinstance(place, Box) else halves[place])
        for text, place, rest in entry[1].get(REGIONS, [])
        if isinstance(place, Box) or (halves and torch.equal(rest.to(entry[0]), entry[0]))
    ]
    return placed(regions, grid)


def _masked(name: str, options: dict[str, Any], grid: Grid, parted: bool) -> dict[str, Any]:
    """Options of a text whose mask is one of latents (T, H, W): the host brings no times to latents, and cuts areas out
    of no other masks."""
    mask = options.get("mask")
    if mask is None or not (parted or len(mask) > 1):
        return options
    try:
        return options | {"mask": mask_to_map(mask, 1, grid.latent_shape)[0, 0].to(mask)}
    except ValueError as error:
        raise ValueError(f"{name}: {error}; a Sora Prompt Ramp takes the latent that is sampled") from None


def _within(window: Window, grid: Grid, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a text in an area, none where that is the whole frame. A mask fades towards its edges inside the
    frame: the host fades areas without a mask alone."""
    frames, height, width = grid.latent_shape
    size = window.bottom - window.top, window.right - window.left
    if size == (height, width):
        return options
    options = options | {"area": (frames, *size, 0, window.top, window.left)}
    if "mask" in options:
        weights = torch.ones(height, width)
        window.cut(weights).copy_(window.weights(height, width))
        options["mask"] = options["mask"] * weights.to(options["mask"])
    return options


def _alone(entry: Entry) -> Entry:
    features, options = entry
    return [features, {key: value for key, value in options.items() if key != REGIONS}]
