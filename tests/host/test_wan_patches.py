"""What nodes put on a public MODEL acts as on the host's own: LoRAs, other attention, skipped blocks; two experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prompts import by_class
from safetensors.torch import save_file
from torch import Tensor
from wan_graphs import (
    CANVAS,
    latents_of,
    loaders,
    relative,
    sampled,
)

from sora_core.convert import convert


def test_experts_are_two_files(server: Any, api: Any, weights: Path) -> None:
    high = loaders("high")["ours"]
    join = {"class_type": "SoraJoinExperts", "inputs": {"high": ["high", 0], "low": ["high", 0], "boundary": 0.9}}
    prompt = api("stock_sampler") | {"high": high, "join": join}
    prompt[by_class(prompt, "KSampler")[0]]["inputs"]["model"] = ["join", 0]
    outcome = server.run(prompt)
    assert outcome.error is not None and "are the same weights" in outcome.error["exception_message"]


@pytest.mark.parametrize(
    "patch",
    [
        {"class_type": "SofterAttention", "inputs": {"model": ["model", 0]}},
        {"class_type": "MovedPositions", "inputs": {"model": ["model", 0]}},
        {
            "class_type": "ScaleROPE",
            "inputs": {
                "model": ["model", 0], "scale_x": 2.0, "shift_x": 3.0, "scale_y": 0.5, "shift_y": 0.0, "scale_t": 1.5,
                "shift_t": -1.0,
            },
        },
        {
            "class_type": "SkipLayerGuidanceDiT",
            "inputs": {
                "model": ["model", 0], "double_layers": "1", "single_layers": "", "scale": 3.0, "start_percent": 0.0,
                "end_percent": 1.0, "rescaling_scale": 0.0,
            },
        },
    ],
    ids=["attention", "positions", "scale", "blocks"],
)  # fmt: skip
def test_patches_act_as_on_the_host_s(server: Any, weights: Path, patch: dict[str, Any]) -> None:
    both = loaders("high")
    if not server.get(f"/object_info/{patch['class_type']}"):
        pytest.skip(f"this ComfyUI has no {patch['class_type']}")
    ours, theirs = (sampled(server, {"model": both[name], "patch": patch}, ["patch", 0]) for name in ("ours", "theirs"))
    plain = sampled(server, {"model": both["ours"]}, ["model", 0])
    assert relative(ours, theirs) < 1e-4 and relative(ours, plain) > 1e-3


def lora_file(path: Path, form: str) -> None:
    """A LoRA of some layers, as trainers write them."""
    generator = torch.Generator().manual_seed(3)
    state = {}
    for i in range(2):
        for layer, name, out, ins in (("self_attn.q", "attn1.to_q", 256, 256), ("ffn.0", "ffn.net.0.proj", 320, 256)):
            down, up = (torch.randn(shape, generator=generator) * 0.2 for shape in ((4, ins), (out, 4)))
            first, second = (torch.randn(shape, generator=generator) * 0.2 for shape in ((4, 4), (out // 4, ins // 4)))
            state |= {
                "peft": {f"diffusion_model.blocks.{i}.{layer}.lora_A.weight": down,
                         f"diffusion_model.blocks.{i}.{layer}.lora_B.weight": up},
                "peft, alpha": {f"diffusion_model.blocks.{i}.{layer}.lora_down.weight": down,
                                f"diffusion_model.blocks.{i}.{layer}.lora_up.weight": up,
                                f"diffusion_model.blocks.{i}.{layer}.alpha": torch.tensor(2.0)},
                "kohya": {f"lora_unet_blocks_{i}_{layer.replace('.', '_')}.lora_down.weight": down,
                          f"lora_unet_blocks_{i}_{layer.replace('.', '_')}.lora_up.weight": up,
                          f"lora_unet_blocks_{i}_{layer.replace('.', '_')}.alpha": torch.tensor(2.0)},
                "diff": {f"diffusion_model.blocks.{i}.{layer}.diff": up @ down * 0.5,
                         f"diffusion_model.blocks.{i}.{layer}.diff_b": up[:, 0].clone()},
                "lokr": {f"lora_unet_blocks_{i}_{layer.replace('.', '_')}.lokr_w1": first,
                         f"lora_unet_blocks_{i}_{layer.replace('.', '_')}.lokr_w2": second},
                "diffusers": {f"transformer.blocks.{i}.{name}.lora_A.weight": down,
                              f"transformer.blocks.{i}.{name}.lora_B.weight": up},
            }[form]  # fmt: skip
    save_file(state, path)


@pytest.mark.parametrize("form", ["peft", "peft, alpha", "kohya", "diff", "lokr", "diffusers"])
def test_loras_act_as_on_the_host_s(server: Any, weights: Path, tmp_path: Path, form: str) -> None:
    """In the layouts that the host's loaders read; that of diffusers, once converted."""
    path = weights / "loras" / f"{form.replace(', ', '-')}.safetensors"
    lora_file(path, form)
    if form == "diffusers":
        convert(path, tmp_path / "lora.safetensors", "wan", torch.float32)
        path.write_bytes((tmp_path / "lora.safetensors").read_bytes())
    lora = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["model", 0], "lora_name": path.name, "strength_model": 0.8},
    }
    both = loaders("high")
    ours, theirs = (sampled(server, {"model": both[name], "lora": lora}, ["lora", 0]) for name in ("ours", "theirs"))
    plain = sampled(server, {"model": both["ours"]}, ["model", 0])
    assert relative(ours, theirs) < 1e-4 and relative(ours, plain) > 1e-3


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_experts_are_joined_at_the_boundary(server: Any, weights: Path, kind: str) -> None:
    high, low = loaders("high")[kind], loaders("low")[kind]

    def joined(boundary: float) -> Tensor:
        join = {
            "class_type": "SoraJoinExperts", "inputs": {"high": ["high", 0], "low": ["low", 0], "boundary": boundary}
        }  # fmt: skip
        return sampled(server, {"high": high, "low": low, "join": join}, ["join", 0])

    alone = sampled(server, {"high": high}, ["high", 0])
    assert torch.equal(joined(0.0), alone)
    both = joined(0.9)
    assert relative(both, alone) > 1e-3 and relative(both, sampled(server, {"low": low}, ["low", 0])) > 1e-3
    assert relative(both, in_two_samplers(server, high, low)) < 1e-5


