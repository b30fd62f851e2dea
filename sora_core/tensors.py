"""Tensors of safetensors files, read and written one by one: a model larger than the memory can be converted.

A `TensorFile` is one file, or the shards of one model (a folder, or its index). Weights that were scaled into eight
bits (ComfyUI's `scale_weight`, or `weight_scale`) come back in their own size.
"""

from __future__ import annotations

import glob
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .files import replacing

PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl"}
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
QUANTISED = ".comfy_quant"  # of a layer: JSON that says in what
SCALES = {".scale_weight": ".weight", ".weight_scale": ".weight"}  # of a scale: what it belongs to
SCALED = (".scale_input", ".input_scale", "scaled_fp8", QUANTISED)  # how to multiply in eight bits, which we do not
EIGHT_BIT_FORMATS, FORMAT_KEYS = {"float8_e4m3fn", "float8_e5m2"}, {"format", "full_precision_matrix_mult"}  # ComfyUI's
FLOATS = {"F64", "F32", "F16", "BF16"}  # of safetensors
RENAMED = "it is a pickle (torch.save) under another name; call it .pth and use `python -m sora_core convert`"
BEGINNINGS = {  # of files that are no safetensors: what they are, and what to do
    b"GGUF": "it is GGUF, which is not read here; get the .safetensors of 16 bits or of scaled fp8",
    b"PK\x03\x04": RENAMED,
    b"\x80\x02": RENAMED,
    b"version https://git-lfs": "it is a pointer of Git LFS; run `git lfs pull`, or download the file itself",
    b"<": "it is a web page, not the file; the download needs another address, or a login",
}
TAIL = 64 * 1024  # bytes; no weight of a trained model is as long and zero throughout
CODES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


class _Pickle:
    """The tensors of a pickle behind safetensors' calls; read without running code, and mapped."""

    def __init__(self, path: Path) -> None:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
        except UnpicklingError:
            raise ValueError(
                f"{path.name} is a pickle of more than weights, which is not run; get safetensors"
            ) from None
        except Exception as error:  # of the archive or the system
            size = path.stat().st_size
            words = f"cut short, or no pickle of weights ({error})" if size else "empty"
            raise ValueError(f"{path.name} is {words}; get the file again") from None
        self._state = _named_tensors(found)
        if not self._state:
            raise ValueError(f"{path.name} is a pickle without weights by name")

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


