"""An empty canvas of any size, aspect and length."""

from __future__ import annotations

import torch

from . import host
from .host import io

CHANNELS, TIME, SPACE = 16, 4, 8  # latent channels, frames and pixels per latent: sora-mini and Wan 2.1
PATCH = 2  # latents per token along a side


def misfit(width: int | None, height: int | None, frames: int | None, multiple: int) -> str | None:
    """What is wrong with a size, and the nearest that fits; None where it fits."""
    for name, side in (("width", width), ("height", height)):
        if side is not None and (side < multiple or side % multiple):
            nearest = max(multiple, round(side / multiple) * multiple)
            return f"{name} {side}: sides are multiples of {multiple} pixels; use {nearest}"
    if frames is not None and (frames < 1 or (frames - 1) % TIME):
        return f"frames {frames}: a clip has {TIME}n + 1 frames; use {max(0, round((frames - 1) / TIME)) * TIME + 1}"
    return None


class SoraEmptyVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 128, "min": 16, "max": 8192, "step": 16}
        return io.Schema(
            node_id="SoraEmptyVideo",
            display_name="Sora Empty Video",
            category="Sora/latent",
            description="Latents of a clip that is to be made from noise. One frame makes an image.",
            inputs=[
                io.Int.Input("width", **side, tooltip="Pixels, a multiple of 16. sora-mini was trained up to 256."),
                io.Int.Input("height", **side, tooltip="Pixels, a multiple of 16. sora-mini was trained up to 256."),
                io.Int.Input(
                    "frames", default=17, min=1, max=16384, step=4,
                    tooltip="Frames of the clip, 4n + 1: 1, 5, 9 ... sora-mini was trained up to 33, at 12 a second.",
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
        return misfit(width, height, frames, SPACE * PATCH) or True

    @classmethod
    def execute(cls, width: int, height: int, frames: int, batch_size: int, vae: object = None) -> io.NodeOutput:
        channels, space = (CHANNELS, SPACE) if vae is None else host.latent_layout(vae)
        if wrong := misfit(width, height, frames, space * PATCH):
            raise ValueError(wrong)
        shape = (batch_size, channels, (frames - 1) // TIME + 1, height // space, width // space)
        return io.NodeOutput({"samples": torch.zeros(shape)})
