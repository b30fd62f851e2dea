"""Texts: to conditioning, into the words that sora-mini knows best, and from a clip."""

from __future__ import annotations

from torch import Tensor

from ..sora_core.world import apart, describe, expand, warning
from . import host
from .host import io, ui


class SoraTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraTextEncode",
            display_name="Sora Text Encode",
            category="Sora/conditioning",
            description="Turns a text into the features that the transformer reads through cross-attention. Of two "
            "things that a text for sora-mini names, Sora Sampler makes each in a half of the frame.",
            inputs=[
                io.Clip.Input("clip", tooltip="Text encoder, from the loader of the model."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a red circle moves left on a sky background",
                    tooltip="What the clip shows; words beyond the encoder's length (39 tokens in sora-mini) are cut. "
                    "Empty: no text, which is the usual negative.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="The text, for a sampler.")],
        )

    @classmethod
    def execute(cls, clip: object, text: str) -> io.NodeOutput:
        whole = host.encode_text(clip, text)
        parts = apart(text) if host.takes_apart(clip) else []
        for number, part in enumerate(parts):
            whole = host.with_region(whole, host.encode_text(clip, part), number)
        alone = warning(text, by_halves=True) if host.takes_apart(clip) and not parts else None
        told = ["Sora Sampler makes a half each, from noise:", *parts] if parts else [alone]
        told += [host.unread_of(clip, one) for one in parts or [text]]
        return io.NodeOutput(whole, ui=host.noted(*told))


class SoraExpandPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraExpandPrompt",
            display_name="Sora Expand Prompt",
            category="Sora/conditioning",
            description="Says a free text in the words that sora-mini knows best, and fills in what it leaves open.",
            inputs=[
                io.String.Input(
                    "text", multiline=True, dynamic_prompts=True, default="a little crimson ball drifting leftwards",
                    tooltip="A shape, a colour, a motion, a place: one of them is enough.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**63 - 1, control_after_generate=True,
                    tooltip="Draws what the text leaves open.",
                ),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="For Sora Text Encode.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, text: str, seed: int) -> io.NodeOutput:
        expanded = expand(text, seed)
        return io.NodeOutput(expanded, ui=ui.PreviewText(expanded))


class SoraDescribeClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraDescribeClip",
            display_name="Sora Describe Clip",
            category="Sora/conditioning",
            description="Reads from the pixels of a clip of sora-mini's world what it shows, as its prompt.",
            inputs=[io.Image.Input("images", tooltip="One plain thing on a plain background: a clip, or an image.")],
            outputs=[io.String.Output(display_name="text", tooltip="For Sora Text Encode.")],
        )

    @classmethod
    def execute(cls, images: Tensor) -> io.NodeOutput:
        text = describe(images[..., :3].cpu())
        return io.NodeOutput(text, ui=ui.PreviewText(text))
