"""The procedural world: simple shapes that move, which the bundled model is trained and scored on.

- `scene`: what a clip contains, and how scenes are drawn at random (no pixels)
- `render`: scenes to pixels
- `captions`: scenes to words
- `score`: pixels back to words, without knowing the scene
- `prompts`: free prompts, and clips, to canonical captions
"""

from .captions import canonical, corpus, draw_caption, paraphrase, rich, short
from .prompts import apart, describe, expand, warning
from .render import mask, render
from .scene import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SCENES,
    SHAPES,
    SIZES,
    SPEEDS,
    STYLES,
    Scene,
    Thing,
    check_words,
    held_out_combination,
    is_visible,
    sample_scene,
    scene_of,
)
from .score import Analysis, WallAnalysis, analyse, analyse_two, analyse_wall, follow, one_thing, score

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "MOTIONS",
    "SCENES",
    "SHAPES",
    "SIZES",
    "SPEEDS",
    "STYLES",
    "Analysis",
    "Scene",
    "Thing",
    "WallAnalysis",
    "analyse",
    "analyse_two",
    "analyse_wall",
    "apart",
    "canonical",
    "check_words",
    "corpus",
    "describe",
    "draw_caption",
    "expand",
    "follow",
    "held_out_combination",
    "is_visible",
    "mask",
    "one_thing",
    "paraphrase",
    "render",
    "rich",
    "sample_scene",
    "scene_of",
    "score",
    "short",
    "warning",
]
