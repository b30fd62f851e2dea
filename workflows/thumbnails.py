"""Makes the pictures that the template browser shows, by running every workflow on a ComfyUI that is up; of those that
need public weights, which nobody has to download for a picture, a card with their name.

python workflows/thumbnails.py [http://127.0.0.1:8188 [NAME ...]]      run from the root of the repository
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import parts
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sora_core.video import read_video, write_video  # noqa: E402
from sora_core.world import render, scene_of  # noqa: E402

SIDE = 384  # pixels
STILL = ("patches", "text_to_image")  # whose picture says more than their video


def ask(url: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
        return answer.read()


def run(host: str, prompt: dict[str, Any]) -> list[dict[str, str]]:
    """Files that a workflow writes. Raises RuntimeError where it fails."""
    number = json.loads(ask(f"{host}/prompt", {"prompt": prompt}))["prompt_id"]
    while not (history := json.loads(ask(f"{host}/history/{number}"))):
        time.sleep(1)
    if history[number]["status"]["status_str"] != "success":
        raise RuntimeError(history[number]["status"]["messages"])
    files = [entry for output in history[number]["outputs"].values() for entry in output.get("images", [])]
    return [{key: entry[key] for key in ("filename", "subfolder", "type")} for entry in files]


def upload(host: str, name: str, frames: Tensor) -> None:
    """Put a clip where the host's Load Video finds it."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / name, frames, 12)
        content = (Path(folder) / name).read_bytes()
    head = f'--edge\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
    request = urllib.request.Request(
        f"{host}/upload/image", head + content + b"\r\n--edge--\r\n",
        {"Content-Type": "multipart/form-data; boundary=edge"},
    )  # fmt: skip
    urllib.request.urlopen(request).close()


def frames_of(host: str, file: dict[str, str]) -> Tensor:
    """Frames (T, H, W, 3) of a file of the host's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file["filename"]
        path.write_bytes(ask(f"{host}/view?{urlencode(file)}"))
        return read_video(path).frames


# frames that are shown of a clip in which most is given
SHOWN = {"extend": (4, 8, 12, 16), "extend_backward": (0, 4, 8, 12), "transition": (15, 18, 22, 26),
         "loop": (16, 18, 21, 24), "reroll": (4, 7, 10, 13)}  # fmt: skip
EDGE = torch.tensor([1.0, 0.55, 0.0])  # around frames that were made
MADE = {"extend": range(9, 17), "extend_backward": range(8), "transition": range(17, 25), "loop": range(17, 25),
        "reroll": range(5, 13)}  # fmt: skip


def four(frames: Tensor, name: str) -> Tensor:
    """Four frames of a clip (T, H, W, 3) as a square; where a task gives some, the made ones have an edge."""
    places = SHOWN.get(name) or [round(i * (len(frames) - 1) / 3) for i in range(4)]
    tiles = []
    for at in places:
        tile, width = frames[at].clone(), max(2, frames.shape[1] // 40)
        if at in MADE.get(name, ()):
            for side in (tile[:width], tile[-width:], tile[:, :width], tile[:, -width:]):
                side[:] = EDGE
        tiles.append(tile)
    a, b, c, d = tiles
    return torch.cat([torch.cat([a, b], dim=1), torch.cat([c, d], dim=1)])


def save(name: str, picture: Tensor) -> None:
    image = Image.fromarray((picture * 255).round().byte().numpy())
    scale = SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    square.save(HERE / f"{name}.jpg", quality=88)


def card(name: str) -> Tensor:
    """The name of a workflow on a sky that darkens."""
    sky = torch.lerp(
        torch.tensor([0.55, 0.80, 0.95]), torch.tensor([0.15, 0.30, 0.55]), torch.linspace(0, 1, SIDE)[:, None]
    )
    image = Image.fromarray((sky[:, None].expand(SIDE, SIDE, 3) * 255).byte().numpy())
    pen = ImageDraw.Draw(image)
    for line, (text, size) in enumerate(((name.split("_")[0].title(), 84), (" ".join(name.split("_")[1:]), 34))):
        pen.text((32, 112 + 104 * line), text, fill="white", font=ImageFont.load_default(size))
    return torch.from_numpy(np.array(image)) / 255


def main() -> None:
    host, *names = sys.argv[1:] or ["http://127.0.0.1:8188"]
    for path in sorted((HERE / "api").glob("*.json")):
        if names and path.stem not in names:
            continue
        if path.stem.startswith("wan_"):
            save(path.stem, card(path.stem))
            continue
        if path.stem == "your_video":
            scene = scene_of("circle", "red", "moves left", "sky", rng=np.random.default_rng(0))
            upload(host, "clip.mp4", render(scene, 17, parts.SIDE, parts.SIDE))
        files = run(host, json.loads(path.read_text(encoding="utf-8")))
        clips = [frames_of(host, file) for file in files]
        clip = min(clips, key=len) if path.stem in STILL else max(clips, key=lambda c: (len(c), c.shape[1]))
        save(path.stem, four(clip, path.stem) if len(clip) > 1 else clip[0])
        print(path.stem)


if __name__ == "__main__":
    main()
