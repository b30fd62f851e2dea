"""Images at chosen frames."""

from __future__ import annotations

from torch import Tensor

from .host import io
from .timeline import pin, shown


class SoraKeyframes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraKeyframes",
            display_name="Sora Keyframes",
            category="Sora/tasks",
            description="Pins an image to a frame of a clip that is to be made; chain several for several frames. The "
            "image comes back bit for bit.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that samples."),
                io.Latent.Input("latent", tooltip="Sora Empty Video, a task, or another Sora Keyframes."),
                io.Image.Input("image", tooltip="The image, of the clip's width and height; of a batch, its first."),
                io.Int.Input(
                    "frame", default=0, min=-100000, max=100000,
                    tooltip="Frame of the video; -1 is the last. The frames around it (up to 3) show it, too.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="Latents with their strength map, for Sora Sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, vae: object, latent: dict, image: Tensor, frame: int) -> io.NodeOutput:
        pinned = pin(vae, latent, image[0, ..., :3], frame)
        return io.NodeOutput(pinned, ui=shown(pinned))
