"""The pack on a real host, through its API: every shipped workflow, and the same latents as the core's own."""

from __future__ import annotations

import copy
import json
import re
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompts import SHIPPED, SIDE, by_class, latents, saved
from safetensors.torch import save_file

from sora_core.checkpoint import Model, save_checkpoint
from sora_core.patches import to_patches
from sora_core.pipeline import Pipeline, frames_to_video, psnr
from sora_core.preview import draw_patches
from sora_core.selection import select, set_strength
from sora_core.tasks import extend
from sora_core.video import read_video
from sora_core.world import analyse, render, scene_of

PAGES = Path(__file__).parents[2] / "web" / "docs"
NODES = {
    "SoraLoadModel": ("MODEL", "CLIP", "VAE"),
    "SoraTextEncode": ("CONDITIONING",),
    "SoraRegion": ("CONDITIONING",),
    "SoraExpandPrompt": ("STRING",),
    "SoraDescribeClip": ("STRING",),
    "SoraEmptyVideo": ("LATENT",),
    "SoraSampler": ("LATENT",),
    "SoraVAEEncode": ("LATENT",),
    "SoraVAEDecode": ("IMAGE",),
    "SoraPatchify": ("SORA_PATCHES",),
    "SoraUnpatchify": ("LATENT",),
    "SoraPatchStrength": ("SORA_PATCHES",),
    "SoraViewPatches": ("IMAGE",),
    "SoraWorldClip": ("IMAGE",),
    "SoraExtend": ("LATENT", "STRING"),
    "SoraInterpolate": ("LATENT", "STRING"),
    "SoraLoop": ("LATENT", "STRING"),
    "SoraKeyframes": ("LATENT",),
    "SoraSDEdit": ("LATENT", "STRING"),
    "SoraPromptRamp": ("CONDITIONING",),
    "SoraLongVideo": ("IMAGE", "STRING", "STRING", "FLOAT"),
    "SoraClipReport": ("STRING", "IMAGE"),
    "SoraLoadDiT": ("MODEL",),
    "SoraLoadVAE": ("VAE",),
    "SoraJoinExperts": ("MODEL",),
    "SoraSaveDraft": (),
    "SoraLoadDraft": ("LATENT",),
}


def is_widget(kind: str | list[str]) -> bool:
    return isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def test_every_node_is_there_with_its_types(server: Any) -> None:
    info = server.get("/object_info")
    assert {name for name, node in info.items() if node["category"].startswith("Sora/")} == set(NODES)
    for name, outputs in NODES.items():
        assert tuple(info[name]["output"]) == outputs, name
        required = info[name]["input"].get("required", {}) | info[name]["input"].get("optional", {})
        for key, spec in required.items():
            assert spec[1].get("tooltip"), f"{name}.{key} has no tooltip"


def test_the_editor_s_widgets_are_the_host_s(server: Any, kinds: dict[str, Any]) -> None:
    """The UI workflows store widgets by position: the builder's table must be the host's."""
    info = server.get("/object_info")
    for name, kind in kinds.items():
        spec = info[name]["input"].get("required", {}) | info[name]["input"].get("optional", {})
        inputs = {key: value[0] for key, value in spec.items() if not is_widget(value[0])}
        assert inputs == kind.inputs, name
        assert tuple(key for key, value in spec.items() if is_widget(value[0])) == kind.widgets, name
        assert tuple(info[name]["output"]) == kind.types, name
        assert tuple(info[name]["output_name"]) == kind.names, name


def test_help_pages_are_served(server: Any) -> None:
    for name, outputs in NODES.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/extensions/any-name/docs/{name}.md") as answer:
            text = answer.read().decode()
        assert text.startswith("# ") and "## Inputs" in text and ("## Outputs" in text) == bool(outputs), name


