"""What nodes have to say, which web/notes.js shows on them."""

from __future__ import annotations

from comfy_api.latest import ui
from server import PromptServer


def noted(*notes: str | None) -> ui.PreviewText | None:
    """Notes for a node's output, those that are there."""
    told = [note for note in notes if note]
    return ui.PreviewText("\n".join(told)) if told else None


def tell(node_id: str | None, *notes: str | None) -> None:
    """Show notes on a node that has only begun its work; those that it hands out at its end take their place."""
    if node_id is not None and PromptServer.instance is not None:
        event = {"node": node_id, "text": "\n".join(note for note in notes if note)}
        PromptServer.instance.send_sync("sora.note", event, PromptServer.instance.client_id)
