"""Clips of the procedural world as material: what sora-mini knows, ready to be encoded and edited."""

from __future__ import annotations

import numpy as np

from ..sora_core.config import SamplingDefaults, check_size
from ..sora_core.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SCENES,
    SHAPES,
    SIZES,
    STYLES,
    check_words,
    render,
    scene_of,
)
from . import host
from .empty import size_fits
from .host import io

MOST_SIDE, MOST_FRAMES = 1024, 1025


class SoraWorldClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": SamplingDefaults().width, "min": 16, "max": MOST_SIDE, "step": 16}
        return io.Schema(
            node_id="SoraWorldClip",
            display_name="Sora World Clip",
            category="Sora/material",
            description="Renders a clip of the procedural world that sora-mini was trained on: material to encode and "
            "edit without a file of your own.",
            inputs=[
                io.Combo.Input("shape", options=list(SHAPES), tooltip="What moves."),
                io.Combo.Input("colour", options=list(COLOURS), tooltip="Its colour."),
                io.Combo.Input("motion", options=list(MOTIONS), tooltip="What it does over the whole clip."),
                io.Combo.Input("background", options=[*BACKGROUNDS, *SCENES], default="sky", tooltip="Where it is."),
                io.Combo.Input("size", options=list(SIZES), default="medium", tooltip="How large it is."),
                io.Combo.Input("style", options=list(STYLES), tooltip="How it is drawn."),
                io.Int.Input("width", **side, tooltip="Pixels, a multiple of 16."),
                io.Int.Input("height", **side, tooltip="Pixels, a multiple of 16."),
                io.Int.Input(
                    "frames", default=17, min=1, max=MOST_FRAMES, step=4, tooltip="Frames, 4n + 1, meant for 12 fps."
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**63 - 1, control_after_generate=True,
                    tooltip="Draws place, size and phase.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The frames of the clip.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls,
        shape: str | None = None,
        colour: str | None = None,
        motion: str | None = None,
        background: str | None = None,
        style: str | None = None,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
    ) -> bool | str:
        fits = host.accepts(check_words, shape, colour, motion, background, style)
        if fits is not True:
            return fits
        return size_fits(width, height, frames, most_side=MOST_SIDE, most_frames=MOST_FRAMES)

    @classmethod
    def execute(
        cls,
        shape: str,
        colour: str,
        motion: str,
        background: str,
        size: str,
        style: str,
        width: int,
        height: int,
        frames: int,
        seed: int,
    ) -> io.NodeOutput:
        check_size(width, height, frames, 16, 4, sides=(16, MOST_SIDE), most_frames=MOST_FRAMES)
        rng = np.random.default_rng(seed)
        scene = scene_of(shape, colour, motion, background, style, size, rng=rng, aspect=width / height)
        return io.NodeOutput(render(scene, frames, height, width))
