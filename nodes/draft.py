"""Clips under construction as files: save a draft, go on with it another day."""

from __future__ import annotations

from ..sora_core.draft import load_draft, save_draft
from . import host
from .host import io


class SoraSaveDraft(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraSaveDraft",
            display_name="Sora Save Draft",
            category="Sora/latent",
            description="Writes latents with all that belongs to them: strength map, given frames, and how far a Sora "
            "Sampler has come. Files go to output/drafts; none is overwritten.",
            inputs=[
                io.Latent.Input("latent", tooltip="Of a task, or of a Sora Sampler that stopped on its way."),
                io.String.Input("name", default="draft", tooltip="Start of the file name; a number is added."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return host.accepts(host.check_draft_name, name)

    @classmethod
    def execute(cls, latent: dict, name: str) -> io.NodeOutput:
        path = host.new_draft(name)
        save_draft(path, latent)
        return io.NodeOutput(ui={"text": (path.name,)})


class SoraLoadDraft(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraLoadDraft",
            display_name="Sora Load Draft",
            category="Sora/latent",
            description="Reads a file of Sora Save Draft.",
            inputs=[io.Combo.Input("draft", options=host.draft_names(), tooltip="A file in output/drafts.")],
            outputs=[io.Latent.Output(tooltip="The latents with all that belonged to them.")],
        )

    @classmethod
    def validate_inputs(cls, draft: str | None = None) -> bool | str:
        return host.accepts(host.draft_path, draft)

    @classmethod
    def fingerprint_inputs(cls, draft: str | None = None) -> str:
        return host.stamp(host.draft_path, draft)

    @classmethod
    def execute(cls, draft: str) -> io.NodeOutput:
        return io.NodeOutput(load_draft(host.draft_path(draft)))
