"""What a workflow is made of: nodes in columns, written in the editor's format and in the API's."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

COLUMN, GAP, TITLE = 340, 60, 30  # pixels: width of a column, gap between nodes, height of a node's title


LINKABLE: dict[str, tuple[str, Any]] = {"seams": ("STRING", ""), "fps": ("FLOAT", 12.0), "text": ("STRING", "")}
# widgets that take a link here: type, and what stands in them meanwhile


@dataclass(frozen=True)
class Kind:
    """What the editor must know of a node type: sockets in, widgets in order, sockets out (a type, or a type and a
    name), size on the canvas."""

    inputs: dict[str, str]
    widgets: tuple[str, ...]
    outputs: tuple[str, ...]
    size: tuple[int, int]
    optional: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(output.split()[0] for output in self.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(output.split()[-1] for output in self.outputs)


STRIP = 66  # pixels that the strip of web/timeline.js takes on a task's node, once it has run

KINDS = {
    "SoraLoadModel": Kind({}, ("checkpoint",), ("MODEL", "CLIP", "VAE"), (300, 100)),
    "SoraTextEncode": Kind({"clip": "CLIP"}, ("text",), ("CONDITIONING",), (300, 130)),
    "SoraRegion": Kind(
        {"rest": "CONDITIONING", "region": "CONDITIONING"}, ("left", "top", "width", "height"), ("CONDITIONING",),
        (260, 170),
    ),
    "SoraExpandPrompt": Kind({}, ("text", "seed"), ("STRING text",), (300, 230)),
    "SoraDescribeClip": Kind({"images": "IMAGE"}, (), ("STRING text",), (260, 130)),
    "SoraEmptyVideo": Kind(
        {"vae": "VAE"}, ("width", "height", "frames", "batch_size"), ("LATENT",), (300, 150), optional=("vae",)
    ),
    "SoraSampler": Kind(
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent": "LATENT"},
        ("seed", "steps", "cfg", "solver", "stop_after", "resample"), ("LATENT",), (300, 474),
    ),
    "SoraSaveDraft": Kind({"latent": "LATENT"}, ("name",), (), (300, 110)),
    "SoraVAEEncode": Kind({"vae": "VAE", "images": "IMAGE"}, (), ("LATENT",), (240, 60)),
    "SoraVAEDecode": Kind({"vae": "VAE", "latent": "LATENT"}, (), ("IMAGE",), (240, 60)),
    "SoraPatchify": Kind({"latent": "LATENT"}, ("strength",), ("SORA_PATCHES patches",), (260, 60)),
    "SoraUnpatchify": Kind({"patches": "SORA_PATCHES"}, (), ("LATENT",), (240, 40)),
    "SoraPatchStrength": Kind(
        {"patches": "SORA_PATCHES", "mask": "MASK"},
        ("strength", "first_frame", "last_frame", "left", "top", "right", "bottom"), ("SORA_PATCHES patches",),
        (300, 230), optional=("mask",),
    ),
    "SoraViewPatches": Kind({"patches": "SORA_PATCHES"}, (), ("IMAGE",), (240, 40)),
    "SoraWorldClip": Kind(
        {}, ("shape", "colour", "motion", "background", "size", "style", "width", "height", "frames", "seed"),
        ("IMAGE",), (300, 300),
    ),
    "SoraExtend": Kind(
        {"vae": "VAE", "images": "IMAGE"}, ("before", "after", "overlap", "carry"), ("LATENT", "STRING seams"),
        (300, 164 + STRIP),
    ),
    "SoraInterpolate": Kind(
        {"vae": "VAE", "images_a": "IMAGE", "images_b": "IMAGE"},
        ("frames", "overlap", "soften"),
        ("LATENT", "STRING seams"),
        (300, 164 + STRIP),
    ),
    "SoraLoop": Kind(
        {"vae": "VAE", "images": "IMAGE"}, ("frames", "overlap"), ("LATENT", "STRING seams"), (300, 120 + STRIP)
    ),
    "SoraPromptRamp": Kind(
        {"first": "CONDITIONING", "second": "CONDITIONING", "latent": "LATENT"}, (), ("CONDITIONING",), (260, 80)
    ),
    "SoraKeyframes": Kind(
        {"vae": "VAE", "latent": "LATENT", "image": "IMAGE"}, ("frame",), ("LATENT",), (300, 120 + STRIP)
    ),
    "SoraSDEdit": Kind(
        {"vae": "VAE", "images": "IMAGE", "mask": "MASK"}, ("strength", "first_frame", "last_frame", "curve"),
        ("LATENT", "STRING seams"), (300, 190 + STRIP), optional=("mask",),
    ),
    "SoraLongVideo": Kind(
        {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "latent": "LATENT"},
        ("prompts", "negative", "frames", "fps", "width", "height", "window", "overlap", "correct", "seed", "steps",
         "cfg", "solver", "resample"),
        ("IMAGE", "STRING report", "STRING seams", "FLOAT fps"), (380, 584), optional=("latent",),
    ),
    "SoraClipReport": Kind(
        {"images": "IMAGE", "source": "IMAGE"}, ("seams", "loop", "source_at"), ("STRING report", "IMAGE plot"),
        (300, 150), optional=("source",),
    ),
    "SoraLoadDiT": Kind({}, ("weights", "per_token"), ("MODEL",), (400, 100)),
    "SoraJoinExperts": Kind({"high": "MODEL", "low": "MODEL"}, ("boundary",), ("MODEL",), (260, 90)),
    "SoraLoadVAE": Kind({}, ("weights",), ("VAE",), (400, 80)),
    "UNETLoader": Kind({}, ("unet_name", "weight_dtype"), ("MODEL",), (400, 100)),
    "VAELoader": Kind({}, ("vae_name",), ("VAE",), (400, 80)),
    "CLIPLoader": Kind({}, ("clip_name", "type", "device"), ("CLIP",), (400, 130)),
    "LoadVideo": Kind({}, ("file",), ("VIDEO",), (300, 340)),
    "GetVideoComponents": Kind({"video": "VIDEO"}, (), ("IMAGE images", "AUDIO audio", "FLOAT fps"), (260, 80)),
    "LoadImage": Kind({}, ("image",), ("IMAGE", "MASK"), (300, 340)),
    "ImageScale": Kind({"image": "IMAGE"}, ("upscale_method", "width", "height", "crop"), ("IMAGE",), (260, 150)),
    "ImageFromBatch": Kind({"image": "IMAGE"}, ("batch_index", "length"), ("IMAGE",), (260, 90)),
    "ImagePadForOutpaint": Kind(
        {"image": "IMAGE"}, ("left", "top", "right", "bottom", "feathering"), ("IMAGE", "MASK"), (280, 190)
    ),
    "SolidMask": Kind({}, ("value", "width", "height"), ("MASK",), (260, 120)),
    "MaskComposite": Kind({"destination": "MASK", "source": "MASK"}, ("x", "y", "operation"), ("MASK",), (260, 150)),
    "CLIPTextEncode": Kind({"clip": "CLIP"}, ("text",), ("CONDITIONING",), (300, 130)),
    "KSampler": Kind(
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"), ("LATENT",), (300, 270),
    ),
    "VAEDecode": Kind({"samples": "LATENT", "vae": "VAE"}, (), ("IMAGE",), (240, 60)),
    "CreateVideo": Kind({"images": "IMAGE", "audio": "AUDIO"}, ("fps",), ("VIDEO",), (260, 80), optional=("audio",)),
    "SaveVideo": Kind({"video": "VIDEO"}, ("filename_prefix", "format", "codec"), (), (360, 440)),
    "SaveImage": Kind({"images": "IMAGE"}, ("filename_prefix",), (), (360, 400)),
    "PreviewImage": Kind({"images": "IMAGE"}, (), (), (360, 300)),
}  # fmt: skip


@dataclass
class Node:
    id: int
    type: str
    values: dict[str, Any]
    links: dict[str, tuple[Node, int]]
    title: str
    models: list[dict[str, str]] = field(default_factory=list)  # that it loads: name, url, directory
    position: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        return KINDS[self.type].size

    def __getitem__(self, output: str) -> tuple[Node, int]:
        """The output socket of a name, as in `model["VAE"]`."""
        return self, KINDS[self.type].names.index(output)


@dataclass
class Workflow:
    """Nodes in columns, from left to right; every column is a group with a title."""

    name: str
    note: str
    nodes: list[Node] = field(default_factory=list)
    columns: list[tuple[str, list[Node]]] = field(default_factory=list)

    def add(self, kind: str, title: str = "", models: list[dict[str, str]] | None = None, **inputs: Any) -> Node:
        """models: what the editor offers to download where it is missing."""
        links = {name: value for name, value in inputs.items() if isinstance(value, tuple)}
        known = KINDS[kind]
        linked = {name: LINKABLE[name][1] for name in set(links) - set(known.inputs)}
        values = {name: linked.get(name, value) for name, value in inputs.items() if name not in known.inputs}
        assert set(links) <= {*known.inputs, *known.widgets} and list(values) == list(known.widgets), (kind, inputs)
        assert set(known.inputs) - set(links) <= set(known.optional), (kind, inputs)
        node = Node(len(self.nodes) + 1, kind, values, links, title, models or [])
        self.nodes.append(node)
        return node

    def column(self, title: str, *nodes: Node) -> None:
        x = sum(max(node.size[0] for node in column) + GAP for _, column in self.columns)
        y = 0
        for node in nodes:
            node.position = (x, y)
            y += node.size[1] + TITLE + GAP
        self.columns.append((title, list(nodes)))

    def api(self) -> dict[str, Any]:
        """What POST /prompt takes."""
        return {
            str(node.id): {
                "class_type": node.type,
                "inputs": node.values | {name: [str(source.id), slot] for name, (source, slot) in node.links.items()},
                "_meta": {"title": node.title or node.type},
            }
            for node in self.nodes
        }

    def ui(self) -> dict[str, Any]:
        """What the editor opens."""
        links: list[list[Any]] = []
        for node in self.nodes:
            for slot, (name, kind) in enumerate(self._sockets(node).items()):
                if name in node.links:
                    source, output = node.links[name]
                    links.append([len(links) + 1, source.id, output, node.id, slot, kind])
        nodes = [self._ui_node(node, order, links) for order, node in enumerate(self.nodes)]
        note = len(nodes) + 1
        nodes.append(
            {
                "id": note, "type": "MarkdownNote", "pos": [-380, 0], "size": [320, 420], "flags": {},
                "order": note - 1, "mode": 0, "inputs": [], "outputs": [], "title": "Read me", "properties": {},
                "widgets_values": [self.note], "color": "#432", "bgcolor": "#653",
            }
        )  # fmt: skip
        groups = [self._group(i + 1, title, column) for i, (title, column) in enumerate(self.columns)]
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"sora-patches/{self.name}")), "revision": 0,
            "last_node_id": note, "last_link_id": len(links), "nodes": nodes, "links": links, "groups": groups,
            "config": {}, "extra": {"ds": {"scale": 0.7, "offset": [480, 160]}}, "version": 0.4,
        }  # fmt: skip

    @staticmethod
    def _sockets(node: Node) -> dict[str, str]:
        """Types of the sockets in: the node's own, then those of widgets that are linked."""
        own = KINDS[node.type].inputs
        return own | {name: LINKABLE[name][0] for name in node.values if name in node.links}

    @staticmethod
    def _ui_node(node: Node, order: int, links: list[list[Any]]) -> dict[str, Any]:
        kind = KINDS[node.type]
        incoming = {link[4]: link[0] for link in links if link[3] == node.id}
        outgoing = [[link[0] for link in links if link[1:3] == [node.id, slot]] for slot in range(len(kind.outputs))]
        values: list[Any] = []
        for name, value in node.values.items():
            # every seed is followed by a widget of the editor: what happens to it after a run
            values += [value, "fixed"] if name == "seed" else [value]
        out = {
            "id": node.id, "type": node.type, "pos": list(node.position), "size": list(node.size), "flags": {},
            "order": order, "mode": 0,
            "inputs": [
                {"name": name, "type": socket, "link": incoming.get(slot)}
                | ({"shape": 7} if name in kind.optional else {})
                | ({"widget": {"name": name}} if name in kind.widgets else {})
                for slot, (name, socket) in enumerate(Workflow._sockets(node).items())
            ],
            "outputs": [
                {"name": name, "type": socket, "links": ids or None}
                for name, socket, ids in zip(kind.names, kind.types, outgoing, strict=True)
            ],
            "properties": {"Node name for S&R": node.type} | ({"models": node.models} if node.models else {}),
            "widgets_values": values,
        }  # fmt: skip
        return out | ({"title": node.title} if node.title else {})

    @staticmethod
    def _group(number: int, title: str, column: list[Node]) -> dict[str, Any]:
        left, top = column[0].position[0] - 20, column[0].position[1] - TITLE - 50
        right = max(node.position[0] + node.size[0] for node in column) + 20
        bottom = max(node.position[1] + node.size[1] for node in column) + 20
        bounding = [left, top, right - left, bottom - top]
        return {"id": number, "title": title, "bounding": bounding, "color": "#3f789e", "font_size": 22, "flags": {}}
