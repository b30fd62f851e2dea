"""Measuring a finished clip."""

from __future__ import annotations

from torch import Tensor

from ..sora_core.report import draw_report, report, seams_of
from . import host
from .host import io


class SoraClipReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraClipReport",
            display_name="Sora Clip Report",
            category="Sora/analysis",
            description="Measures a clip: jumps at its seams, drift between its beginning and its end, motion (so that "
            "a frozen clip cannot pass), and whether given frames stayed bit for bit.",
            inputs=[
                io.Image.Input("images", tooltip="The clip, 2 frames or more."),
                io.String.Input("seams", default="", tooltip="Frames at which a new part begins, as in 17, 25."),
                io.Boolean.Input("loop", default=False, tooltip="Measure the step from last frame to first, too."),
                io.Image.Input("source", optional=True, tooltip="Frames that have to be in the clip, bit for bit."),
                io.Int.Input(
                    "source_at", default=0, min=0, max=1000000, tooltip="Frame of the clip at which the source begins."
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The figures, as JSON."),
                io.Image.Output(display_name="plot", tooltip="The same as a picture."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, seams: str | None = None) -> bool | str:
        return host.accepts(seams_of, seams)

    @classmethod
    def execute(
        cls, images: Tensor, seams: str, loop: bool, source_at: int, source: Tensor | None = None
    ) -> io.NodeOutput:
        source = None if source is None else source[..., :3]
        found = report(images[..., :3], seams=seams_of(seams), source=source, source_at=source_at, loop=loop)
        return io.NodeOutput(found.to_json(), draw_report(found)[None])
