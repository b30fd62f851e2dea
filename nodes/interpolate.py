"""Filling the gap between two clips, or between the end and the beginning of one."""

from __future__ import annotations

from torch import Tensor

from ..sora_core.tasks import interpolate, loop
from .host import io
from .timeline import OUTPUTS, prepared, ramp

OVERLAP = "Frames of either side that the model sees; with 5 and 8 new ones, 17 in all, for which sora-mini was made."


class SoraInterpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraInterpolate",
            display_name="Sora Interpolate",
            category="Sora/tasks",
            description="Transition: clip A, new frames, clip B. Both clips stay, bit for bit, but where they are "
            "softened. (For more frames a second, take a frame interpolation node instead.)",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that samples."),
                io.Image.Input("images_a", tooltip="The clip before; of any length."),
                io.Image.Input("images_b", tooltip="The clip after, of the same width and height."),
                io.Int.Input(
                    "frames", display_name="new_frames", default=8, min=1, max=1024, tooltip="New frames between them."
                ),
                io.Int.Input("overlap", default=5, min=1, max=1024, tooltip=OVERLAP),
                io.Int.Input(
                    "soften", default=0, min=0, max=1020, optional=True,
                    tooltip="Frames at the end of A and at the beginning of B that may change too, the more the nearer "
                    "they are to the gap; up to 4 with overlap 9. 0 keeps both clips bit for bit.",
                ),
            ],
            outputs=OUTPUTS,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, vae: object, images_a: Tensor, images_b: Tensor, frames: int, overlap: int, soften: int = 0
    ) -> io.NodeOutput:
        line = interpolate(images_a[..., :3].cpu(), images_b[..., :3].cpu(), frames, overlap=overlap, soften=soften)
        return prepared(vae, line)


class SoraLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraLoop",
            display_name="Sora Loop",
            category="Sora/tasks",
            description="Prepares new frames that lead from the end of a clip back to its beginning, so that it plays "
            "round and round. The clip stays, bit for bit.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that samples."),
                io.Image.Input("images", tooltip="The clip, 2 frames or more."),
                io.Int.Input(
                    "frames",
                    display_name="new_frames",
                    default=8,
                    min=1,
                    max=1024,
                    tooltip="New frames after the clip.",
                ),
                io.Int.Input("overlap", default=5, min=1, max=1024, tooltip=OVERLAP),
            ],
            outputs=OUTPUTS,
        )

    @classmethod
    def execute(cls, vae: object, images: Tensor, frames: int, overlap: int) -> io.NodeOutput:
        return prepared(vae, loop(images[..., :3].cpu(), frames, overlap=overlap))


class SoraPromptRamp(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraPromptRamp",
            display_name="Sora Prompt Ramp",
            category="Sora/conditioning",
            description="Goes from one text to another over the frames that a task makes, or over a whole clip from "
            "Sora Empty Video: the first text, then, frame by frame, the second.",
            inputs=[
                io.Conditioning.Input("first", tooltip="The text before the new frames."),
                io.Conditioning.Input("second", tooltip="The text after them."),
                io.Latent.Input(
                    "latent",
                    tooltip="Of the task (Sora Interpolate, Sora Extend, Sora Loop, Sora SDEdit), or Sora Empty Video.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="Both texts with their share of every frame, for a sampler.")],
        )

    @classmethod
    def execute(cls, first: list, second: list, latent: dict) -> io.NodeOutput:
        return io.NodeOutput(ramp(first, second, latent))
