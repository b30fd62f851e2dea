"""Writes the shipped workflows, UI format here and API format under `api/`, from one description each.

python workflows/build.py        write all (tests check that what is in the folder is what this writes)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FPS = 12.0
COLUMN, GAP, TITLE = 340, 60, 30  # pixels: width of a column, gap between nodes, height of a node's title


@dataclass(frozen=True)
class Kind:
    """What the editor must know of a node type: sockets in, widgets in order, sockets out, size on the canvas."""

    inputs: dict[str, str]
    widgets: tuple[str, ...]
    outputs: tuple[str, ...]
    size: tuple[int, int]
    optional: tuple[str, ...] = ()


KINDS = {
    "SoraLoadModel": Kind({}, ("checkpoint",), ("MODEL", "CLIP", "VAE"), (300, 100)),
    "SoraTextEncode": Kind({"clip": "CLIP"}, ("text",), ("CONDITIONING",), (300, 130)),
    "SoraEmptyVideo": Kind(
        {"vae": "VAE"}, ("width", "height", "frames", "batch_size"), ("LATENT",), (300, 150), optional=("vae",)
    ),
    "SoraSampler": Kind(
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent": "LATENT"},
        ("seed", "steps", "cfg", "solver"), ("LATENT",), (300, 420),
    ),
    "SoraVAEEncode": Kind({"vae": "VAE", "images": "IMAGE"}, (), ("LATENT",), (240, 60)),
    "SoraVAEDecode": Kind({"vae": "VAE", "latent": "LATENT"}, (), ("IMAGE",), (240, 60)),
    "SoraPatchify": Kind({"latent": "LATENT"}, ("strength",), ("SORA_PATCHES",), (260, 60)),
    "SoraUnpatchify": Kind({"patches": "SORA_PATCHES"}, (), ("LATENT",), (240, 40)),
    "SoraPatchStrength": Kind(
        {"patches": "SORA_PATCHES", "mask": "MASK"},
        ("strength", "first_frame", "last_frame", "left", "top", "right", "bottom"), ("SORA_PATCHES",), (300, 230),
        optional=("mask",),
    ),
    "SoraViewPatches": Kind({"patches": "SORA_PATCHES"}, (), ("IMAGE",), (240, 40)),
    "SoraWorldClip": Kind(
        {}, ("shape", "colour", "motion", "background", "size", "style", "width", "height", "frames", "seed"),
        ("IMAGE",), (300, 300),
    ),
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
    position: tuple[int, int] = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        return KINDS[self.type].size

    def __getitem__(self, output: str) -> tuple[Node, int]:
        """The output socket of a type, as in `model["VAE"]`."""
        return self, KINDS[self.type].outputs.index(output)


@dataclass
class Workflow:
    """Nodes in columns, from left to right; every column is a group with a title."""

    name: str
    note: str
    nodes: list[Node] = field(default_factory=list)
    columns: list[tuple[str, list[Node]]] = field(default_factory=list)

    def add(self, kind: str, title: str = "", **inputs: Any) -> Node:
        links = {name: value for name, value in inputs.items() if isinstance(value, tuple)}
        values = {name: value for name, value in inputs.items() if not isinstance(value, tuple)}
        known = KINDS[kind]
        assert set(links) <= set(known.inputs) and list(values) == list(known.widgets), (kind, inputs)
        assert set(known.inputs) - set(links) <= set(known.optional), (kind, inputs)
        node = Node(len(self.nodes) + 1, kind, values, links, title)
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
            for slot, (name, kind) in enumerate(KINDS[node.type].inputs.items()):
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
                for slot, (name, socket) in enumerate(kind.inputs.items())
            ],
            "outputs": [
                {"name": name, "type": name, "links": ids or None}
                for name, ids in zip(kind.outputs, outgoing, strict=True)
            ],
            "properties": {"Node name for S&R": node.type}, "widgets_values": values,
        }  # fmt: skip
        return out | ({"title": node.title} if node.title else {})

    @staticmethod
    def _group(number: int, title: str, column: list[Node]) -> dict[str, Any]:
        left, top = column[0].position[0] - 20, column[0].position[1] - TITLE - 50
        right = max(node.position[0] + node.size[0] for node in column) + 20
        bottom = max(node.position[1] + node.size[1] for node in column) + 20
        bounding = [left, top, right - left, bottom - top]
        return {"id": number, "title": title, "bounding": bounding, "color": "#3f789e", "font_size": 22, "flags": {}}


BUNDLED = "sora-mini (bundled)"
PROMPT = "a red circle moves left on a sky background"


def text_to_video() -> Workflow:
    w = Workflow(
        "text_to_video",
        "# Text to video\n\nA text and noise go in, a clip comes out.\n\n"
        "1. **Prompt**: a shape, a colour, a motion and a place, as in *a yellow star spins on a night background*.\n"
        "2. **Canvas**: width and height in multiples of 16 pixels, 4n + 1 frames.\n"
        "3. **Queue**. Another seed gives another clip.\n\n"
        "sora-mini plays at 12 frames a second.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=PROMPT)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas", width=128, height=128, frames=17, batch_size=1)
    sampler = _sampler(w, model, positive, negative, empty["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    _save_video(w, frames["IMAGE"], "sora/text_to_video", (model,), (positive, negative, empty), (sampler,), (frames,))
    return w


def text_to_image() -> Workflow:
    w = Workflow(
        "text_to_image",
        "# Text to image\n\nAn image is a clip of one frame: the same model, the same nodes, frames = 1.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add(
        "SoraTextEncode", "Prompt", clip=model["CLIP"], text="a green triangle stays still on a sand background"
    )
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas of one frame", width=128, height=128, frames=1, batch_size=1)
    sampler = _sampler(w, model, positive, negative, empty["LATENT"])
    image = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    save = w.add("SaveImage", images=image["IMAGE"], filename_prefix="sora/text_to_image")
    _columns(w, (model,), (positive, negative, empty), (sampler,), (image,), (save,))
    return w


def vae_roundtrip() -> Workflow:
    w = Workflow(
        "vae_roundtrip",
        "# Through the VAE and back\n\nThe causal 3D VAE alone: 17 frames of 128 x 128 become 5 x 16 x 16 latents of "
        "16 channels, 1/41 of the numbers, and come back.\n\nBoth clips are saved: compare them. Put your own clip in "
        "with *Load Video* and *Get Video Components* (4n + 1 frames, sides in multiples of 16).",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    clip = _material(w, "yellow", "star", "spins", "night")
    latent = w.add("SoraVAEEncode", vae=model["VAE"], images=clip["IMAGE"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=latent["LATENT"])
    after = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save_after = w.add("SaveVideo", "Through the VAE", video=after["VIDEO"], filename_prefix="sora/vae_roundtrip",
                       format="auto", codec="auto")  # fmt: skip
    before = w.add("CreateVideo", images=clip["IMAGE"], fps=FPS)
    save_before = w.add("SaveVideo", "The source", video=before["VIDEO"], filename_prefix="sora/vae_source",
                        format="auto", codec="auto")  # fmt: skip
    for title, *column in (("Model and material", model, clip), ("Encode", latent), ("Decode", frames),
                           ("Video", after, before), ("Save", save_after, save_before)):  # fmt: skip
        w.column(title, *column)
    before.position = (before.position[0], save_before.position[1])
    return w


def patches() -> Workflow:
    w = Workflow(
        "patches",
        "# Patches and their strength\n\nThe idea of this pack: a clip is a sequence of spacetime patches, and one "
        "number per patch, its **strength**, says what the sampler may do. **0** keeps it, **1** makes it from noise, "
        "between: edits it.\n\nHere all patches are kept but those from frame 9 on: the clip's second half is made "
        "anew from its first half and the text. Look at the picture of the patches, then change the frames, the box, "
        "or give a MASK.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    clip = _material(w, "red", "circle", "moves left", "sky")
    latent = w.add("SoraVAEEncode", vae=model["VAE"], images=clip["IMAGE"])
    cut = w.add("SoraPatchify", "Cut; keep everything", latent=latent["LATENT"], strength=0.0)
    chosen = w.add("SoraPatchStrength", "Make frames 9 to the end", patches=cut["SORA_PATCHES"], strength=1.0,
                   first_frame=9, last_frame=-1, left=0.0, top=0.0, right=1.0, bottom=1.0)  # fmt: skip
    whole = w.add("SoraUnpatchify", patches=chosen["SORA_PATCHES"])
    view = w.add("SoraViewPatches", patches=chosen["SORA_PATCHES"])
    picture = w.add("SaveImage", "The patches", images=view["IMAGE"], filename_prefix="sora/patches_view")
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=PROMPT)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    sampler = _sampler(w, model, positive, negative, whole["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix="sora/patches", format="auto", codec="auto")
    for title, *column in (
        ("Model and material", model, clip), ("Text, latents", positive, negative, latent), ("Patches", cut, chosen),
        ("Together; a look", whole, view), ("Sample", sampler, picture), ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w


def stock_sampler() -> Workflow:
    w = Workflow(
        "stock_sampler",
        "# ComfyUI's own nodes\n\nThe model is a native MODEL, the text encoder a native CLIP, the VAE a native VAE: "
        "CLIP Text Encode, KSampler, VAE Decode, LoRA loaders and the rest work with them.\n\nUse the *simple* "
        "scheduler: it is the schedule the model was trained for.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add("CLIPTextEncode", "Prompt", clip=model["CLIP"], text="a blue square moves up on a sand background")
    negative = w.add("CLIPTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas", width=128, height=128, frames=17, batch_size=1)
    sampler = w.add(
        "KSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent_image=empty["LATENT"], seed=0, steps=30, cfg=4.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    frames = w.add("VAEDecode", samples=sampler["LATENT"], vae=model["VAE"])
    _save_video(w, frames["IMAGE"], "sora/stock_sampler", (model,), (positive, negative, empty), (sampler,), (frames,))
    return w


WORKFLOWS: tuple[Callable[[], Workflow], ...] = (text_to_video, text_to_image, vae_roundtrip, patches, stock_sampler)


def _sampler(w: Workflow, model: Node, positive: Node, negative: Node, latent: tuple[Node, int]) -> Node:
    return w.add(
        "SoraSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent=latent, seed=0, steps=20, cfg=4.0, solver="dpmpp_2m",
    )  # fmt: skip


def _material(w: Workflow, colour: str, shape: str, motion: str, background: str) -> Node:
    return w.add(
        "SoraWorldClip", "Material", shape=shape, colour=colour, motion=motion, background=background, size="medium",
        style="plain", width=128, height=128, frames=17, seed=0,
    )  # fmt: skip


def _save_video(w: Workflow, images: tuple[Node, int], prefix: str, *columns: tuple[Node, ...]) -> None:
    video = w.add("CreateVideo", images=images, fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=prefix, format="auto", codec="auto")
    _columns(w, *columns[:-1], (*columns[-1], video), (save,))


def _columns(w: Workflow, *columns: tuple[Node, ...]) -> None:
    for title, column in zip(("Model", "Text and canvas", "Sample", "Decode", "Save"), columns, strict=True):
        w.column(title, *column)


def write(folder: Path = HERE) -> list[Path]:
    """Write every workflow in both formats; returns the files."""
    files = []
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for make in WORKFLOWS:
        workflow = make()
        for path, content in (
            (folder / f"{workflow.name}.json", workflow.ui()),
            (folder / "api" / f"{workflow.name}.json", workflow.api()),
        ):
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            files.append(path)
    return files


if __name__ == "__main__":
    for path in write():
        print(path)