def test_help_pages_list_the_inputs_as_they_are(server: Any) -> None:
    """Every input once and in order, what may be left out, ranges, and what stands there at first."""
    info = server.get("/object_info")
    for name in NODES:
        page = (PAGES / f"{name}.md").read_text(encoding="utf-8").partition("## Inputs")[2].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| (\w+(?: \(optional\))?) \| (.*) \|$", page, re.M)[1:])
        required, optional = (info[name]["input"].get(part, {}) for part in ("required", "optional"))
        shown = [value[1].get("display_name") or key for key, value in (required | optional).items()]
        assert list(rows) == shown[: len(required)] + [f"{key} (optional)" for key in shown[len(required) :]], name
        for text, (kind, options) in zip(rows.values(), (required | optional).values(), strict=True):
            if kind in ("INT", "FLOAT"):
                assert f"{options['min']:g} to {options['max']:g}" in re.sub(r"(\d+)", short, text), (name, text)
            if kind in ("INT", "FLOAT", "STRING") and not options.get("multiline") and not options.get("forceInput"):
                default = options["default"]
                shown = f"{default:g}" if kind != "STRING" else f"`{default}`" if default else "empty"
                assert re.search(rf"Default {re.escape(shown)}[.,:;]", text), (name, text)
            if kind == "BOOLEAN":
                word = "on" if options["default"] else "off"
                assert re.search(rf"\b{word} by default|default {word}\b", text, re.I), (name, text)
            if (kind == "COMBO" or isinstance(kind, list)) and not name.startswith("SoraLoad"):
                choices = options["options"] if kind == "COMBO" else kind
                assert all(choice in text for choice in choices), (name, text)


def short(number: re.Match) -> str:
    """As `g` writes it."""
    return f"{float(number[1]):g}"


# ---- the shipped workflows


@pytest.mark.parametrize(
    ("name", "colour", "motion", "background"),
    [("text_to_video", "red", "moves left", "sky"), ("stock_sampler", "blue", "moves up", "sand")],
)
def test_a_prompt_becomes_a_video(
    server: Any, api: Any, tmp_path: Path, name: str, colour: str, motion: str, background: str
) -> None:
    prompt = api(name)
    outcome = server.run(prompt)
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path))
    assert clip.frames.shape == (17, SIDE, SIDE, 3) and clip.fps == 12
    seen = analyse(clip.frames)
    assert (seen.colour, seen.motion, seen.background) == (colour, motion, background)


def test_a_prompt_becomes_an_image(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("text_to_image")
    outcome = server.run(prompt)
    image = read_video(saved(server, outcome, by_class(prompt, "SaveImage")[0], tmp_path))
    assert image.frames.shape == (1, SIDE, SIDE, 3)
    seen = analyse(image.frames)
    assert (seen.colour, seen.background) == ("green", "sand")


def test_the_vae_gives_back_what_it_was_given(server: Any, api: Any, tmp_path: Path, bundled: Model) -> None:
    prompt = api("vae_roundtrip")
    outcome = server.run(prompt)
    clips = {
        prompt[node]["_meta"]["title"]: read_video(saved(server, outcome, node, tmp_path))
        for node in by_class(prompt, "SaveVideo")
    }
    source, after = clips["The source"].frames, clips["Through the VAE"].frames
    assert source.shape == after.shape == (17, SIDE, SIDE, 3)
    assert psnr(frames_to_video(source), frames_to_video(after)) > 24  # through the VAE and twice through H.264
    star = render(scene_of("star", "yellow", "spins", "night", rng=np.random.default_rng(0)), 17, SIDE, SIDE)
    pipeline = Pipeline(bundled)
    core = pipeline.decode(pipeline.encode(star))
    assert psnr(frames_to_video(core), frames_to_video(after)) > 32  # only the H.264 lies between


def test_patches_that_are_kept_stay(server: Any, api: Any, tmp_path: Path, bundled: Model) -> None:
    """Latents of strength 0 come back bit for bit, the rest is made; and the picture of the patches is the core's."""
    prompt = api("patches")
    encoded = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    sampled = latents(server, prompt, by_class(prompt, "SoraSampler")[0], tmp_path)
    assert torch.equal(sampled[:, :, :3], encoded[:, :, :3])
    assert not torch.isclose(sampled[:, :, 3:], encoded[:, :, 3:]).all(1).any()
    again = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)  # from the host's cache
    assert torch.equal(encoded, again), "the sampler changed its input"
    outcome = server.run(prompt)
    picture = read_video(saved(server, outcome, by_class(prompt, "SaveImage")[0], tmp_path)).frames[0]
    patches = to_patches(encoded, 0.0, (1, 2, 2))
    expected = draw_patches(set_strength(patches, 1.0, select(patches.grid, 9, -1)))
    assert picture.shape == expected.shape and float((picture - expected).abs().mean()) < 0.01
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path)).frames
    assert clip.shape == (17, SIDE, SIDE, 3)
    assert analyse(clip).colour == "red"


