"""Files of small random Wan models on the host, and the graphs that load and sample them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
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


def wan_names(vae: VAE) -> dict[str, Tensor]:
    """A random VAE's weights in Wan's layout, in half precision."""
    names, state = vae_names(vae.config, "wan"), randomised(vae, 2)
    gamma = {key: (1, 1) if "attention" in key else (1, 1, 1) for key in state if "norm" in key}
    return {names[key]: value.reshape(*value.shape, *gamma.get(key, ())).half() for key, value in state.items()}


def write_weights(models: Path) -> None:
    """Small random transformers and a small Wan 2.2 VAE, and a Wan 2.1 VAE of true size, the only one that every host
    builds."""
    for name in ("diffusion_models", "vae", "loras"):
        (models / name).mkdir(exist_ok=True)
    with torch.device("meta"):
        dit, vae = DiT(SMALL), VAE(PRESETS["wan2.1-1.3b"].vae)
    for seed, name in enumerate(("high", "low")):
        state = randomised(dit, seed)
        save_file(state, models / "diffusion_models" / f"{name}.safetensors")
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        save_file({k: v.to(dtype) for k, v in state.items()}, models / "diffusion_models" / f"{name}.safetensors")
    save_file(wan_names(vae), models / "vae" / "wan.safetensors")
    with torch.device("meta"):
        dit = DiT(replace(SMALL, in_dim=48, out_dim=48))
        vae = VAE(replace(PRESETS["wan2.2-5b"].vae, widths=(8, 16, 32, 32), decoder_widths=(8, 16, 32, 32)))
    save_file(randomised(dit, 4), models / "diffusion_models" / "five.safetensors")
    save_file(wan_names(vae), models / "vae" / "wan22.safetensors")
    save_file(
        {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}, models / "diffusion_models" / "sd.safetensors"
    )


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


CANVAS = {
    "canvas": {"class_type": "SoraEmptyVideo", "inputs": {"width": 48, "height": 32, "frames": 9, "batch_size": 1}}
}


CLIP = {
    "class_type": "SoraWorldClip",
    "inputs": {
        "shape": "star", "colour": "red", "motion": "spins", "background": "sky", "size": "medium", "style": "plain",
        "width": 96, "height": 64, "frames": 9, "seed": 0,
    },
}  # fmt: skip


IMAGE_TO_VIDEO = {  # 48 channels; the first frame is kept
    "vae": {"class_type": "SoraLoadVAE", "inputs": {"weights": "wan22.safetensors"}},
    "clip": CLIP,
    "encoded": {"class_type": "SoraVAEEncode", "inputs": {"vae": ["vae", 0], "images": ["clip", 0]}},
    "cut": {"class_type": "SoraPatchify", "inputs": {"latent": ["encoded", 0], "strength": 1.0}},
    "first": {
        "class_type": "SoraPatchStrength",
        "inputs": {
            "patches": ["cut", 0], "strength": 0.0, "first_frame": 0, "last_frame": 0, "left": 0.0, "top": 0.0,
            "right": 1.0, "bottom": 1.0,
        },
    },
    "canvas": {"class_type": "SoraUnpatchify", "inputs": {"patches": ["first", 0]}},
}  # fmt: skip


def sampled(
    server: Any, nodes: dict[str, dict[str, Any]], model: list, canvas: dict[str, Any] = CANVAS, solver: str = "euler",
    positive: tuple[str, int] = ("text", 1),
) -> Tensor:  # fmt: skip
    prompt = nodes | canvas | {
        "text": {"class_type": "TinyWan", "inputs": {}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": model, "positive": list(positive), "negative": ["text", 2], "latent_image": ["canvas", 0],
                "seed": 0, "steps": 4, "cfg": 3.0, "sampler_name": solver, "scheduler": "simple", "denoise": 1.0,
            },
        },
    }  # fmt: skip
    return latents_of(server, prompt, ["sampler", 0])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
