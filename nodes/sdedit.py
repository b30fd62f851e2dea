"""Changing a clip in place: SDEdit, inpainting, and making a span of it again."""

from __future__ import annotations

from torch import Tensor

from ..sora_core.tasks import curve_points, edit, strengths
from . import host
from .host import io
from .timeline import OUTPUTS, prepared


class SoraSDEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraSDEdit",
            display_name="Sora SDEdit",
            category="Sora/tasks",
            description="Video to video, inpainting, outpainting, a span made again: a clip is changed under a new "
            "text, noised to a strength and denoised from there. Length and size stay; what has strength 0 stays bit "
            "for bit.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that samples."),
                io.Image.Input("images", tooltip="The clip, of any length."),
                io.Float.Input(
                    "strength", default=0.7, min=0.0, max=1.0, step=0.01,
                    tooltip="The level of noise (sigma) to begin from: 0 keeps the clip, 1 forgets it.",
                ),
                io.Int.Input(
                    "first_frame", default=0, min=-100000, max=100000,
                    tooltip="First frame that may change; negative counts from the end.",
                ),
                io.Int.Input(
                    "last_frame", default=-1, min=-100000, max=100000, tooltip="Last frame that may change."
                ),
                io.String.Input(
                    "curve", default="",
                    tooltip="Strengths at frames, straight between them, instead of one strength: 0:0, 8:0.6, 16:1",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="White takes the strength, black stays bit for bit, gray is between; a single mask, or one "
                    "mask per frame.",
                ),
            ],
            outputs=OUTPUTS,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, curve: str | None = None) -> bool | str:
        return host.accepts(curve_points, curve)

    @classmethod
    def execute(
        cls,
        vae: object,
        images: Tensor,
        strength: float,
        first_frame: int,
        last_frame: int,
        curve: str,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        images = images[..., :3].cpu()
        wanted = strengths(images, strength, curve=curve, first=first_frame, last=last_frame, mask=mask)
        return prepared(vae, edit(images, wanted))
