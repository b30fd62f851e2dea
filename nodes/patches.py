"""Spacetime patches in the artist's hand: cut, give strengths, look, put together."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..sora_core.config import DiTConfig
from ..sora_core.patches import Patches, from_patches, to_patches
from ..sora_core.preview import draw_patches
from ..sora_core.selection import check_box, select, set_strength
from . import host
from .host import io

SoraPatches = io.Custom("SORA_PATCHES")
PATCH = DiTConfig.patch  # 1 x 2 x 2, in every Wan-shaped model
STRENGTH = "0 keeps a patch as it is, 1 makes it from noise, between: noised to that level and denoised from there."


class SoraPatchify(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraPatchify",
            display_name="Sora Patchify",
            category="Sora/patches",
            description="Cuts video latents into spacetime patches, one token of the transformer each.",
            inputs=[
                io.Latent.Input("latent", tooltip="Video latents; their strength map (noise_mask) comes along."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=f"Where the latents bring no map. {STRENGTH}",
                ),
            ],
            outputs=[SoraPatches.Output(display_name="patches", tooltip="Tokens, their grid and their strengths.")],
        )

    @classmethod
    def execute(cls, latent: dict, strength: float) -> io.NodeOutput:
        mask = host.strength_map(latent)
        patches = to_patches(latent["samples"], strength if mask is None else mask, PATCH)
        extras = {key: value for key, value in latent.items() if key not in ("samples", "noise_mask")}
        return io.NodeOutput(replace(patches, extras=extras))


class SoraUnpatchify(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraUnpatchify",
            display_name="Sora Unpatchify",
            category="Sora/patches",
            description="Puts patches together to latents; the strengths become the strength map (noise_mask).",
            inputs=[SoraPatches.Input("patches", tooltip="Patches of a clip.")],
            outputs=[io.Latent.Output(tooltip="Latents with their strength map, for Sora Sampler.")],
        )

    @classmethod
    def execute(cls, patches: Patches) -> io.NodeOutput:
        samples, strength = from_patches(patches)
        return io.NodeOutput({**patches.extras, "samples": samples, "noise_mask": strength})


class SoraPatchStrength(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="SoraPatchStrength",
            display_name="Sora Patch Strength",
            category="Sora/patches",
            description="Sets the strength of the patches that lie in the frames, in the box and in the mask.",
            inputs=[
                SoraPatches.Input("patches", tooltip="Patches of a clip."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=STRENGTH),
                io.Int.Input(
                    "first_frame", default=0, min=-100000, max=100000,
                    tooltip="First video frame; negative counts from the end. A patch spans 4 frames (the first one "
                    "only 1) and is chosen where it touches the range.",
                ),
                io.Int.Input(
                    "last_frame", default=-1, min=-100000, max=100000, tooltip="Last video frame; -1 is the last."
                ),
                io.Float.Input("left", default=0.0, **side, tooltip="Left side of the box, as a share of the width."),
                io.Float.Input("top", default=0.0, **side, tooltip="Top of the box, as a share of the height."),
                io.Float.Input("right", default=1.0, **side, tooltip="Right side of the box, as a share of the width."),
                io.Float.Input("bottom", default=1.0, **side, tooltip="Bottom of the box, as a share of the height."),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="One mask for the clip or one per frame, of any size. White takes the strength, black "
                    "leaves what was there, gray blends.",
                ),
            ],
            outputs=[SoraPatches.Output(display_name="patches", tooltip="The patches with their new strengths.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls,
        left: float | None = None,
        top: float | None = None,
        right: float | None = None,
        bottom: float | None = None,
    ) -> bool | str:
        return host.accepts(check_box, left, top, right, bottom)

    @classmethod
    def execute(
        cls,
        patches: Patches,
        strength: float,
        first_frame: int,
        last_frame: int,
        left: float,
        top: float,
        right: float,
        bottom: float,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        chosen = select(patches.grid, first_frame, last_frame, (left, top, right, bottom), mask)
        return io.NodeOutput(set_strength(patches, strength, chosen))


class SoraViewPatches(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraViewPatches",
            display_name="Sora View Patches",
            category="Sora/patches",
            description="Draws the grid of the first clip: how large every token is, and its strength.",
            inputs=[SoraPatches.Input("patches", tooltip="Patches of a clip.")],
            outputs=[io.Image.Output(tooltip="One picture, for Preview Image.")],
        )

    @classmethod
    def execute(cls, patches: Patches) -> io.NodeOutput:
        return io.NodeOutput(draw_patches(patches)[None])