# ---- whose latents are whose


def encoded_by(prompt: dict[str, Any], vae: list) -> dict[str, Any]:
    """The workflow patches in small and fast, its latents encoded by this VAE and handed on as a file is."""
    clip, encode, sampler = (by_class(prompt, k)[0] for k in ("SoraWorldClip", "SoraVAEEncode", "SoraSampler"))
    prompt[clip]["inputs"] |= {"width": 64, "height": 64, "frames": 13}
    prompt[encode]["inputs"]["vae"] = vae
    prompt[sampler]["inputs"]["steps"] = 1
    for node in by_class(prompt, "SaveVideo") + by_class(prompt, "CreateVideo") + by_class(prompt, "SaveImage"):
        del prompt[node]
    prompt["look"] = {"class_type": "PreviewImage", "inputs": {"images": [by_class(prompt, "SoraVAEDecode")[0], 0]}}
    return prompt


def notes_of(server: Any, prompt: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the sampler and the decoder say that latents are of another VAE."""
    outcome = server.run(json.loads(json.dumps(prompt)))
    assert outcome.error is None, outcome.error
    told = [json.dumps(outcome.outputs.get(by_class(prompt, k)[0], {})) for k in ("SoraSampler", "SoraVAEDecode")]
    return tuple("of another VAE" in text for text in told)


@pytest.fixture
def another(server: Any, bundled: Model) -> dict[str, Any]:
    """The loader of a checkpoint with another VAE."""
    vae = copy.deepcopy(bundled.vae)
    with torch.no_grad():
        vae.encoder.conv_out.weight.neg_()
    path = server.base / "models" / "sora" / "another.safetensors"
    if not path.exists():
        save_checkpoint(path, replace(bundled, vae=vae))
    return {"class_type": "SoraLoadModel", "inputs": {"checkpoint": path.name}}


def test_latents_of_another_vae_of_ours_are_named(server: Any, api: Any, another: dict[str, Any]) -> None:
    """Its own latents, those of another, and its own under another decoder; also through patches and a draft."""
    prompt = api("patches") | {"other": another}
    load, decode = by_class(prompt, "SoraLoadModel")[0], by_class(prompt, "SoraVAEDecode")[0]
    assert notes_of(server, encoded_by(prompt, [load, 2])) == (False, False)
    prompt[decode]["inputs"]["vae"] = ["other", 2]
    assert notes_of(server, prompt) == (False, True)
    prompt[by_class(prompt, "SoraVAEEncode")[0]]["inputs"]["vae"] = ["other", 2]
    assert notes_of(server, prompt) == (True, True)
    drafts = server.base / "output" / "drafts"
    before = set(drafts.glob("*"))
    whole, sampler = by_class(prompt, "SoraUnpatchify")[0], by_class(prompt, "SoraSampler")[0]
    prompt["draft"] = {"class_type": "SoraSaveDraft", "inputs": {"latent": [whole, 0], "name": "of another"}}
    notes_of(server, prompt)
    (draft,) = set(drafts.glob("*")) - before
    del prompt["draft"]
    prompt["load"] = {"class_type": "SoraLoadDraft", "inputs": {"draft": draft.name}}
    prompt[sampler]["inputs"] |= {"latent": ["load", 0], "seed": 1}
    assert notes_of(server, prompt) == (True, True)


def test_tasks_of_another_vae_are_named(server: Any, api: Any, another: dict[str, Any]) -> None:
    """Where Sora Long Video begins, too."""
    prompt = api("long_edit") | {"other": another}
    node, task, clip = (by_class(prompt, k)[0] for k in ("SoraLongVideo", "SoraSDEdit", "SoraWorldClip"))
    prompt[clip]["inputs"] |= {"width": 64, "height": 64, "frames": 9}
    prompt[node]["inputs"] |= {"steps": 1, "window": 9, "overlap": 1, "seed": 21}
    prompt[task]["inputs"]["vae"] = ["other", 2]
    prompt = {key: prompt[key] for key in prompt if "Video" not in prompt[key]["class_type"] or key == node}
    prompt["look"] = {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}
    outcome = server.run(prompt)
    assert "of another VAE than this one" in outcome.outputs[node]["text"][0]
    prompt[node]["inputs"]["vae"] = ["other", 2]
    outcome = server.run(prompt)
    assert "of another VAE than this model's own" in outcome.outputs[node]["text"][0]


@pytest.mark.parametrize("loader", ["VAELoader", "SoraLoadVAE"])
def test_wan_s_latents_are_not_sora_mini_s(server: Any, api: Any, weights: Path, loader: str) -> None:
    """Both have 16 channels. What is known of neither VAE nor model has no note."""
    name = {"VAELoader": "vae_name", "SoraLoadVAE": "weights"}[loader]
    prompt = api("patches") | {"vae": {"class_type": loader, "inputs": {name: "wan.safetensors"}}}
    prompt = encoded_by(prompt, ["vae", 0])
    decode, sampler = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraSampler")[0]
    assert notes_of(server, prompt) == (True, False)
    prompt["wan"] = {"class_type": "TinyWan", "inputs": {}}
    prompt[sampler]["inputs"] |= {"model": ["wan", 0], "positive": ["wan", 1], "negative": ["wan", 2]}
    assert notes_of(server, prompt) == (False, True)
    prompt[decode]["inputs"]["vae"] = ["vae", 0]
    assert notes_of(server, prompt) == (False, False)


# ---- the same numbers everywhere


def test_three_ways_to_the_same_latent(server: Any, api: Any, tmp_path: Path, bundled: Model) -> None:
    """Sora Sampler, the host's KSampler on its simple schedule, and the core's own pipeline. KSampler has one schedule
    for all sizes: that of the size the checkpoint was made for."""
    prompt, stock = api("text_to_video", shipped=True), api("stock_sampler", shipped=True)
    sampler, ksampler = by_class(prompt, "SoraSampler")[0], by_class(stock, "KSampler")[0]
    prompt[sampler]["inputs"] |= {"solver": "euler", "steps": 20, "seed": 7}
    stock[ksampler]["inputs"] |= {"steps": 20, "seed": 7}
    for node in by_class(stock, "CLIPTextEncode"):
        if stock[node]["inputs"]["text"]:
            stock[node]["inputs"]["text"] = "a red circle moves left on a sky background"
    ours = latents(server, prompt, sampler, tmp_path)
    theirs = latents(server, stock, ksampler, tmp_path)
    core = Pipeline(bundled).sample(
        ["a red circle moves left on a sky background"], tuple(ours.shape[2:]), seeds=[7], steps=20, cfg=4.0,
        solver="euler",
    )  # fmt: skip
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - core).abs().max() < 1e-4


def test_guidance_stays_within_the_levels_that_a_checkpoint_names(
    server: Any, api: Any, tmp_path: Path, bundled: Model
) -> None:
    """The same latents as in the core, and others than those of the same weights with guidance everywhere."""
    prompt = api("text_to_video")
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt[sampler]["inputs"] |= {"steps": 4, "seed": 7}
    everywhere = latents(server, prompt, sampler, tmp_path)
    within = replace(bundled, defaults=replace(bundled.defaults, cfg_interval=(0.0, 0.9)))
    save_checkpoint(server.base / "models" / "sora" / "within.safetensors", within)
    prompt[by_class(prompt, "SoraLoadModel")[0]]["inputs"]["checkpoint"] = "within.safetensors"
    ours = latents(server, prompt, sampler, tmp_path)
    text = next(t for n in by_class(prompt, "SoraTextEncode") if (t := prompt[n]["inputs"]["text"]))
    core = Pipeline(within).sample([text], tuple(ours.shape[2:]), seeds=[7], steps=4)
    assert (ours - core).abs().max() < 1e-4 < (ours - everywhere).abs().max()


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_strength_maps_mean_the_same_on_the_host(
    server: Any, api: Any, tmp_path: Path, bundled: Model, strength: float
) -> None:
    prompt = api("patches")
    prompt[by_class(prompt, "SoraPatchStrength")[0]]["inputs"]["strength"] = strength
    sampler = by_class(prompt, "SoraSampler")[0]
    ours = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    patches = to_patches(known, 0.0, (1, 2, 2))
    chosen = select(patches.grid, 9, -1)[None, None] * strength
    core = Pipeline(bundled).sample(
        ["a red circle moves left on a sky background"], tuple(ours.shape[2:]), seeds=[0], known=known, strength=chosen
    )
    assert (ours - core).abs().max() < 1e-4


def test_the_stock_sampler_keeps_what_the_map_keeps(server: Any, api: Any, tmp_path: Path) -> None:
    """A binary map in KSampler: the same latents as in Sora Sampler, so the levels reach every token."""
    prompt = api("patches", shipped=True)
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt[sampler]["inputs"] |= {"solver": "euler", "steps": 20}
    ours = latents(server, prompt, sampler, tmp_path)
    inputs = dict(prompt[sampler]["inputs"])
    inputs["latent_image"] = inputs.pop("latent")
    inputs.pop("solver")
    inputs |= {"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    prompt[sampler] = {"class_type": "KSampler", "inputs": inputs}
    theirs = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    assert (theirs - known)[:, :, :3].abs().max() < 1e-5  # the host's own arithmetic rounds
    assert (ours - theirs).abs().max() < 1e-4


def test_a_task_is_sampled_as_in_the_core(server: Any, api: Any, tmp_path: Path, bundled: Model) -> None:
    prompt = api("extend_backward")
    sampler, clip = by_class(prompt, "SoraSampler")[0], prompt[by_class(prompt, "SoraWorldClip")[0]]["inputs"]
    prompt[sampler]["inputs"]["steps"] = 4
    words = (clip["shape"], clip["colour"], clip["motion"], clip["background"])
    frames = render(scene_of(*words, rng=np.random.default_rng(clip["seed"])), clip["frames"], SIDE, SIDE)
    pipeline = Pipeline(bundled)
    known, strength = extend(frames[8:], before=8).encode(pipeline.encode)
    core = pipeline.sample(
        ["a blue square moves right on a sand background"], tuple(known.shape[2:]), seeds=[0], known=known,
        strength=strength, steps=4,
    )  # fmt: skip
    assert (latents(server, prompt, sampler, tmp_path) - core).abs().max() < 1e-3


def test_a_lora_changes_the_output_and_leaves_without_a_trace(
    server: Any, api: Any, tmp_path: Path, bundled: Model
) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, layer in bundled.dit.named_modules():
        if isinstance(layer, torch.nn.Linear):
            for side, shape in (("A", (4, layer.in_features)), ("B", (layer.out_features, 4))):
                key = f"diffusion_model.{name}.lora_{side}.weight"
                tensors[key] = torch.randn(shape, generator=generator) * 0.02
    save_file(tensors, server.base / "models" / "loras" / "noise.safetensors")
    prompt = api("text_to_video")
    sampler, loader = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraLoadModel")[0]
    prompt[sampler]["inputs"]["steps"] = 4
    before = latents(server, prompt, sampler, tmp_path)
    changed = json.loads(json.dumps(prompt))
    changed["lora"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [loader, 0], "lora_name": "noise.safetensors", "strength_model": 1.0},
    }
    changed[sampler]["inputs"]["model"] = ["lora", 0]
    with_lora = latents(server, changed, sampler, tmp_path)
    assert "NOT LOADED" not in server.log.read_text(encoding="utf-8", errors="replace")
    prompt[sampler]["inputs"]["seed"] = 1  # so that nothing comes from the host's cache
    latents(server, prompt, sampler, tmp_path)
    prompt[sampler]["inputs"]["seed"] = 0
    after = latents(server, prompt, sampler, tmp_path)
    assert (with_lora - before).abs().max() > 0.01
    assert torch.equal(before, after)


def test_a_batch_of_clips_and_a_wide_canvas(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("text_to_video")
    prompt[by_class(prompt, "SoraEmptyVideo")[0]]["inputs"] |= {
        "width": 96, "height": 64, "frames": 9, "batch_size": 2,
    }  # fmt: skip
    prompt[by_class(prompt, "SoraSampler")[0]]["inputs"]["steps"] = 2
    outcome = server.run(prompt)
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path))
    assert clip.frames.shape == (18, 64, 96, 3)
    assert float((clip.frames[:9] - clip.frames[9:]).abs().mean()) > 0.01  # two clips, not one twice


def test_a_map_goes_with_every_clip_of_a_batch(server: Any, api: Any, tmp_path: Path) -> None:
    """Two clips under one map, with guidance: the first is what it is alone, and both keep what the map keeps."""
    prompt = api("patches")
    sampler, whole = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraUnpatchify")[0]
    prompt[sampler]["inputs"]["steps"] = 4
    alone = latents(server, prompt, sampler, tmp_path)
    prompt["batch"] = {"class_type": "RepeatLatentBatch", "inputs": {"samples": [whole, 0], "amount": 2}}
    prompt[sampler]["inputs"]["latent"] = ["batch", 0]
    both = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    assert both.shape[0] == 2 and torch.equal(both[:, :, :3], known[:, :, :3].expand(2, -1, -1, -1, -1))
    assert (both[:1] - alone).abs().max() < 1e-4
    assert (both[1] - both[0])[:, 3:].abs().mean() > 0.01


def test_a_clip_picked_from_a_batch_is_the_clip_it_was(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("text_to_video")
    sampler, empty = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraEmptyVideo")[0]
    prompt[empty]["inputs"]["batch_size"] = 3
    prompt[sampler]["inputs"]["steps"] = 3
    three = latents(server, prompt, sampler, tmp_path)
    prompt["pick"] = {"class_type": "LatentFromBatch", "inputs": {"samples": [empty, 0], "batch_index": 2, "length": 1}}
    prompt[sampler]["inputs"]["latent"] = ["pick", 0]
    assert (latents(server, prompt, sampler, tmp_path) - three[2:]).abs().max() < 1e-4


def test_a_text_for_a_part_of_the_frame(server: Any, api: Any, tmp_path: Path) -> None:
    """The host's areas cut the map with the latents."""
    prompt = api("patches")
    sampler, positive = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraTextEncode")[0]
    prompt["area"] = {
        "class_type": "ConditioningSetAreaPercentageVideo",
        "inputs": {"conditioning": [positive, 0], "width": 0.5, "height": 1.0, "temporal": 1.0,
                   "x": 0.5, "y": 0.0, "z": 0.0, "strength": 1.0},
    }  # fmt: skip
    prompt["both"] = {
        "class_type": "ConditioningCombine",
        "inputs": {"conditioning_1": ["area", 0], "conditioning_2": [positive, 0]},
    }
    prompt[sampler]["inputs"] |= {"steps": 3, "positive": ["both", 0]}
    sampled = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    assert torch.equal(sampled[:, :, :3], known[:, :, :3]) and sampled.isfinite().all()


def test_the_host_s_vae_nodes_do_what_ours_do(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("vae_roundtrip")
    encode, decode, clip = (by_class(prompt, k)[0] for k in ("SoraVAEEncode", "SoraVAEDecode", "SoraWorldClip"))
    vae = prompt[encode]["inputs"]["vae"]
    prompt["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": [clip, 0], "vae": vae}}
    ours = latents(server, prompt, encode, tmp_path)
    assert (latents(server, prompt, "encode", tmp_path) - ours).abs().max() < 1e-4
    tiles = {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
    nodes = {
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": [encode, 0], "vae": vae}},
        "tiled": {"class_type": "VAEDecodeTiled", "inputs": {"samples": [encode, 0], "vae": vae} | tiles},
    }
    prompt |= nodes
    videos = {}
    for node in (decode, *nodes):
        prompt["save" + node] = {
            "class_type": "SaveImage", "inputs": {"images": [node, 0], "filename_prefix": f"frames{node}"},
        }  # fmt: skip
    outcome = server.run(prompt)
    assert outcome.error is None, outcome.error
    for node in (decode, *nodes):
        files = [server.view(entry, tmp_path) for entry in outcome.outputs["save" + node]["images"]]
        videos[node] = torch.stack([read_video(file).frames[0] for file in files])
    assert videos[decode].shape == (17, SIDE, SIDE, 3)
    assert float((videos["decode"] - videos[decode]).abs().max()) <= 1.01 / 255
    assert psnr(frames_to_video(videos["tiled"]), frames_to_video(videos[decode])) > 30


def test_weights_kept_in_bfloat16_give_the_same(server: Any, bf16_server: Any, api: Any, tmp_path: Path) -> None:
    """The file's precision: the host casts them for every layer."""
    prompt = api("patches")
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt[sampler]["inputs"] |= {"steps": 4, "solver": "euler"}
    single, half = (latents(one, prompt, sampler, tmp_path) for one in (server, bf16_server))
    assert (single - half).abs().max() < 1e-4
    assert "model weight dtype torch.bfloat16" in bf16_server.log.read_text(encoding="utf-8", errors="replace")


def test_a_mask_paints_strengths(server: Any, api: Any, tmp_path: Path) -> None:
    """A MASK given to Sora Patch Strength: black keeps its patches bit for bit, white is made."""
    prompt = api("patches")
    chosen = by_class(prompt, "SoraPatchStrength")[0]
    prompt["black"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": SIDE, "height": SIDE}}
    prompt["white"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": SIDE // 2, "height": SIDE}}
    prompt["mask"] = {
        "class_type": "MaskComposite",
        "inputs": {"destination": ["black", 0], "source": ["white", 0], "x": SIDE // 2, "y": 0, "operation": "add"},
    }
    prompt[chosen]["inputs"] |= {"mask": ["mask", 0], "first_frame": 0}
    prompt[by_class(prompt, "SoraSampler")[0]]["inputs"]["steps"] = 3
    encoded = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    sampled = latents(server, prompt, by_class(prompt, "SoraSampler")[0], tmp_path)
    assert torch.equal(sampled[..., : SIDE // 16], encoded[..., : SIDE // 16])
    assert not torch.isclose(sampled[..., SIDE // 16 :], encoded[..., SIDE // 16 :]).all(1).any()


def half_masked(prompt: dict[str, Any], side: int) -> list:
    """A mask of pixels, white on the right, on the workflow's encoded clip, by the host's own node."""
    prompt["black"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": side, "height": side}}
    prompt["white"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": side // 2, "height": side}}
    prompt["mask"] = {
        "class_type": "MaskComposite",
        "inputs": {"destination": ["black", 0], "source": ["white", 0], "x": side // 2, "y": 0, "operation": "add"},
    }
    latent = {"samples": [by_class(prompt, "SoraVAEEncode")[0], 0], "mask": ["mask", 0]}
    prompt["set"] = {"class_type": "SetLatentNoiseMask", "inputs": latent}
    return ["set", 0]


def test_the_host_s_own_mask_keeps_what_is_black(server: Any, api: Any, tmp_path: Path) -> None:
    """Bit for bit, straight into the sampler or through patches; and the same latents as under KSampler."""
    prompt = api("patches", shipped=True)
    sampler, cut = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraPatchify")[0]
    masked = half_masked(prompt, SHIPPED)
    prompt[sampler]["inputs"] |= {"latent": masked, "solver": "euler", "steps": 4}
    ours = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    half = SHIPPED // 16
    assert torch.equal(ours[..., :half], known[..., :half])
    assert not torch.isclose(ours[..., half:], known[..., half:]).all(1).any()
    prompt[cut]["inputs"]["latent"] = masked
    prompt["join"] = {"class_type": "SoraUnpatchify", "inputs": {"patches": [cut, 0]}}
    prompt[sampler]["inputs"]["latent"] = ["join", 0]
    assert torch.equal(latents(server, prompt, sampler, tmp_path), ours)
    given = ("model", "positive", "negative", "seed", "steps", "cfg")
    inputs = {name: prompt[sampler]["inputs"][name] for name in given} | {"latent_image": masked, "denoise": 1.0}
    inputs |= {"sampler_name": "euler", "scheduler": "simple"}
    prompt[sampler] = {"class_type": "KSampler", "inputs": inputs}
    assert (latents(server, prompt, sampler, tmp_path) - ours).abs().max() < 1e-4


def test_a_run_under_the_host_s_own_mask_goes_on(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("patches")
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt[sampler]["inputs"] |= {"latent": half_masked(prompt, SIDE), "steps": 3}
    whole = latents(server, prompt, sampler, tmp_path)
    prompt["rest"] = {"class_type": "SoraSampler", "inputs": prompt[sampler]["inputs"] | {"latent": [sampler, 0]}}
    prompt[sampler] = json.loads(json.dumps(prompt[sampler]))
    prompt[sampler]["inputs"]["stop_after"] = 2
    assert torch.equal(latents(server, prompt, "rest", tmp_path), whole)


def test_material_is_the_world_s(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("vae_roundtrip")
    clip = by_class(prompt, "SoraWorldClip")[0]
    prompt["save"] = {"class_type": "SaveImage", "inputs": {"images": [clip, 0], "filename_prefix": "material"}}
    first = read_video(saved(server, server.run(prompt), "save", tmp_path)).frames
    expected = render(scene_of("star", "yellow", "spins", "night", rng=np.random.default_rng(0)), 17, SIDE, SIDE)
    assert float((first[0] - expected[0]).abs().max()) <= 1.01 / 255
