"""Tensors of safetensors files, read and written one by one: a model larger than the memory can be converted.

A `TensorFile` is one file, or the shards of one model (a folder, or its index). Weights that were scaled into eight
bits (ComfyUI's `scale_weight`, or `weight_scale`) come back in their own size.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

PICKLES = {".ckpt", ".pt", ".pth", ".bin"}
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = {".scale_weight": ".weight", ".weight_scale": ".weight"}  # of a scale: what it belongs to
LEFT_OUT = (".scale_input", ".input_scale", "scaled_fp8", ".comfy_quant")  # how to multiply in eight bits: we do not
CODES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


class _Pickle:
    """The tensors of a pickle behind safetensors' calls; read without running code, and mapped."""

    def __init__(self, path: Path) -> None:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of the unpickler, the archive or the system
            raise ValueError(f"{path.name} cannot be read as a pickle of weights alone: {error}") from None
        found = found.get("state_dict", found) if isinstance(found, dict) else {}
        self._state = {key: value for key, value in found.items() if isinstance(value, Tensor)}

    def keys(self) -> Iterable[str]:
        return self._state.keys()

    def metadata(self) -> dict[str, str]:
        return {}

    def get_tensor(self, key: str) -> Tensor:
        return self._state[key]

    def get_slice(self, key: str) -> _Pickle._Slice:
        return _Pickle._Slice(self._state[key])

    class _Slice:
        def __init__(self, tensor: Tensor) -> None:
            self._tensor = tensor

        def get_shape(self) -> list[int]:
            return list(self._tensor.shape)

        def get_dtype(self) -> str:
            return CODES.get(self._tensor.dtype, str(self._tensor.dtype))


def open_safetensors(path: Path, pickles: bool = False) -> Any:
    """`safe_open`, with errors that say what the file is instead. pickles: these are opened too."""
    if path.suffix.lower() in PICKLES and path.is_file():
        if pickles:
            return _Pickle(path)
        raise ValueError(
            f"{path.name} is a pickle, not safetensors: `python -m sora_core convert {path.name} --out "
            f"{path.stem}.safetensors` makes one, without running code that may be in it"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a .safetensors file")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} cannot be read as safetensors: it is truncated or of another format; get the file again "
            f"({error})"
        ) from None


OWN = "sora_core/"  # how the format of this package's own files begins
FILES = {
    "latents": "it holds latents; read it with `python -m sora_core decode`",
    "draft": "it is a draft; load it with Sora Load Draft",
}
MARKS = (  # how a key ends or begins, or what it contains, and what such a file is
    (r"lora_|\.lora", "it is a LoRA; load it with a LoRA loader on top of a model"),
    (
        r"^(model\.diffusion_model\.input_blocks|first_stage_model\.|cond_stage_model\.)",
        "it is a Stable Diffusion checkpoint, an image model of another architecture",
    ),
    (r"(self_attn|attn1)\.norm_q\.weight$", "it is a transformer of the Wan family; Sora Load DiT takes a whole one"),
    (r"encoder\.block\.0\.layer", "it is a T5 text encoder; load it with CLIPLoader"),
    (r"text_model\.encoder\.layers", "it is a CLIP text encoder, which no Wan model reads; they take UMT5"),
    (
        r"^(first_stage_model\.)?(encoder|decoder)\.",
        "it is a VAE; Sora Load VAE takes one of the Wan family",
    ),
)


def describe(metadata: dict[str, str], keys: Iterable[str]) -> str:
    """What a safetensors file seems to be, in words."""
    if metadata.get("format", "").startswith(OWN):
        kind = metadata["format"].removeprefix(OWN).partition("/")[0]
        return FILES.get(kind, "it is a checkpoint of this package; load it with Sora Load Model")
    keys = list(keys)
    for mark, words in MARKS:
        if any(re.search(mark, key) for key in keys):
            return words
    return f"nothing in it is known (its first weight is {keys[0] if keys else 'missing'})"


class TensorFile:
    """Tensors by name, from one file or many; nothing is read before it is asked for."""

    def __init__(self, path: Path | str, pickles: bool = False) -> None:
        self.path = Path(path)
        self._files = [open_safetensors(part, pickles) for part in _parts(self.path)]
        self._owner: dict[str, Any] = {}
        self._scales: dict[str, str] = {}
        for file in self._files:
            for key in file.keys():  # noqa: SIM118
                scale = next((suffix for suffix in SCALES if key.endswith(suffix)), None)
                if scale is not None:
                    self._scales[key.removesuffix(scale) + SCALES[scale]] = key
                if not key.endswith(LEFT_OUT):
                    self._owner[key] = file

    def __iter__(self) -> Iterator[str]:
        scales = set(self._scales.values())
        return (key for key in self._owner if key not in scales)

    def __contains__(self, key: str) -> bool:
        return key in self._owner

    @property
    def metadata(self) -> dict[str, str]:
        return self._files[0].metadata() or {}

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._owner[key].get_slice(key).get_shape())

    def kind(self, key: str) -> str:
        """Its type in safetensors' words."""
        return self._owner[key].get_slice(key).get_dtype()

    def get(self, key: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor, in its own precision or in `dtype`; eight bits become bfloat16 where no `dtype` is given."""
        tensor = self._owner[key].get_tensor(key)
        if key in self._scales:
            scale = self._owner[self._scales[key]].get_tensor(self._scales[key]).float()
            tensor = (
                tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
                if scale.numel() > 1
                else tensor.float() * scale
            )
        if tensor.dtype in EIGHT_BITS or key in self._scales:
            return tensor.to(dtype or torch.bfloat16)
        return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def _parts(path: Path) -> list[Path]:
    """The files of a model: itself, or what its index lists."""
    if path.is_dir():
        indices, files = sorted(path.glob("*.safetensors.index.json")), sorted(path.glob("*.safetensors"))
        if len(indices) == 1:
            return _parts(indices[0])
        if len(files) == 1:
            return files
        raise ValueError(f"{path} holds {len(files)} .safetensors files and {len(indices)} indices; name one of them")
    if path.name.endswith(".index.json"):
        try:
            names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path.name} is no index of a sharded model: {error}") from None
        if missing := [name for name in names if not (path.parent / name).is_file()]:
            raise FileNotFoundError(f"{path.name} lists {missing[0]}, which is not beside it; get the missing shards")
        return [path.parent / name for name in names]
    if shard := SHARD.fullmatch(path.name):
        parts = sorted(path.parent.glob(f"{glob.escape(shard[1])}-?????-of-{shard[2]}.safetensors"))
        if len(parts) != int(shard[2]):
            raise FileNotFoundError(
                f"{path.name} is one of {int(shard[2])} shards, of which {len(parts)} are beside it; get the others"
            )
        return parts
    return [path]


def write_tensors(
    path: Path, tensors: Iterable[tuple[str, torch.dtype, tuple[int, ...], Any]], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file from (name, dtype, shape, function that gives the tensor), one tensor in memory at a
    time. The file appears whole or not at all."""
    plan = list(tensors)
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    place = 0
    for name, dtype, shape, _ in plan:
        size = torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name, dtype, shape, get in plan:
                tensor = get()
                if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                    raise ValueError(f"{name}: {tensor.dtype} {tuple(tensor.shape)} where {dtype} {shape} was planned")
                file.write(tensor.contiguous().flatten().view(torch.uint8).numpy())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
