"""Finished windows of a long clip, kept in a folder: what a crash or a cancel leaves is not made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import replacing

_IN_WORDS = {  # parts of a clip's identity, in words
    "cues": "prompts", "made by": "version of this pack", "start": "clip to go on from",
    "task": "given clip, strengths or number of new frames",
}  # fmt: skip


class Made(NamedTuple):
    """New latents (1, C, T, H, W) of a window, and their drift as in `Window`."""

    latents: Tensor
    drift: float | None = None
    corrected: float | None = None


def _parts(described: dict[str, Any]) -> dict[str, Any]:
    """What is described, by name; what is a table itself by the names in it."""
    tables = ((name, value if isinstance(value, dict) else {"": value}) for name, value in described.items())
    return {f"{name} {part}".strip(): value for name, table in tables for part, value in table.items()}


class Store:
    """Finished windows in a folder, one file each, and a note that says of which clip."""

    def __init__(self, folder: Path | str, text: str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.note, self.text = self.folder / "clip.json", text
        if self.note.exists():
            kept, asked = _parts(self._read_note()), _parts(json.loads(self.text))
            if other := sorted(name for name in kept.keys() | asked.keys() if kept.get(name) != asked.get(name)):
                told = dict.fromkeys(_IN_WORDS.get(name, name) for name in other)
                raise ValueError(
                    f"{folder} keeps the windows of another clip, made with other {', '.join(told)}; choose another "
                    "folder, or remove it"
                )
        elif any(self.folder.glob("window-*.safetensors")):
            raise ValueError(
                f"{folder} keeps windows without {self.note.name}, which says of which clip they are: bring it back, "
                "or choose another folder"
            )

    def _read_note(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.note.read_text(encoding="utf-8")))
        except ValueError:
            raise ValueError(f"{self.note} is damaged: bring it back, or choose another folder") from None

    def _path(self, number: int) -> Path:
        return self.folder / f"window-{number:04d}.safetensors"

    def load(self, number: int) -> Made | None:
        """A window, or None where it is to be made: it is missing, or a copy of the folder cut it short."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                return Made(file.get_tensor("latents"), *json.loads(file.metadata()["drift"]))
        except SafetensorError:
            return None

    def save(self, number: int, made: Made) -> None:
        if not self.note.exists():  # not before something was made: settings that fail do not claim a folder
            with replacing(self.note) as partial:
                partial.write_text(self.text, encoding="utf-8")
        drift = json.dumps([made.drift, made.corrected])
        with replacing(self._path(number)) as partial:
            save_file({"latents": made.latents.contiguous()}, partial, {"drift": drift})
