"""A clip under construction as a file: latents with their strength map, their timeline and their progress.

One safetensors file: the tensors, and in its metadata, as JSON, what they belong to. Nothing in it is executed. Frames
that came from eight bits are kept in eight bits: a minute of video would be gigabytes otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import replacing
from .samplers import Progress
from .timeline import Timeline

FORMAT = "sora_core/draft/1"
RECORDS = {kind.__name__: kind for kind in (Progress, Timeline)}


def save_draft(path: Path | str, draft: Mapping[str, Any]) -> None:
    """Write tensors, numbers, texts, lists, dictionaries and records of `RECORDS`, nested as they are.

    Raises FileExistsError where the file exists, ValueError where there is something else in it.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    note = json.dumps(_to_json(dict(draft), "draft", tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=False) as partial:
        save_file(tensors, partial, {"format": FORMAT, "draft": note})


def load_draft(path: Path | str) -> dict[str, Any]:
    """What `save_draft` wrote. Raises ValueError where the file holds something else, or is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise ValueError(f"{path} holds no draft; Sora Save Draft makes such files")
            return _from_json(json.loads(file.metadata()["draft"]), file.get_tensor)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged, or no safetensors file; save the draft again ({error})") from None


def _to_json(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        number, value = str(len(tensors)), value.detach().cpu()
        small = _in_eight_bits(value)
        tensors[number] = value.clone(memory_format=torch.contiguous_format) if small is None else small
        return {"tensor" if small is None else "eight bits": number}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_to_json(part, f"{name}.{i}", tensors) for i, part in enumerate(value)]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _to_json(part, f"{name}.{key}", tensors) for key, part in value.items()}}
    if is_dataclass(value) and type(value).__name__ in RECORDS:
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"record": type(value).__name__, "of": _to_json(parts, name, tensors)}
    raise ValueError(f"{name} is a {type(value).__name__}, which a draft cannot hold")


def _in_eight_bits(value: Tensor) -> Tensor | None:
    """Numbers in 0..1 as whole ones up to 255, where each comes back as it was, to the bit."""
    if value.dtype != torch.float32 or not value.numel() or not 0 <= float(value.amin()) <= float(value.amax()) <= 1:
        return None
    small = (value * 255).round().to(torch.uint8)
    same = torch.equal(_from_eight_bits(small).view(torch.int32), value.view(torch.int32))  # -0 is not 0
    return small.contiguous() if same else None


def _from_eight_bits(small: Tensor) -> Tensor:
    return small.float() / 255


def _from_json(value: dict[str, Any], tensor: Any) -> Any:
    if "tensor" in value:
        return tensor(value["tensor"])
    if "eight bits" in value:
        return _from_eight_bits(tensor(value["eight bits"]))
    if "value" in value:
        return value["value"]
    if "list" in value:
        return [_from_json(part, tensor) for part in value["list"]]
    if "tuple" in value:
        return tuple(_from_json(part, tensor) for part in value["tuple"])
    if "dict" in value:
        return {key: _from_json(part, tensor) for key, part in value["dict"].items()}
    return RECORDS[value["record"]](**_from_json(value["of"], tensor))
