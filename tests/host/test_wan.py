"""Public Wan weights on a real host: our loaders give what the host's own give, and the tasks run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prompts import assert_it_still_works, by_class, wan
from safetensors.torch import save_file
from test_tasks import frames_of
from torch import Tensor, nn

from sora_core.config import PRESETS, DiTConfig
from sora_core.dit import DiT
from sora_core.draft import load_draft
from sora_core.layouts import vae_names
from sora_core.vae import VAE

SMALL = DiTConfig(dim=256, ffn_dim=320, heads=2, layers=2, text_dim=4096, text_len=512)


def randomised(network: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in network.state_dict().items():
        spread, offset = (value[0].numel() ** -0.5, 0.0) if value.ndim > 1 else (0.05, float("norm" in name))
        state[name] = torch.randn(value.shape, generator=generator) * spread + offset
    return state


@pytest.fixture(scope="module")
def weights(server: Any) -> Path:
    """Small random transformers and a Wan 2.1 VAE of true size, which is the only one that every host builds."""
    models = server.base / "models"
    for name in ("diffusion_models", "vae", "loras"):
        (models / name).mkdir(exist_ok=True)
    with torch.device("meta"):
        dit, vae = DiT(SMALL), VAE(PRESETS["wan2.1-1.3b"].vae)
    for seed, name in enumerate(("high", "low")):
        state = randomised(dit, seed)
        save_file(state, models / "diffusion_models" / f"{name}.safetensors")
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        save_file({k: v.to(dtype) for k, v in state.items()}, models / "diffusion_models" / f"{name}.safetensors")
    names, state = vae_names(vae.config, "wan"), randomised(vae, 2)
    gamma = {key: (1, 1) if "attention" in key else (1, 1, 1) for key in state if "norm" in key}
    theirs = {names[key]: value.reshape(*value.shape, *gamma.get(key, ())).half() for key, value in state.items()}
    save_file(theirs, models / "vae" / "wan.safetensors")
    generator = torch.Generator().manual_seed(3)
    lora = {
        f"diffusion_model.blocks.{i}.{layer}.lora_{side}.weight": torch.randn(shape, generator=generator) * 0.2
        for i in range(2)
        for layer, out, ins in (("self_attn.q", 256, 256), ("ffn.0", 320, 256))
        for side, shape in (("A", (4, ins)), ("B", (out, 4)))
    }
    save_file(lora, models / "loras" / "wan-lora.safetensors")
    save_file(
        {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}, models / "diffusion_models" / "sd.safetensors"
    )
    return models


def loaders(name: str) -> dict[str, dict[str, Any]]:
    return {
        "ours": {"class_type": "SoraLoadDiT", "inputs": {"weights": f"{name}.safetensors", "per_token": False}},
        "theirs": {
            "class_type": "UNETLoader", "inputs": {"unet_name": f"{name}.safetensors", "weight_dtype": "default"}
        },
    }  # fmt: skip


def latents_of(server: Any, prompt: dict[str, Any], source: list) -> Tensor:
    """Samples of a LATENT, through a draft."""
    drafts = server.base / "output" / "drafts"
    before = set(drafts.glob("*"))
    prompt["draft"] = {"class_type": "SoraSaveDraft", "inputs": {"latent": source, "name": f"wan{len(before)}"}}
    outcome = server.run(prompt)
    assert outcome.error is None, outcome.error
    (path,) = set(drafts.glob("*")) - before
    return load_draft(path)["samples"]


def sampled(server: Any, nodes: dict[str, dict[str, Any]], model: list) -> Tensor:
    prompt = nodes | {
        "text": {"class_type": "TinyWan", "inputs": {}},
        "canvas": {"class_type": "SoraEmptyVideo", "inputs": {"width": 48, "height": 32, "frames": 9, "batch_size": 1}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": model, "positive": ["text", 1], "negative": ["text", 2], "latent_image": ["canvas", 0],
                "seed": 0, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            },
        },
    }  # fmt: skip
    return latents_of(server, prompt, ["sampler", 0])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", ["high", "float16", "bfloat16"])
def test_the_transformer_samples_as_the_host_s(server: Any, weights: Path, name: str) -> None:
    both = loaders(name)
    ours, theirs = (sampled(server, {"model": both[kind]}, ["model", 0]) for kind in ("ours", "theirs"))
    assert relative(ours, theirs) < 1e-4


def test_loras_act_as_on_the_host_s(server: Any, weights: Path) -> None:
    lora = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["model", 0], "lora_name": "wan-lora.safetensors", "strength_model": 0.8},
    }
    both = loaders("high")
    ours, theirs = (sampled(server, {"model": both[name], "lora": lora}, ["lora", 0]) for name in ("ours", "theirs"))
    plain = sampled(server, {"model": both["ours"]}, ["model", 0])
    assert relative(ours, theirs) < 1e-4 and relative(ours, plain) > 1e-2


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


def test_the_vae_is_the_host_s(server: Any, weights: Path, tmp_path: Path) -> None:
    latents, clips = [], []
    for loader, name in (("SoraLoadVAE", "weights"), ("VAELoader", "vae_name")):
        prompt = {
            "vae": {"class_type": loader, "inputs": {name: "wan.safetensors"}},
            "clip": {
                "class_type": "SoraWorldClip",
                "inputs": {
                    "shape": "star", "colour": "red", "motion": "spins", "background": "sky", "size": "medium",
                    "style": "plain", "width": 64, "height": 48, "frames": 5, "seed": 0,
                },
            },
            "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["clip", 0], "vae": ["vae", 0]}},
            "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["vae", 0]}},
        }  # fmt: skip
        clips += frames_of(server, dict(prompt), ["decode"], tmp_path)
        latents.append(latents_of(server, prompt, ["encode", 0]))
    assert relative(*latents) < 1e-4
    assert clips[0].shape == clips[1].shape and float((clips[0] - clips[1]).abs().max()) < 1.5 / 255


@pytest.mark.parametrize("per_token", [False, True])
def test_tasks_run_on_public_weights(server: Any, api: Any, weights: Path, tmp_path: Path, per_token: bool) -> None:
    prompt, sampler = wan(api, "extend")
    prompt["public"] = {"class_type": "SoraLoadDiT", "inputs": {"weights": "high.safetensors", "per_token": per_token}}
    prompt[sampler]["inputs"] |= {"model": ["public", 0], "steps": 2}
    decode, clip = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraWorldClip")[0]
    made, source = frames_of(server, prompt, [decode, clip], tmp_path)
    assert torch.equal(made[: len(source)], source) and float(made[len(source) :].std()) > 0.01


def test_other_files_are_refused(server: Any, api: Any, weights: Path) -> None:
    prompt, sampler = wan(api, "text_to_video")
    prompt["public"] = {"class_type": "SoraLoadDiT", "inputs": {"weights": "sd.safetensors", "per_token": False}}
    prompt[sampler]["inputs"]["model"] = ["public", 0]
    outcome = server.run(prompt)
    assert outcome.error is not None and "Stable Diffusion checkpoint" in outcome.error["exception_message"]
    assert_it_still_works(server, api)
