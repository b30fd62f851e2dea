"""Loading a checkpoint of this pack."""

from __future__ import annotations

from ..sora_core.checkpoint import load_checkpoint
from . import host
from .host import io


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
        try:
            return checkpoint is None or bool(host.checkpoint_path(checkpoint))
        except FileNotFoundError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str) -> str:
        stat = host.checkpoint_path(checkpoint).stat()
        return f"{checkpoint} {stat.st_mtime_ns} {stat.st_size}"

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        return io.NodeOutput(*host.to_host(load_checkpoint(host.checkpoint_path(checkpoint))))
