"""The pack's nodes, listed one by one. They unpack sockets, make one call into `sora_core`, and pack sockets."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

NODES: list[type[io.ComfyNode]] = []


class SoraExtension(ComfyExtension):
    """What the host loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
