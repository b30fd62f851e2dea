"""Nodes that only the tests use: a video model of the host's own, small and random, and a text for it."""

from __future__ import annotations

from typing import Any

import comfy.sd
import torch

WIDTH, FFN, LAYERS, TEXT = 128, 256, 2, 4096


def _weights() -> dict[str, torch.Tensor]:
    """A Wan 2.1 text-to-video transformer of one head and two layers, as the host's loader expects its keys."""
    generator = torch.Generator().manual_seed(0)

    def linear(name: str, out: int, ins: int) -> dict[str, torch.Tensor]:
        weight = torch.randn(out, ins, generator=generator) * ins**-0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(out)}

    weights = {
        "patch_embedding.weight": torch.randn(WIDTH, 16, 1, 2, 2, generator=generator) * 0.1,
        "patch_embedding.bias": torch.zeros(WIDTH),
        **linear("text_embedding.0", WIDTH, TEXT), **linear("text_embedding.2", WIDTH, WIDTH),
        **linear("time_embedding.0", WIDTH, 256), **linear("time_embedding.2", WIDTH, WIDTH),
        **linear("time_projection.1", 6 * WIDTH, WIDTH), **linear("head.head", 64, WIDTH),
        "head.modulation": torch.randn(1, 2, WIDTH, generator=generator) * 0.1,
    }  # fmt: skip
    for i in range(LAYERS):
        block = f"blocks.{i}"
        for attention in ("self_attn", "cross_attn"):
            for part in ("q", "k", "v", "o"):
                weights |= linear(f"{block}.{attention}.{part}", WIDTH, WIDTH)
            weights |= {f"{block}.{attention}.norm_{part}.weight": torch.ones(WIDTH) for part in ("q", "k")}
        weights |= {f"{block}.norm3.weight": torch.ones(WIDTH), f"{block}.norm3.bias": torch.zeros(WIDTH)}
        weights |= linear(f"{block}.ffn.0", FFN, WIDTH) | linear(f"{block}.ffn.2", WIDTH, FFN)
        weights[f"{block}.modulation"] = torch.randn(1, 6, WIDTH, generator=generator) * 0.1
    return weights


class TinyWan:
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        return {"required": {}}

    def make(self) -> tuple:
        model = comfy.sd.load_diffusion_model_state_dict(_weights())
        texts = torch.zeros(2, 1, 512, TEXT)  # padded, as the host's own encoder does
        texts[:, :, :8] = torch.randn(2, 1, 8, TEXT, generator=torch.Generator().manual_seed(1))
        return model, [[texts[0], {}]], [[texts[1], {}]]


NODE_CLASS_MAPPINGS = {"TinyWan": TinyWan}
