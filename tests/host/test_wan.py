"""Public Wan weights on a real host: our loaders give what the host's own give, and the tasks run on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from prompts import assert_it_still_works, by_class, saved, wan
from safetensors.torch import load_file, save_file
from test_tasks import TASKS, frames_of, given_in
from torch import Tensor
from wan_graphs import (
    CLIP,
    IMAGE_TO_VIDEO,
    latents_of,
    loaders,
    relative,
    sampled,
    wan_names,
)

from sora_core.config import PRESETS
from sora_core.convert import convert
from sora_core.vae import VAE
from sora_core.video import read_video


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
    for node in prompt.values():
        if "width" in node["inputs"]:
            node["inputs"] |= {"width": 96, "height": 64}
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