@pytest.mark.parametrize(("first", "second"), [("ours", "theirs"), ("theirs", "ours")])
def test_experts_of_two_loaders_are_joined(server: Any, weights: Path, first: str, second: str) -> None:
    high, low = loaders("high")[first], loaders("low")[second]
    join = {"class_type": "SoraJoinExperts", "inputs": {"high": ["high", 0], "low": ["low", 0], "boundary": 0.9}}
    both = sampled(server, {"high": high, "low": low, "join": join}, ["join", 0])
    assert relative(both, in_two_samplers(server, high, low)) < 1e-5


def in_two_samplers(server: Any, high: dict[str, Any], low: dict[str, Any]) -> Tensor:
    """As `sampled` with the experts one after the other, as without joining them. The schedule's levels are 1, 0.96,
    0.89 and 0.73, so a boundary of 0.9 lies behind the second step."""
    prompt: dict[str, Any] = {
        "text": {"class_type": "TinyWan", "inputs": {}}, "high": high, "low": low, **CANVAS
    }  # fmt: skip
    for name, model, latent, begin, end, noise in (
        ("first", "high", "canvas", 0, 2, "enable"), ("second", "low", "first", 2, 4, "disable")
    ):  # fmt: skip
        prompt[name] = {
            "class_type": "KSamplerAdvanced",
            "inputs": {
                "model": [model, 0], "add_noise": noise, "noise_seed": 0, "steps": 4, "cfg": 3.0,
                "sampler_name": "euler", "scheduler": "simple", "positive": ["text", 1], "negative": ["text", 2],
                "latent_image": [latent, 0], "start_at_step": begin, "end_at_step": end,
                "return_with_leftover_noise": "enable" if name == "first" else "disable",
            },
        }  # fmt: skip
    return latents_of(server, prompt, ["second", 0])
