"""Text to conditioning."""

from __future__ import annotations

from . import host
from .host import io


class SoraTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraTextEncode",
            display_name="Sora Text Encode",
            category="Sora/conditioning",
            description="Turns a text into the features that the transformer reads through cross-attention.",
            inputs=[
                io.Clip.Input("clip", tooltip="Text encoder, from the loader of the model."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a red circle moves left on a sky background",
                    tooltip="What the clip shows; words beyond the encoder's length (40 tokens in sora-mini) are cut. "
                    "Empty: no text, which is the usual negative.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="The text, for a sampler.")],
        )

    @classmethod
    def execute(cls, clip: object, text: str) -> io.NodeOutput:
        return io.NodeOutput(host.encode_text(clip, text))