def _named_tensors(found: Any, depth: int = 0) -> dict[str, Tensor]:
    """The tensors of a dictionary, or of the one in it that has most: `state_dict`, `model`, `generator_ema`."""
    if not isinstance(found, Mapping) or depth > 4:
        return {}
    own = {key: value for key, value in found.items() if isinstance(key, str) and _is_plain(value)}
    return max([own, *(_named_tensors(value, depth + 1) for value in found.values())], key=len)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def open_safetensors(path: Path, pickles: bool = False) -> Any:
    """`safe_open`, with errors that say what the file is instead. pickles: these are opened too."""
    if path.suffix.lower() in PICKLES and path.is_file():
        if pickles:
            return _Pickle(path)
        raise ValueError(
            f"{path.name} is a pickle, not safetensors; without running code that may be in it, `python -m sora_core "
            f"convert {path} --out {path.with_suffix('.safetensors')}` makes them of it, in this pack's folder"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a .safetensors file")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        with path.open("rb") as file:
            begins = file.read(32).lstrip()
        known = (words for mark, words in BEGINNINGS.items() if begins.startswith(mark))
        words = "it is empty; get the file again" if not begins else next(known, None)
        words = words or f"it is truncated or of another format; get the file again ({error})"
        raise ValueError(f"{path.name} cannot be read as safetensors: {words}") from None
    except RuntimeError as error:  # of mapping it
        size = path.stat().st_size / 2**30
        raise OSError(f"{path.name}, of {size:.1f} GB, needs more memory than this machine has ({error})") from None


OWN = "sora_core/"  # how the format of this package's own files begins
FILES = {
    "latents": "it holds latents; read it with `python -m sora_core decode`",
    "draft": "it is a draft; load it with Sora Load Draft",
}
LORA = r"lora_(A|B|up|down|unet|te|magnitude)|\.lora\.|\.lokr_w|\.hada_w|\.diff(_b)?$|^lycoris_"
MARKS = (  # how a key ends or begins, or what it contains, and what such a file is
    (LORA, "it is a LoRA; load it with a LoRA loader on top of a model"),
    (
        r"^(model\.diffusion_model\.)?input_blocks\.|^cond_stage_model\.",
        "it is a Stable Diffusion checkpoint, an image model of another architecture",
    ),
    (r"double_blocks\.\d", "it is a transformer of the Flux or Hunyuan family, another architecture"),
    (r"joint_blocks\.\d", "it is Stable Diffusion 3, an image model of another architecture"),
    (r"(^|\.)transformer_blocks\.\d", "it is a transformer of another architecture (LTX, Qwen-Image, CogVideoX ...)"),
    (r"vace_blocks\.\d", "it is Wan's VACE model, or a part of one, which has parts of its own"),
    (
        r"(^|\.)blocks\.\d+\.(self_attn\.(q|k|v|o|norm_q|norm_k)|attn1\.(to_q|to_k|to_v|norm_q|norm_k))\.",
        "it is a transformer of the Wan family, or a part of one; Sora Load DiT takes a whole one",
    ),
    (r"encoder\.block\.0\.layer", "it is a T5 text encoder; load it with CLIPLoader"),
    (
        r"^blocks\.0\.attn\.q\.weight$",
        "it is a T5 text encoder in Wan's own layout; CLIPLoader reads the one that was repackaged for ComfyUI",
    ),
    (r"text_model\.encoder\.layers", "it is a CLIP text encoder, which no Wan model reads; they take UMT5"),
    (r"vision_model\.encoder\.layers|(^|\.)visual\.", "it is a CLIP vision encoder; load it with CLIPVisionLoader"),
    (
        r"^(first_stage_model\.)?(encoder|decoder)\.(conv|down|up|mid|quant|head)",
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
    """Tensors by name, from one file or many; nothing is read before it is asked for. Raises ValueError where two of
    them hold the same name."""

    def __init__(self, path: Path | str, pickles: bool = False) -> None:
        self.path = Path(path)
        self.parts = files_of(self.path)
        self._files = [open_safetensors(part, pickles) for part in self.parts]
        self._owner: dict[str, Any] = {}
        self._scales: dict[str, str] = {}
        self._marks: dict[str, Any] = {}  # what says that matrices of eight bits have scales
        for part, file in zip(self.parts, self._files, strict=True):
            keys = file.keys()
            if not any(re.search(LORA, key) for key in keys):  # in which layers that learned nothing are zero
                _refuse_zeros(part)
            for key in keys:
                if key in self._owner:
                    raise ValueError(f"{part.name} holds {key}, which another file of the same model holds too")
                scale = next((suffix for suffix in SCALES if key.endswith(suffix)), None)
                if scale is not None:
                    self._scales[key.removesuffix(scale) + SCALES[scale]] = key
                (self._marks if key.endswith(SCALED) else self._owner)[key] = file

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

    def check_scales(self, wanted: Iterable[str], prefix: str) -> None:
        """Raises ValueError that names a weight of eight bits, of those wanted, whose scale is missing though the
        network has scales, or a scale that is not one number above 0 for its weight or for each of its rows, or a
        layer in a format that is not read here."""
        wanted = sorted(wanted)
        for key, file in self._marks.items():
            if key.startswith(prefix) and key.endswith(QUANTISED):
                self._check_format(key, file.get_tensor(key))
        eight = [key for key in wanted if self.kind(key).startswith("F8")]
        bare = [key for key in eight if key not in self._scales]
        marked = any(key.startswith(prefix) for key in self._marks) or "_quantization_metadata" in self.metadata
        if bare and (marked or len(bare) < len(eight)):
            raise ValueError(f"{self.path.name} lacks the scale of {bare[0]}, which is in eight bits; get it again")
        for weight in wanted:
            if (scale := self._scales.get(weight)) is None:
                continue
            rows = self.shape(weight)[:1]
            count, shape = torch.Size(self.shape(scale)).numel(), self.shape(scale)
            if self.kind(scale) not in FLOATS or (count != 1 and (shape[:1] != rows or count != shape[0])):
                raise ValueError(
                    f"{self.path.name}: {scale} is {self.kind(scale)} of shape {shape}; only one scale for a "
                    "matrix, or one for each of its rows, is read here: get the scaled fp8 or the 16-bit file"
                )
            values = self._owner[scale].get_tensor(scale).float()
            if not bool((values.isfinite() & (values > 0)).all()):
                raise ValueError(f"{self.path.name}: {scale} is not above 0 everywhere; get the file again")

    def _check_format(self, key: str, words: Tensor) -> None:
        try:
            settings = json.loads(bytes(words.tolist()))
            known = settings["format"] in EIGHT_BIT_FORMATS and settings.keys() <= FORMAT_KEYS
        except (ValueError, TypeError, KeyError, AttributeError):
            settings, known = "something that cannot be read", False
        if not known:
            raise ValueError(
                f"{self.path.name}: {key} says {settings}, which is not read here; get the scaled fp8 or 16-bit file"
            )

    def scales(self) -> dict[str, str]:
        """Of a weight's name to that of its scale."""
        return dict(self._scales)

    def get(self, key: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor, in its own precision or in `dtype`; where no `dtype` is given, eight bits become bfloat16, and 64
        float32."""
        tensor = self._owner[key].get_tensor(key)
        if key in self._scales:
            scale = self._owner[self._scales[key]].get_tensor(self._scales[key]).float()
            tensor = tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))
        if tensor.dtype in EIGHT_BITS or key in self._scales:
            return tensor.to(dtype or torch.bfloat16)
        if dtype is None and tensor.dtype == torch.float64:
            return tensor.float()
        return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def _refuse_zeros(path: Path) -> None:
    """Raises ValueError where a file's end was reserved but never written, as interrupted downloads leave it."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) > TAIL:
            file.seek(-TAIL, os.SEEK_END)
            if not any(file.read()):
                raise ValueError(f"{path.name} ends in nothing but zeros: its download was not finished; get it again")


def files_of(path: Path) -> list[Path]:
    """The files of a model: itself, or what its index lists."""
    if path.is_dir():
        indices, files = sorted(path.glob("*.safetensors.index.json")), sorted(path.glob("*.safetensors"))
        if len(indices) == 1:
            return files_of(indices[0])
        if len(files) == 1:
            return files
        raise ValueError(f"{path} holds {len(files)} .safetensors files and {len(indices)} indices; name one of them")
    if path.name.endswith(".index.json"):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; give the path of a .safetensors file")
        try:
            names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
            files = [path.parent / name for name in names]
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path.name} is no index of a sharded model: {error}") from None
        if not files:
            raise ValueError(f"{path.name} is no index of a sharded model: it lists no files")
        if missing := [name for name in names if not (path.parent / name).is_file()]:
            raise FileNotFoundError(f"{path.name} lists {missing[0]}, which is not beside it; get the missing shards")
        return files
    if shard := SHARD.fullmatch(path.name):
        parts = sorted(path.parent.glob(f"{glob.escape(shard[1])}-?????-of-{shard[2]}.safetensors"))
        if len(parts) != int(shard[2]):
            raise FileNotFoundError(
                f"{path.name} is one of {int(shard[2])} shards, of which {len(parts)} are beside it; get the others"
            )
        return parts
    return [path]


Plan = list[tuple[str, torch.dtype, tuple[int, ...], Callable[[], Tensor]]]  # name, dtype, shape, what gives it


def write_tensors(path: Path, plan: Plan, overwrite: bool = False, *, numbered: bool = False) -> Path:
    """Write a safetensors file with one tensor in memory at a time; returns where it stands.

    Raises ValueError where two have one name, FileExistsError where the path is taken and to be neither overwritten nor
    numbered."""
    header: dict[str, Any] = {}
    place = 0
    for name, dtype, shape, _ in plan:
        if name in header:
            raise ValueError(f"{name} comes twice, from two weights of the source; give it one layout")
        size = torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (target := replacing(path, overwrite, numbered=numbered)) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, dtype, shape, get in plan:
            tensor = get()
            if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                raise ValueError(f"{name}: {tensor.dtype} {tuple(tensor.shape)} where {dtype} {shape} was planned")
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return target.path
