"""Loading models: checkpoints of this pack, and public Wan weights."""

from __future__ import annotations

from functools import partial

from ..sora_core.checkpoint import load_checkpoint
from . import host
from .host import io

DIT_FOLDER, VAE_FOLDER = "diffusion_models", "vae"  # of the host's models


class SoraLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraLoadModel",
            display_name="Sora Load Model",
            category="Sora/loaders",
            description="Loads the bundled model or a checkpoint made by this pack: transformer, text encoder and VAE.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=host.checkpoint_names(),
                    tooltip="sora-mini comes with the pack. Others are .safetensors files in models/sora.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The diffusion transformer."),
                io.Clip.Output(tooltip="The text encoder that the transformer was trained with."),
                io.Vae.Output(tooltip="The causal 3D VAE that the transformer was trained with."),
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return host.accepts(host.checkpoint_path, checkpoint)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str | None = None) -> str:
        return host.stamp(host.checkpoint_path, checkpoint)

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        return io.NodeOutput(*host.to_host(load_checkpoint(host.checkpoint_path(checkpoint))))


class SoraLoadDiT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraLoadDiT",
            display_name="Sora Load DiT",
            category="Sora/loaders",
            description="Loads a public Wan transformer (2.1 text to video 1.3B and 14B, 2.2 text to video 14B, 2.2 "
            "5B) into this pack's own. Use CLIP Loader (type wan) for its text.",
            inputs=[
                io.Combo.Input(
                    "weights", options=host.weight_names(DIT_FOLDER),
                    tooltip="A .safetensors file in models/diffusion_models, in the layout of Wan, ComfyUI or "
                    "diffusers.",
                ),
                io.Boolean.Input(
                    "per_token", default=False,
                    tooltip="Tell the model the noise level of every patch, which Wan 2.2's 5B always is. The others "
                    "were never trained for it: off, kept patches are shown to them with the noise of the step.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The diffusion transformer.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, weights: str | None = None) -> bool | str:
        return host.accepts(partial(host.weight_path, DIT_FOLDER), weights)

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None, per_token: bool | None = None) -> str:
        return f"{host.stamp(partial(host.weight_path, DIT_FOLDER), weights)} {per_token}"

    @classmethod
    def execute(cls, weights: str, per_token: bool) -> io.NodeOutput:
        return io.NodeOutput(host.public_model(host.weight_path(DIT_FOLDER, weights), per_token))


class SoraLoadVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraLoadVAE",
            display_name="Sora Load VAE",
            category="Sora/loaders",
            description="Loads a public Wan VAE (2.1 or 2.2) into this pack's own, which streams: memory does not grow "
            "with the length of the clip. Its latents are those of Load VAE.",
            inputs=[
                io.Combo.Input(
                    "weights", options=host.weight_names(VAE_FOLDER),
                    tooltip="A .safetensors file in models/vae: Wan's own or diffusers' layout.",
                ),
            ],
            outputs=[io.Vae.Output(tooltip="The causal 3D VAE.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, weights: str | None = None) -> bool | str:
        return host.accepts(partial(host.weight_path, VAE_FOLDER), weights)

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None) -> str:
        return host.stamp(partial(host.weight_path, VAE_FOLDER), weights)

    @classmethod
    def execute(cls, weights: str) -> io.NodeOutput:
        return io.NodeOutput(host.public_vae(host.weight_path(VAE_FOLDER, weights)))


class SoraJoinExperts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraJoinExperts",
            display_name="Sora Join Experts",
            category="Sora/loaders",
            description="Two MODELs as one, as Wan 2.2's 14B needs it: the first makes the high noise levels, the "
            "second the low ones. Give each its LoRAs before.",
            inputs=[
                io.Model.Input("high", tooltip="The high-noise expert, of any loader."),
                io.Model.Input("low", tooltip="The low-noise expert."),
                io.Float.Input(
                    "boundary", default=0.875, min=0.0, max=1.0, step=0.005,
                    tooltip="Noise level (sigma) from which on up the first is used: 0.875 for text to video, 0.9 for "
                    "image to video.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="Both as one, for any sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, high: object, low: object, boundary: float) -> io.NodeOutput:
        return io.NodeOutput(host.join_experts(high, low, boundary))
