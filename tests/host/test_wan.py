"""Public Wan weights on a real host: our loaders give what the host's own give, and the tasks run on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from prompts import assert_it_still_works, by_class, saved, wan
from safetensors.torch import load_file, save_file
from test_tasks import TASKS, frames_of, given_in
from torch import Tensor, nn

from sora_core.config import PRESETS, DiTConfig
from sora_core.convert import convert
from sora_core.dit import DiT
from sora_core.draft import load_draft
from sora_core.layouts import vae_names
from sora_core.vae import VAE
from sora_core.video import read_video

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


@pytest.fixture(scope="module")
def weights(server: Any) -> Path:
    """Small random transformers and a small Wan 2.2 VAE, and a Wan 2.1 VAE of true size, the only one that every host
    builds."""
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
    save_file(wan_names(vae), models / "vae" / "wan.safetensors")
    with torch.device("meta"):
        dit = DiT(replace(SMALL, in_dim=48, out_dim=48))
        vae = VAE(replace(PRESETS["wan2.2-5b"].vae, widths=(8, 16, 32, 32), decoder_widths=(8, 16, 32, 32)))
    save_file(randomised(dit, 4), models / "diffusion_models" / "five.safetensors")
    save_file(wan_names(vae), models / "vae" / "wan22.safetensors")
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


@pytest.mark.parametrize("name", ["high", "float16", "bfloat16"])
def test_the_transformer_samples_as_the_host_s(server: Any, weights: Path, name: str) -> None:
    both = loaders(name)
    ours, theirs = (sampled(server, {"model": both[kind]}, ["model", 0]) for kind in ("ours", "theirs"))
    assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_an_image_moves_as_on_the_host_s(server: Any, weights: Path, solver: str) -> None:
    """Wan 2.2's 5B: the first frame is kept, at a level of its own, by the host's sampler."""
    both = loaders("five")
    ours, theirs = (
        sampled(server, {"model": both[kind]}, ["model", 0], IMAGE_TO_VIDEO, solver) for kind in ("ours", "theirs")
    )
    known = latents_of(server, dict(IMAGE_TO_VIDEO), ["encoded", 0])
    assert relative(ours, theirs) < 1e-4
    assert relative(ours[:, :, :1], known[:, :, :1]) < 1e-5 and relative(ours[:, :, 1:], known[:, :, 1:]) > 0.1


def test_what_was_converted_is_read_by_the_host(server: Any, weights: Path) -> None:
    """Scaled fp8 of ours under the host's loader, whose products it rounds in its own ways, and under ours."""
    path = weights / "diffusion_models" / "converted.safetensors"
    convert(weights / "diffusion_models" / "high.safetensors", path, "wan", torch.float8_e4m3fn)
    whole = sampled(server, {"model": loaders("high")["theirs"]}, ["model", 0])
    for kind in ("ours", "theirs"):
        assert relative(sampled(server, {"model": loaders("converted")[kind]}, ["model", 0]), whole) < 8e-2


@pytest.mark.parametrize("form", ["scaled_fp8", "comfy_quant"])
def test_a_file_of_mixed_precisions_takes_what_most_of_it_has(server: Any, weights: Path, form: str) -> None:
    """Eight bits and their scales, with a head of four bytes: as the host's own with these weights unpacked to
    bfloat16, and near what it makes of the file itself, whose products it rounds in its own ways."""
    newer = form == "comfy_quant"  # which 0.3.64 does not read
    state = load_file(weights / "diffusion_models" / "high.safetensors")
    mixed: dict[str, Tensor] = {} if newer else {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for key, value in state.items():
        if key.startswith("blocks.") and value.ndim == 2:
            scale = value.abs().max() / 448
            mixed[key] = (value / scale).to(torch.float8_e4m3fn)
            layer = key.removesuffix("weight")
            mixed[layer + ("weight_scale" if newer else "scale_weight")] = scale
            if newer:
                words = json.dumps({"format": "float8_e4m3fn"}).encode()
                mixed[layer + form] = torch.tensor(list(words), dtype=torch.uint8)
            state[key] = mixed[key].float() * scale
        else:
            mixed[key] = value if key.startswith("head.") else value.bfloat16()
    save_file({k: v.bfloat16() for k, v in state.items()}, weights / "diffusion_models" / "unpacked.safetensors")
    save_file(mixed, weights / "diffusion_models" / f"{form}.safetensors")
    before = len(server.log.read_text(encoding="utf-8", errors="replace"))
    both = loaders(form)
    ours = sampled(server, {"model": both["ours"]}, ["model", 0])
    log = server.log.read_text(encoding="utf-8", errors="replace")[before:]
    assert "model weight dtype torch.bfloat16" in log
    unpacked = sampled(server, {"model": loaders("unpacked")["theirs"]}, ["model", 0])
    assert relative(ours, unpacked) < 1e-4
    if not newer or (server.host / "comfy" / "quant_ops.py").is_file():
        assert relative(ours, sampled(server, {"model": both["theirs"]}, ["model", 0])) < 4e-2


def test_long_texts_are_read_as_by_the_host_s(server: Any, weights: Path) -> None:
    both = loaders("high")
    twice = {
        "class_type": "ConditioningConcat", "inputs": {"conditioning_to": ["text", 1], "conditioning_from": ["text", 2]}
    }  # fmt: skip
    ours, theirs = (
        sampled(server, {"model": both[kind], "twice": twice}, ["model", 0], positive=("twice", 0))
        for kind in ("ours", "theirs")
    )
    assert relative(ours, theirs) < 1e-4


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
        {
            "class_type": "SkipLayerGuidanceDiT",
            "inputs": {
                "model": ["model", 0], "double_layers": "1", "single_layers": "", "scale": 3.0, "start_percent": 0.0,
                "end_percent": 1.0, "rescaling_scale": 0.0,
            },
        },
    ],
    ids=["attention", "blocks"],
)  # fmt: skip
def test_patches_act_as_on_the_host_s(server: Any, weights: Path, patch: dict[str, Any]) -> None:
    both = loaders("high")
    ours, theirs = (sampled(server, {"model": both[name], "patch": patch}, ["patch", 0]) for name in ("ours", "theirs"))
    plain = sampled(server, {"model": both["ours"]}, ["model", 0])
    assert relative(ours, theirs) < 1e-4 and relative(ours, plain) > 1e-2


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


