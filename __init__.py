"""Sora Patches, a ComfyUI node pack. Imports nothing of the host until the host asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The host calls this once, at start."""
    from .nodes import SoraExtension

    return SoraExtension()
