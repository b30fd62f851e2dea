"""Small random networks of diffusers' own classes, and files of them: what the tests of public weights share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sora_core.convert import convert
from sora_core.layouts import load_dit, load_vae


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight drawn anew, norms too, small enough for activations to stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and "gamma" not in name else 0.1
        offset = 1.0 if "gamma" in name or ("norm" in name and name.endswith("weight")) else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + offset
    return network.eval()


def wan_dit(channels: int = 16) -> WanTransformer3DModel:
    network = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=128, in_channels=channels, out_channels=channels, text_dim=96,
        freq_dim=256, ffn_dim=320, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    return randomised(network)


def wan_vae(residual: bool) -> AutoencoderKLWan:
    if residual:
        network = AutoencoderKLWan(
            base_dim=8, decoder_base_dim=12, z_dim=48, is_residual=True, patch_size=2, in_channels=12, out_channels=12,
            scale_factor_spatial=16,
        )  # fmt: skip
    else:
        network = AutoencoderKLWan(base_dim=8, z_dim=16)
    return randomised(network)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def small(kind: str) -> tuple[Callable, nn.Module]:
    return (load_dit, wan_dit()) if kind == "dit" else (load_vae, wan_vae(kind == "vae 2.2"))


def written(tmp_path: Path, change: Callable[[dict[str, Tensor]], object], dtype: torch.dtype = torch.float32) -> Path:
    """A file of a small transformer that was changed."""
    wan_dit().save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "wan.safetensors", "wan", dtype, overwrite=True)
    state = load_file(tmp_path / "wan.safetensors")
    change(state)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"
