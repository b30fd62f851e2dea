"""Making a clip longer, at either end."""

from __future__ import annotations

from torch import Tensor

from ..sora_core.tasks import CARRY, check_ends, extend
from . import host
from .host import io
from .timeline import OUTPUTS, prepared

MOST_BEFORE, MOST_AFTER = 1024, 100000  # frames


class SoraExtend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraExtend",
            display_name="Sora Extend",
            category="Sora/tasks",
            description="Prepares new frames before a clip, after it, or both. The clip itself stays bit for bit: Sora "
            "VAE Decode puts it back.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model that samples."),
                io.Image.Input("images", tooltip="The clip; one image is a clip of one frame."),
                io.Int.Input("before", default=0, min=0, max=MOST_BEFORE, tooltip="New frames before the clip."),
                io.Int.Input(
                    "after", default=8, min=0, max=MOST_AFTER,
                    tooltip="New frames after the clip; more than the model makes at once take Sora Long Video.",
                ),
                io.Int.Input(
                    "overlap", default=9, min=1, max=1024,
                    tooltip="Frames of the clip that the model sees. With new frames at both ends it sees the whole "
                    "clip, which may have twice as many; longer ones take two of these nodes, one for each end.",
                ),
                io.Float.Input(
                    "carry", default=CARRY, min=0.0, max=1.0, step=0.05, optional=True,
                    tooltip="Where the clip moves steadily, up to as many new frames as are seen begin from its motion "
                    "carried on, at this strength: the pace stays. 1 begins from noise, as everywhere else; take it "
                    "where the text tells of another motion.",
                ),
            ],
            outputs=OUTPUTS,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, before: int | None = None, after: int | None = None) -> bool | str:
        for name, value, most in (("before", before, MOST_BEFORE), ("after", after, MOST_AFTER)):
            if value is not None and value > most:  # the host leaves what is looked at here unchecked
                return f"{name} {value}: at most {most}"
        return host.accepts(check_ends, before, after)

    @classmethod
    def execute(
        cls, vae: object, images: Tensor, before: int, after: int, overlap: int, carry: float = CARRY
    ) -> io.NodeOutput:
        return prepared(vae, extend(images[..., :3].cpu(), before=before, after=after, overlap=overlap, carry=carry))