@pytest.mark.parametrize(("preset", "frames"), [("wan2.1-1.3b", 1), ("wan2.1-1.3b", 17), ("wan2.2-5b", 5)])
def test_the_vae_is_the_host_s(server: Any, weights: Path, tmp_path: Path, preset: str, frames: int) -> None:
    """At true size, the only one that the host builds."""
    path = weights / "vae" / f"{preset}.safetensors"
    with torch.device("meta"):
        vae = VAE(PRESETS[preset].vae)
    save_file(wan_names(vae), path)
    latents, clips = [], []
    for loader, name in (("SoraLoadVAE", "weights"), ("VAELoader", "vae_name")):
        prompt = {
            "vae": {"class_type": loader, "inputs": {name: path.name}},
            "clip": CLIP | {"inputs": CLIP["inputs"] | {"width": 64, "height": 48, "frames": frames}},
            "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["clip", 0], "vae": ["vae", 0]}},
            "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["vae", 0]}},
        }  # fmt: skip
        clips += frames_of(server, dict(prompt), ["decode"], tmp_path)
        latents.append(latents_of(server, prompt, ["encode", 0]))
    path.unlink()
    assert relative(*latents) < 1e-4
    assert clips[0].shape == clips[1].shape and float((clips[0] - clips[1]).abs().max()) < 1.5 / 255


def public(prompt: dict[str, Any], kind: str) -> None:
    """Put a public model of ours into a prompt, as node `public`, and its VAE where that is another."""
    prompt |= {
        "high": {"class_type": "SoraLoadDiT", "inputs": {"weights": "high.safetensors", "per_token": False}},
        "low": {"class_type": "SoraLoadDiT", "inputs": {"weights": "low.safetensors", "per_token": False}},
    }
    if kind == "joined":
        inputs = {"high": ["high", 0], "low": ["low", 0], "boundary": 0.875}
        prompt["public"] = {"class_type": "SoraJoinExperts", "inputs": inputs}
        return
    name = "five" if kind == "5B" else "high"
    inputs = {"weights": f"{name}.safetensors", "per_token": kind == "per token"}
    prompt["public"] = {"class_type": "SoraLoadDiT", "inputs": inputs}
    if kind == "5B":
        for node in prompt.values():
            if "vae" in node["inputs"] or node["class_type"] == "SoraEmptyVideo":
                node["inputs"]["vae"] = ["public_vae", 0]
        prompt["public_vae"] = IMAGE_TO_VIDEO["vae"]


@pytest.mark.parametrize("kind", ["1.3B", "per token", "joined", "5B"])
@pytest.mark.parametrize("name", TASKS)
def test_tasks_run_on_public_weights(
    server: Any, api: Any, weights: Path, tmp_path: Path, name: str, kind: str
) -> None:
    prompt, sampler = wan(api, name)
    public(prompt, kind)
    prompt[sampler]["inputs"] |= {"model": ["public", 0], "steps": 2}
    for ramp in by_class(prompt, "SoraPromptRamp"):
        prompt[ramp]["inputs"] |= {"first": ["wan", 1], "second": ["wan", 2]}
        prompt[sampler]["inputs"]["positive"] = [ramp, 0]
    decode, clips = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraWorldClip")
    made, *sources = frames_of(server, prompt, [decode, *clips], tmp_path)
    length, places = given_in(name, sources[0], sources[-1])
    assert len(made) == length and float(made.std()) > 0.01
    for at, frames in places:
        assert torch.equal(made[at : at + len(frames)], frames)


