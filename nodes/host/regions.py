"""Texts for parts of the frame as the host's areas, which it cuts out of the latents and mixes again."""

from __future__ import annotations

from typing import Any

from ...sora_core.patches import Grid
from ...sora_core.regions import Box, halves, placed

REGIONS = "sora_regions"  # key of a CONDITIONING: entries for parts of the frame, each with its place
Entry = list[Any]  # of a CONDITIONING: features, and a dict of options
Place = Box | int  # or the number of a half, 0 or 1, whichever way the frame is parted


def with_region(rest: list[Entry], text: list[Entry], place: Place) -> list[Entry]:
    """A CONDITIONING with one more text, which stands in its place instead of the others."""
    added = [(_alone(entry), place) for entry in text]
    return [[features, options | {REGIONS: [*options.get(REGIONS, []), *added]}] for features, options in rest]


def as_areas(positive: list[Entry], negative: list[Entry], grid: Grid) -> tuple[list[Entry], list[Entry]]:
    """Both CONDITIONINGs with every region as an area of the latents; the negative is read in the same areas."""
    if not any(options.get(REGIONS) for _, options in positive):
        return positive, negative
    frames, height, width = grid.latent_shape
    made: list[Entry] = []
    areas: dict[tuple[int, ...], dict[str, Any]] = {}
    for entry in positive:
        regions = [
            (text, place if isinstance(place, Box) else halves(grid.w, grid.h)[place])
            for text, place in entry[1].get(REGIONS, [])
        ]
        for (features, options), window, weight in placed(_alone(entry), regions, grid):
            size = window.bottom - window.top, window.right - window.left
            area = (frames, *size, 0, window.top, window.left)
            areas[area] = {"strength": weight} | ({} if size == (height, width) else {"area": area})
            made.append([features, options | areas[area]])
    return made, [[features, options | area] for features, options in negative for area in areas.values()]


def _alone(entry: Entry) -> Entry:
    features, options = entry
    return [features, {key: value for key, value in options.items() if key != REGIONS}]
