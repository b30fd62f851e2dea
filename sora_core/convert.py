"""Public weights in another layout or precision, one tensor in memory at a time; and LoRAs under the names that ComfyUI
reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .layouts import DIT_MARKS, LAYOUTS, VAE_MARKS, diffusers_name, dit_names, holds, read_dit, read_vae, vae_names
from .tensors import EIGHT_BITS, LORA, Plan, TensorFile, describe, write_tensors

LAYERS = (  # of a block, and of the rest: what a LoRA may change
    *(f"blocks.0.{attn}.{part}" for attn in ("self_attn", "cross_attn") for part in ("q", "k", "v", "o")),
    "blocks.0.ffn.0", "blocks.0.ffn.2", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2",
    "time_projection.1", "head.head", "patch_embedding",
)  # fmt: skip
PREFIXES = r"(?:transformer\.|base_model\.model\.|diffusion_model\.|unet\.|pipe\.dit\.)*"
PARTS = r"(lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight|alpha|dora_scale|diff|diff_b"  # what ComfyUI reads
LORA_KEY = re.compile(rf"{PREFIXES}(.+?)\.({PARTS})")


def convert(
    source: Path | str,
    out: Path | str,
    layout: str,
    dtype: torch.dtype | None = None,
    *,
    overwrite: bool = False,
    numbered: bool = False,
) -> tuple[Path, str]:
    """Write a transformer, a VAE or a LoRA in another layout and precision; returns where it stands, and what it is.

    dtype: None is bfloat16, and for a LoRA its own; float8_e4m3fn keeps matrices of a transformer's blocks in eight
    bits, each with a scale (ComfyUI's scaled fp8), and the rest in bfloat16. overwrite, numbered: as of
    `files.replacing`. Raises ValueError where the source is none of them, where a weight does not fit into the
    precision, or where nothing reads the result.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is not known; use one of {', '.join(LAYOUTS)}")
    tensors, eight = TensorFile(source, pickles=True), dtype in EIGHT_BITS
    if Path(out).resolve() in [part.resolve() for part in tensors.parts]:
        raise ValueError(f"{out} is what is converted; write to another file")
    if eight and layout == "diffusers":
        raise ValueError("diffusers reads no scaled fp8; use --layout wan, or --dtype bf16")
    if any(re.search(LORA, key) for key in tensors):
        plan, kind = _lora(tensors, layout, dtype)
        return write_tensors(Path(out), plan, overwrite, numbered=numbered), kind
    dtype = dtype or torch.bfloat16
    if holds(tensors, DIT_MARKS):
        config, names = read_dit(tensors)
        targets, kind = dit_names(config, layout), f"transformer of {config.layers} blocks, {config.dim} wide"
    elif holds(tensors, VAE_MARKS):
        if eight:
            raise ValueError(f"{tensors.path.name} is a VAE, which nothing reads in fp8; use --dtype bf16")
        vae_config, names = read_vae(tensors)
        targets, kind = vae_names(vae_config, layout), f"VAE of {vae_config.z_dim} channels"
    else:
        seen = describe(tensors.metadata, tensors)
        raise ValueError(f"{tensors.path.name} is neither a Wan transformer nor a Wan VAE: {seen}")
    small = torch.bfloat16 if eight else dtype
    plan: Plan = []
    for ours, theirs in names.items():
        shape, target = tensors.shape(theirs), targets[ours]
        if eight and ours.startswith("blocks.") and len(shape) == 2:
            scale_of = lambda key=theirs: _scale(_whole(tensors, key), dtype)  # noqa: E731
            plan.append((target, dtype, shape, lambda key=theirs: _eight_bits(_whole(tensors, key), dtype)))
            plan.append((target.removesuffix("weight") + "scale_weight", torch.float32, (), scale_of))
        else:
            plan.append((target, small, shape, lambda key=theirs: _cast(tensors, key, small)))
    if eight:
        plan.append(("scaled_fp8", dtype, (0,), lambda: torch.empty(0, dtype=dtype)))
    return write_tensors(Path(out), plan, overwrite, numbered=numbered), kind


def _lora(tensors: TensorFile, layout: str, dtype: torch.dtype | None) -> tuple[Plan, str]:
    """What is written of a LoRA, and what it is: diffusers' and PEFT's names of a Wan LoRA become those that ComfyUI's
    LoRA loaders read, its strength too."""
    name = tensors.path.name
    if layout != "wan" or dtype in EIGHT_BITS:
        raise ValueError(f"{name} is a LoRA; use --layout wan, with --dtype bf16, fp16 or fp32, or without")
    if all(re.match(r"lora_unet_|diffusion_model\.", key) for key in tensors):
        raise ValueError(f"{name} is a LoRA under names that ComfyUI reads; load it with a LoRA loader as it is")
    plan: Plan = []
    ranks: dict[str, int] = {}
    with_alpha = {_place(tensors, key)[0] for key in tensors if key.endswith(".alpha")}
    for key in tensors:
        layer, part = _place(tensors, key)
        own, target = tensors.get(key).dtype, f"diffusion_model.{layer}.{part}"
        kind = dtype or (own if own.is_floating_point else torch.float32)  # an alpha may be a whole number
        plan.append((target, kind, tensors.shape(key), lambda key=key, kind=kind: _cast(tensors, key, kind)))
        if part in ("lora_A.weight", "lora_down.weight") and layer not in with_alpha:
            ranks[layer] = tensors.shape(key)[0]
    for layer, alpha in _alphas(tensors, ranks).items():
        value = torch.tensor(alpha)
        plan.append((f"diffusion_model.{layer}.alpha", torch.float32, (), lambda value=value: value))
    return plan, f"LoRA of {len(ranks.keys() | with_alpha)} layers"


def _place(tensors: TensorFile, key: str) -> tuple[str, str]:
    """Our name of the layer that a LoRA's weight belongs to, and what it is of it."""
    ours = {diffusers_name(f"{layer}.weight").removesuffix(".weight"): layer for layer in LAYERS}
    ours |= {layer: layer for layer in LAYERS}
    found = LORA_KEY.fullmatch(key)
    block = re.match(r"blocks\.\d+\.", found[1]) if found else None
    layer = ours.get(found[1] if block is None else "blocks.0." + found[1][block.end() :]) if found else None
    if found is None or layer is None:
        raise ValueError(
            f"{tensors.path.name} is a LoRA with {key}, which is no part of a Wan transformer that ComfyUI's LoRA "
            "loaders change"
        )
    name = layer if block is None else block[0] + layer.removeprefix("blocks.0.")
    return name, found[2].replace(".default", "")


def _alphas(tensors: TensorFile, ranks: dict[str, int]) -> dict[str, float]:
    """What ComfyUI divides by the rank, of every layer whose file keeps it elsewhere: diffusers in the header, PEFT in
    a file beside it. Without either it is the rank itself."""
    header = tensors.metadata.get("lora_adapter_metadata")
    beside = tensors.parts[0].with_name("adapter_config.json")
    if header is None and not beside.is_file():
        if any(key.startswith("base_model.model.") for key in tensors) and ranks:
            raise ValueError(
                f"{tensors.path.name} is a LoRA of PEFT, whose strength is in adapter_config.json: put it beside it"
            )
        return {}
    try:
        found: dict[str, Any] = json.loads(header if header is not None else beside.read_text(encoding="utf-8"))
        settings = {key.removeprefix("transformer."): value for key, value in found.items()}
        patterns = settings.get("alpha_pattern") or {}
        alphas = {}
        for layer, rank in ranks.items():
            own = (value for part, value in patterns.items() if _ends(layer, part))
            alpha = float(next(own, settings["lora_alpha"]))
            alphas[layer] = alpha * rank**0.5 if settings.get("use_rslora") else alpha  # of the rank or of its root
        return alphas
    except (ValueError, TypeError, KeyError, AttributeError, re.error) as error:
        raise ValueError(f"{tensors.path.name}: what says its strength cannot be read ({error})") from None


def _ends(layer: str, pattern: str) -> bool:
    """Whether a pattern of PEFT's, a name's end in diffusers' words or Wan's, means a layer."""
    names = (layer, diffusers_name(f"{layer}.weight").removesuffix(".weight"))
    return any(re.search(rf"(^|\.){pattern}$", name) for name in names)


def _whole(tensors: TensorFile, key: str) -> Tensor:
    """A weight in float32. Raises ValueError where it is not finite."""
    weight = tensors.get(key, torch.float32)
    if not bool(weight.isfinite().all()):
        raise ValueError(f"{tensors.path.name}: {key} has values that are not finite; get the file again")
    return weight


def _cast(tensors: TensorFile, key: str, dtype: torch.dtype) -> Tensor:
    weight = _whole(tensors, key).to(dtype)
    if not bool(weight.isfinite().all()):
        raise ValueError(f"{tensors.path.name}: {key} is too large for {dtype}; use --dtype bf16")
    return weight


def _scale(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight.abs().max() / torch.finfo(dtype).max).clamp(min=1e-12)


def _eight_bits(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight / _scale(weight, dtype)).to(dtype)