def test_long_videos_run_on_public_weights(server: Any, api: Any, weights: Path, tmp_path: Path) -> None:
    prompt = api("long_video") | {
        "model": loaders("high")["ours"],
        "text": {"class_type": "CLIPLoader", "inputs": {"clip_name": "umt5.safetensors", "type": "wan"}},
        "vae": {"class_type": "SoraLoadVAE", "inputs": {"weights": "wan.safetensors"}},
    }
    (node,) = by_class(prompt, "SoraLongVideo")
    prompt[node]["inputs"] |= {
        "model": ["model", 0], "clip": ["text", 0], "vae": ["vae", 0], "prompts": "0:00 a cat\n0:01 a beach",
        "frames": 20, "window": 13, "overlap": 1, "width": 48, "height": 32, "steps": 1,
    }  # fmt: skip
    (made,) = frames_of(server, prompt, [node], tmp_path)
    assert made.shape == (20, 32, 48, 3) and float(made.std()) > 0.01


@pytest.mark.parametrize("name", ["wan_text_to_video", "wan_experts", "wan_image_to_video", "wan_extend"])
def test_the_whole_graph_runs(server: Any, api: Any, weights: Path, tmp_path: Path, name: str) -> None:
    """The shipped workflows on small weights: the host's CLIPLoader, samplers and savers around ours, and its loaders
    under our tasks."""
    large = name == "wan_image_to_video"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(server.base / "input" / "example.png")
    smaller = {
        "SoraLoadDiT": {"weights": "five.safetensors" if large else "high.safetensors"},
        "SoraLoadVAE": {"weights": "wan22.safetensors" if large else "wan.safetensors"},
        "UNETLoader": {"unet_name": "high.safetensors"},
        "VAELoader": {"vae_name": "wan.safetensors"},
        "CLIPLoader": {"clip_name": "umt5.safetensors"},
        "SoraEmptyVideo": {"width": 64, "height": 32, "frames": 9},
        "ImageScale": {"width": 64, "height": 32},
        "SoraWorldClip": {"width": 64, "height": 32, "frames": 9},
        "SoraExtend": {"after": 4, "overlap": 5},
        "KSampler": {"steps": 2},
        "SoraSampler": {"steps": 2},
    }
    prompt = api(name)
    for node in prompt.values():
        node["inputs"] |= smaller.get(node["class_type"], {})
    for node in by_class(prompt, "SoraLoadDiT")[1:]:
        prompt[node]["inputs"]["weights"] = "low.safetensors"
    (save,) = by_class(prompt, "SaveVideo")
    outcome = server.run(prompt)
    shown = [event["data"]["node"] for event in outcome.events if event["type"] == "sora.preview"]
    assert set(shown) == set(by_class(prompt, "SoraSampler"))  # the clip shows, moving, while it is made
    video = read_video(saved(server, outcome, save, tmp_path))
    assert video.frames.shape == (13 if name == "wan_extend" else 9, 32, 64, 3)
    other = json.loads(json.dumps(prompt))
    other[by_class(other, "CLIPTextEncode")[0]]["inputs"]["text"] = "a wave"
    again = read_video(saved(server, server.run(other), save, tmp_path)).frames
    assert float((again - video.frames).abs().max()) > 2 / 255  # the text is read


def test_an_image_opens_a_clip(server: Any, weights: Path, tmp_path: Path) -> None:
    """Wan 2.2's 5B with Sora Keyframes and Sora Sampler: the image comes back bit for bit."""
    prompt = {
        "vae": IMAGE_TO_VIDEO["vae"], "clip": CLIP, "text": {"class_type": "TinyWan", "inputs": {}},
        "model": loaders("five")["ours"],
        "one": {"class_type": "ImageFromBatch", "inputs": {"image": ["clip", 0], "batch_index": 3, "length": 1}},
        "canvas": {
            "class_type": "SoraEmptyVideo",
            "inputs": {"width": 96, "height": 64, "frames": 9, "batch_size": 1, "vae": ["vae", 0]},
        },
        "pin": {
            "class_type": "SoraKeyframes",
            "inputs": {"vae": ["vae", 0], "latent": ["canvas", 0], "image": ["one", 0], "frame": 0},
        },
        "sampler": {
            "class_type": "SoraSampler",
            "inputs": {
                "model": ["model", 0], "positive": ["text", 1], "negative": ["text", 2], "latent": ["pin", 0],
                "seed": 0, "steps": 3, "cfg": 3.0, "solver": "dpmpp_2m",
            },
        },
        "decode": {"class_type": "SoraVAEDecode", "inputs": {"vae": ["vae", 0], "latent": ["sampler", 0]}},
    }  # fmt: skip
    made, image = frames_of(server, prompt, ["decode", "one"], tmp_path)
    assert made.shape == (9, 64, 96, 3) and torch.equal(made[0], image[0]) and float(made[1:].std()) > 0.01


def test_other_files_are_refused(server: Any, api: Any, weights: Path) -> None:
    prompt, sampler = wan(api, "text_to_video")
    prompt["public"] = {"class_type": "SoraLoadDiT", "inputs": {"weights": "sd.safetensors", "per_token": False}}
    prompt[sampler]["inputs"]["model"] = ["public", 0]
    outcome = server.run(prompt)
    assert outcome.error is not None and "Stable Diffusion checkpoint" in outcome.error["exception_message"]
    assert_it_still_works(server, api)
