"""An empty canvas of any size, aspect and length."""

from __future__ import annotations

import torch

from ..sora_core.config import MOST_SIDE, SamplingDefaults, check_size
from . import host
from .host import io

LAYOUT = 16, 4, 8  # channels, frames and pixels per latent: sora-mini and Wan 2.1
PATCH = 2  # latents per token along a side
MOST_FRAMES = 16381
DEFAULTS = SamplingDefaults()
SIDE = f"Pixels, a multiple of 16. sora-mini was made for {DEFAULTS.width} and runs from 64 to 256."


def size_fits(
    width: int | None, height: int | None, frames: int | None, *, most_side: int, most_frames: int
) -> bool | str:
    """True, or what is wrong with a size, for a node's `validate_inputs`; a linked input is not known yet: None."""
    width, height, frames = (least if x is None else x for x, least in ((width, 16), (height, 16), (frames, 1)))
    try:
        check_size(width, height, frames, 16, 4, sides=(16, most_side), most_frames=most_frames)
    except ValueError as error:
        return str(error)
    return True


class SoraEmptyVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": DEFAULTS.width, "min": 16, "max": MOST_SIDE, "step": 16}
        return io.Schema(
            node_id="SoraEmptyVideo",
            display_name="Sora Empty Video",
            category="Sora/latent",
            description="Latents of a clip that is to be made from noise. One frame makes an image.",
            inputs=[
                io.Int.Input("width", **side, tooltip=SIDE),
                io.Int.Input("height", **side, tooltip=SIDE),
                io.Int.Input(
                    "frames", default=17, min=1, max=MOST_FRAMES, step=4,
                    tooltip="Frames of the clip, 4n + 1: 1, 5, 9 ... sora-mini was made for 17, at 12 a "
                    "second, and runs up to 33.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many clips are made at once."),
                io.Vae.Input(
                    "vae", optional=True, tooltip="VAE the latents are for, where it is not 16 channels of 8 pixels."
                ),
            ],
            outputs=[io.Latent.Output(tooltip="Empty latents (B, C, T, H, W).")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, width: int | None = None, height: int | None = None, frames: int | None = None
    ) -> bool | str:
        return size_fits(width, height, frames, most_side=MOST_SIDE, most_frames=MOST_FRAMES)

    @classmethod
    def execute(cls, width: int, height: int, frames: int, batch_size: int, vae: object = None) -> io.NodeOutput:
        channels, time, space = LAYOUT if vae is None else host.latent_layout(vae)
        multiple = space * PATCH
        check_size(width, height, frames, multiple, time, sides=(multiple, MOST_SIDE), most_frames=MOST_FRAMES)
        shape = (batch_size, channels, (frames - 1) // time + 1, height // space, width // space)
        return io.NodeOutput({"samples": torch.zeros(shape)})
