"""A text of its own for a part of the frame."""

from __future__ import annotations

from ..sora_core.regions import Box
from . import host
from .host import io


class SoraRegion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share, size = ({"min": least, "max": 1.0, "step": 0.01} for least in (0.0, 0.1))
        return io.Schema(
            node_id="SoraRegion",
            display_name="Sora Region",
            category="Sora/conditioning",
            description="A text of its own for a box of the frame. Several in a row make several regions; where they "
            "overlap they are mixed, and where they leave a rest the first text stands.",
            inputs=[
                io.Conditioning.Input("rest", tooltip="The text of the rest of the frame, or of another Sora Region."),
                io.Conditioning.Input("region", tooltip="The text of the box, as of a clip of its own."),
                io.Float.Input("left", default=0.0, **share, tooltip="Left side of the box, as a share of the width."),
                io.Float.Input("top", default=0.0, **share, tooltip="Top of the box, as a share of the height."),
                io.Float.Input("width", default=0.5, **size, tooltip="Width of the box, as a share of the frame's."),
                io.Float.Input("height", default=1.0, **size, tooltip="Height of the box, as a share of the frame's."),
            ],
            outputs=[io.Conditioning.Output(tooltip="All texts with their places, for the positive of Sora Sampler.")],
        )

    @classmethod
    def validate_inputs(
        cls,
        left: float | None = None,
        top: float | None = None,
        width: float | None = None,
        height: float | None = None,
    ) -> bool | str:
        return host.accepts(Box, left, top, width, height)

    @classmethod
    def execute(cls, rest: list, region: list, left: float, top: float, width: float, height: float) -> io.NodeOutput:
        return io.NodeOutput(host.with_region(rest, region, Box(left, top, width, height)))
