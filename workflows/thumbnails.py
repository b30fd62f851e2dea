"""Makes the pictures that the template browser shows, with the bundled model and the settings of the workflows.

python workflows/thumbnails.py      run from the root of the repository
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sora_core.patches import to_patches  # noqa: E402
from sora_core.pipeline import Pipeline  # noqa: E402
from sora_core.preview import draw_patches  # noqa: E402
from sora_core.selection import select, set_strength  # noqa: E402
from sora_core.world import render, scene_of  # noqa: E402

SIDE = 384  # pixels


def settings(name: str, kind: str) -> dict[str, Any]:
    """Inputs of a workflow's first node of a kind."""
    graph = json.loads((HERE / "api" / f"{name}.json").read_text(encoding="utf-8"))
    return next(node["inputs"] for node in graph.values() if node["class_type"] == kind)


def four(frames: Tensor) -> Tensor:
    """Four frames of a clip (T, H, W, 3), first to last, as a square."""
    a, b, c, d = (frames[round(i * (len(frames) - 1) / 3)] for i in range(4))
    return torch.cat([torch.cat([a, b], dim=1), torch.cat([c, d], dim=1)])


def save(name: str, picture: Tensor) -> None:
    image = Image.fromarray((picture * 255).round().byte().numpy())
    scale = SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    square.save(HERE / f"{name}.jpg", quality=88)


def material(name: str) -> Tensor:
    clip = settings(name, "SoraWorldClip")
    words = (clip[key] for key in ("shape", "colour", "motion", "background", "style", "size"))
    scene = scene_of(*words, rng=np.random.default_rng(clip["seed"]), aspect=clip["width"] / clip["height"])
    return render(scene, clip["frames"], clip["height"], clip["width"])


def made(pipeline: Pipeline, name: str) -> Tensor:
    """What a workflow from text makes."""
    stock = name == "stock_sampler"
    text = settings(name, "CLIPTextEncode" if stock else "SoraTextEncode")["text"]
    canvas, sampler = settings(name, "SoraEmptyVideo"), settings(name, "KSampler" if stock else "SoraSampler")
    return pipeline.generate(
        text, width=canvas["width"], height=canvas["height"], frames=canvas["frames"], seed=sampler["seed"],
        steps=sampler["steps"], cfg=sampler["cfg"], solver=sampler["sampler_name" if stock else "solver"],
    )  # fmt: skip


def main() -> None:
    pipeline = Pipeline.load()
    for name in ("text_to_video", "text_to_image", "stock_sampler"):
        frames = made(pipeline, name)
        save(name, four(frames) if len(frames) > 1 else frames[0])
    clip = material("vae_roundtrip")
    back = pipeline.decode(pipeline.encode(clip))
    save("vae_roundtrip", torch.cat([torch.cat([f[0], f[8]], dim=1) for f in (clip, back)]))
    chosen = settings("patches", "SoraPatchStrength")
    patches = to_patches(
        pipeline.encode(material("patches")), settings("patches", "SoraPatchify")["strength"], (1, 2, 2)
    )
    box = tuple(chosen[side] for side in ("left", "top", "right", "bottom"))
    places = select(patches.grid, chosen["first_frame"], chosen["last_frame"], box)
    save("patches", draw_patches(set_strength(patches, chosen["strength"], places)))


if __name__ == "__main__":
    main()
