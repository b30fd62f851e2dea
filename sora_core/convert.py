"""Public weights in another layout or precision, one tensor in memory at a time; and LoRAs under the names that ComfyUI
reads."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from .layouts import DIT_MARKS, LAYOUTS, VAE_MARKS, diffusers_name, dit_names, holds, read_dit, read_vae, vae_names
from .tensors import EIGHT_BITS, LORA, Plan, TensorFile, describe, write_tensors

LAYERS = (  # of a block, and of the rest: what a LoRA may change
    *(f"blocks.0.{attn}.{part}" for attn in ("self_attn", "cross_attn") for part in ("q", "k", "v", "o")),
    "blocks.0.ffn.0", "blocks.0.ffn.2", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2",
    "time_projection.1", "head.head", "patch_embedding",
)  # fmt: skip
# Of a LoRA: the layer, and what it is of it.
LORA_KEY = re.compile(r"(?:transformer\.|base_model\.model\.|diffusion_model\.)*(.+?)\.((?:lora_|alpha|diff|dora_).*)")


def convert(source: Path | str, out: Path | str, layout: str, dtype: torch.dtype) -> str:
    """Write a transformer, a VAE or a LoRA in another layout and precision; returns what it is.

    dtype: float8_e4m3fn keeps matrices of a transformer's blocks in eight bits, each with a scale (ComfyUI's scaled
    fp8), and the rest in bfloat16. Raises ValueError where the source is none of them, where a weight does not fit into
    the precision, or where nothing reads the result.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is not known; use one of {', '.join(LAYOUTS)}")
    tensors, eight = TensorFile(source, pickles=True), dtype in EIGHT_BITS
    if Path(out).resolve() in [part.resolve() for part in tensors.parts]:
        raise ValueError(f"{out} is what is converted; write to another file")
    if eight and layout == "diffusers":
        raise ValueError("diffusers reads no scaled fp8; use --layout wan, or --dtype bf16")
    if any(re.search(LORA, key) for key in tensors):
        return _lora(tensors, Path(out), layout, dtype)
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
    write_tensors(Path(out), plan)
    return kind


def _lora(tensors: TensorFile, out: Path, layout: str, dtype: torch.dtype) -> str:
    """Diffusers' and PEFT's names of a Wan LoRA become those that ComfyUI's LoRA loaders read."""
    if layout != "wan" or dtype in EIGHT_BITS:
        raise ValueError(f"{tensors.path.name} is a LoRA; use --layout wan, with --dtype bf16, fp16 or fp32")
    ours = {diffusers_name(f"{layer}.weight").removesuffix(".weight"): layer for layer in LAYERS}
    ours |= {layer: layer for layer in LAYERS}
    plan: Plan = []
    for key in tensors:
        found = LORA_KEY.fullmatch(key)
        block = re.match(r"blocks\.\d+\.", found[1]) if found else None
        layer = ours.get(found[1] if block is None else "blocks.0." + found[1][block.end() :]) if found else None
        if layer is None:
            raise ValueError(f"{tensors.path.name} is a LoRA with {key}, which is no layer of a Wan transformer")
        name = layer if block is None else block[0] + layer.removeprefix("blocks.0.")
        target = f"diffusion_model.{name}.{found[2]}"
        plan.append((target, dtype, tensors.shape(key), lambda key=key: _cast(tensors, key, dtype)))
    write_tensors(out, plan)
    return f"LoRA of {len({LORA_KEY.fullmatch(name)[1] for name, *_ in plan})} layers"


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
