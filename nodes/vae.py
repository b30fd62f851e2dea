"""Frames to latents and back, as a stream: the working memory does not grow with the length of the clip."""

from __future__ import annotations

from torch import Tensor

from . import host
from .host import io
from .timeline import finish


class SoraVAEEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraVAEEncode",
            display_name="Sora VAE Encode",
            category="Sora/latent",
            description="Encodes a clip into video latents, piece by piece.",
            inputs=[
                io.Vae.Input("vae", tooltip="A video VAE."),
                io.Image.Input(
                    "images",
                    tooltip="The frames of one clip. For sora-mini: 4n + 1 frames (1, 5, 9 ...), sides in multiples of "
                    "16 pixels.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="Latents of the clip, without a strength map.")],
        )

    @classmethod
    def execute(cls, vae: object, images: Tensor) -> io.NodeOutput:
        return io.NodeOutput({"samples": host.encode(vae, images), host.ORIGIN: host.origin(vae)})


class SoraVAEDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraVAEDecode",
            display_name="Sora VAE Decode",
            category="Sora/latent",
            description="Decodes video latents into frames, piece by piece. Frames that were given to a task (Sora "
            "Extend, Sora SDEdit, ...) come back bit for bit.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that the latents were made for."),
                io.Latent.Input("latent", tooltip="Video latents; several clips are decoded one after the other."),
            ],
            outputs=[io.Image.Output(tooltip="All frames, 4n + 1 for n + 1 latent frames.")],
        )

    @classmethod
    def execute(cls, vae: object, latent: dict) -> io.NodeOutput:
        frames, note = finish(vae, latent)
        return io.NodeOutput(frames, ui=host.noted(host.strange(latent, vae), note))
