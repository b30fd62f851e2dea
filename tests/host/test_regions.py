"""Texts for parts of the frame on a real host: the same latents as in the core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from prompts import by_class, latents

from sora_core.checkpoint import Model, load_checkpoint, save_checkpoint
from sora_core.pipeline import Pipeline
from sora_core.regions import Box, halves
from sora_core.world.prompts import apart

TWO = "a red circle grows and a blue square moves right on a night background"


def apart_model() -> Model:
    bundled = load_checkpoint()
    return replace(bundled, defaults=replace(bundled.defaults, apart=True))


@pytest.mark.parametrize("regions", [3, 2])
def test_regions_are_those_of_the_core(server: Any, api: Any, tmp_path: Path, bundled: Model, regions: int) -> None:
    """Also where they leave a rest, which has the text at the beginning of the row."""
    prompt = api("regions")
    sampler, placed = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraRegion")[:regions]
    prompt[sampler]["inputs"] |= {"steps": 4, "seed": 5, "positive": [placed[-1], 0]}
    first = prompt[placed[0]]["inputs"]["rest"][0]
    prompt[first]["inputs"]["text"] = rest = "a green star spins on a night background"
    negative = {"class_type": "CLIPTextEncode", "inputs": prompt[first]["inputs"] | {"text": ""}}
    prompt["empty"] = negative
    prompt[sampler]["inputs"]["negative"] = ["empty", 0]
    ours = latents(server, prompt, sampler, tmp_path)
    inputs = [prompt[node]["inputs"] for node in placed]
    expected = [
        ([prompt[i["region"][0]]["inputs"]["text"]], Box(*(i[side] for side in ("left", "top", "width", "height"))))
        for i in inputs
    ]
    core = Pipeline(bundled).sample([rest], tuple(ours.shape[2:]), seeds=[5], steps=4, regions=expected)
    assert (ours - core).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(128, 96), (96, 128)])
def test_two_things_of_a_text_get_a_half_each(
    server: Any, api: Any, tmp_path: Path, bundled: Model, size: tuple[int, int]
) -> None:
    """Of a checkpoint that says so, whichever way the frame is parted; KSampler reads the text as one."""
    save_checkpoint(server.base / "models" / "sora" / "apart.safetensors", apart_model())
    prompt = api("text_to_video")
    sampler, encode = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraTextEncode")[0]
    prompt[by_class(prompt, "SoraLoadModel")[0]]["inputs"]["checkpoint"] = "apart.safetensors"
    prompt[by_class(prompt, "SoraEmptyVideo")[0]]["inputs"] |= {"width": size[0], "height": size[1]}
    prompt[encode]["inputs"]["text"] = TWO
    prompt[sampler]["inputs"] |= {"steps": 4, "seed": 5}
    ours = latents(server, prompt, sampler, tmp_path)
    regions = [([text], box) for text, box in zip(apart(TWO), halves(*size), strict=True)]
    core = Pipeline(bundled).sample([TWO], tuple(ours.shape[2:]), seeds=[5], steps=4, regions=regions)
    assert (ours - core).abs().max() < 1e-4
    prompt[encode]["class_type"] = "CLIPTextEncode"
    whole = latents(server, prompt, sampler, tmp_path)
    assert (whole - ours).abs().max() > 0.1


def test_a_text_goes_over_into_another_across_an_empty_clip(
    server: Any, api: Any, tmp_path: Path, bundled: Model
) -> None:
    prompt = api("text_to_video")
    sampler, first, empty = (by_class(prompt, k)[0] for k in ("SoraSampler", "SoraTextEncode", "SoraEmptyVideo"))
    other = "a blue square spins on a night background"
    prompt["other"] = {"class_type": "SoraTextEncode", "inputs": prompt[first]["inputs"] | {"text": other}}
    ramp = {"first": [first, 0], "second": ["other", 0], "latent": [empty, 0]}
    prompt["ramp"] = {"class_type": "SoraPromptRamp", "inputs": ramp}
    prompt[sampler]["inputs"] |= {"steps": 3, "seed": 5, "positive": ["ramp", 0]}
    ours = latents(server, prompt, sampler, tmp_path)
    share = torch.tensor([0, 0.25, 0.5, 0.75, 1])
    core = Pipeline(bundled).sample(
        [prompt[first]["inputs"]["text"]], tuple(ours.shape[2:]), seeds=[5], steps=3, ramps=[([other], share)]
    )
    assert (ours - core).abs().max() < 1e-4


def test_a_ramp_of_a_text_with_itself_is_that_text_in_its_regions(server: Any, api: Any, tmp_path: Path) -> None:
    """Regions fade towards their edges inside the frame, with a ramp behind them as without."""
    prompt = api("regions")
    sampler, empty = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraEmptyVideo")[0]
    prompt[sampler]["inputs"] |= {"steps": 2, "seed": 5}
    plain = latents(server, prompt, sampler, tmp_path)
    positive = prompt[sampler]["inputs"]["positive"]
    prompt["ramp"] = {
        "class_type": "SoraPromptRamp", "inputs": {"first": positive, "second": positive, "latent": [empty, 0]},
    }  # fmt: skip
    prompt[sampler]["inputs"]["positive"] = ["ramp", 0]
    assert (latents(server, prompt, sampler, tmp_path) - plain).abs().max() < 1e-4


def mask_of(prompt: dict[str, Any], *parts: tuple[float, int]) -> list[Any]:
    """Output that is a mask with so many frames of each value, of a size of its own."""
    last: list[Any] = []
    for value, count in parts:
        solid, image, many = (f"{name} {value}" for name in ("solid", "image", "many"))
        prompt[solid] = {"class_type": "SolidMask", "inputs": {"value": value, "width": 100, "height": 60}}
        prompt[image] = {"class_type": "MaskToImage", "inputs": {"mask": [solid, 0]}}
        prompt[many] = {"class_type": "RepeatImageBatch", "inputs": {"image": [image, 0], "amount": count}}
        if last:
            prompt["batch"] = {"class_type": "ImageBatch", "inputs": {"image1": last, "image2": [many, 0]}}
        last = ["batch" if last else many, 0]
    prompt["mask"] = {"class_type": "ImageToMask", "inputs": {"image": last, "channel": "red"}}
    return ["mask", 0]


@pytest.mark.parametrize("count", [1, 17])
def test_white_masks_leave_regions_as_they_are(server: Any, api: Any, tmp_path: Path, count: int) -> None:
    """One for the clip, or one a frame, on either side."""
    prompt = api("regions")
    sampler = by_class(prompt, "SoraSampler")[0]
    inputs = prompt[sampler]["inputs"]
    inputs |= {"steps": 2, "seed": 5}
    plain = latents(server, prompt, sampler, tmp_path)
    for side in ("positive", "negative"):
        given = {"conditioning": inputs[side], "mask": mask_of(prompt, (1.0, count)), "strength": 1.0}
        prompt[side] = {"class_type": "ConditioningSetMask", "inputs": given | {"set_cond_area": "default"}}
        inputs[side] = [side, 0]
    assert (latents(server, prompt, sampler, tmp_path) - plain).abs().max() < 1e-4


def test_a_mask_a_frame_acts_where_it_is_white(server: Any, api: Any, tmp_path: Path) -> None:
    """A text beside regions, under a mask whose last frame alone is white, acts on the last latent alone."""
    prompt = api("regions")
    sampler, text = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraTextEncode")[0]
    inputs = prompt[sampler]["inputs"]
    inputs |= {"steps": 1, "seed": 5, "cfg": 1.0}
    plain = latents(server, prompt, sampler, tmp_path)
    given = {"conditioning": [text, 0], "mask": mask_of(prompt, (0.0, 16), (1.0, 1)), "strength": 1.0}
    prompt["masked"] = {"class_type": "ConditioningSetMask", "inputs": given | {"set_cond_area": "default"}}
    both = {"conditioning_1": inputs["positive"], "conditioning_2": ["masked", 0]}
    prompt["both"] = {"class_type": "ConditioningCombine", "inputs": both}
    inputs["positive"] = ["both", 0]
    moved = (latents(server, prompt, sampler, tmp_path) - plain).abs().amax((0, 1, 3, 4))
    assert moved[:-1].max() < 1e-4 and moved[-1] > 1e-2


def test_regions_under_a_map_are_those_of_the_core(server: Any, api: Any, tmp_path: Path, bundled: Model) -> None:
    """What a map keeps stays, and the frame before it is led up to in every box alike."""
    prompt = api("patches")
    sampler, positive = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraTextEncode")[0]
    box = {"left": 0.5, "top": 0.0, "width": 0.5, "height": 0.5}
    inputs = {"rest": [positive, 0], "region": ["other", 0], **box}
    prompt["other"] = {
        "class_type": "SoraTextEncode", "inputs": prompt[positive]["inputs"] | {"text": "a green star spins"},
    }  # fmt: skip
    prompt["region"] = {"class_type": "SoraRegion", "inputs": inputs}
    prompt[sampler]["inputs"] |= {"steps": 3, "positive": ["region", 0]}
    chosen = prompt[by_class(prompt, "SoraPatchStrength")[0]]["inputs"]
    chosen |= {"first_frame": 1, "last_frame": 8, "strength": 1.0}
    ours = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    strength = torch.zeros(1, 1, *known.shape[2:])
    strength[:, :, 1:3] = 1
    core = Pipeline(bundled).sample(
        [prompt[positive]["inputs"]["text"]], tuple(ours.shape[2:]), seeds=[0], steps=3, known=known, strength=strength,
        regions=[(["a green star spins"], Box(*box.values()))],
    )  # fmt: skip
    assert torch.equal(ours[:, :, 3:], known[:, :, 3:]) and (ours - core).abs().max() < 1e-4


def test_things_of_a_clip_that_is_given_stay_where_they_are(server: Any, api: Any, tmp_path: Path) -> None:
    """A text for two things is read as one in a task."""
    save_checkpoint(server.base / "models" / "sora" / "apart.safetensors", apart_model())
    prompt = api("extend")
    sampler, encode = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraTextEncode")[0]
    prompt[by_class(prompt, "SoraLoadModel")[0]]["inputs"]["checkpoint"] = "apart.safetensors"
    prompt[encode]["inputs"]["text"] = TWO
    prompt[sampler]["inputs"]["steps"] = 2
    ours = latents(server, prompt, sampler, tmp_path)
    prompt[encode]["class_type"] = "CLIPTextEncode"
    assert torch.equal(ours, latents(server, prompt, sampler, tmp_path))


def test_a_text_that_was_changed_has_no_halves(server: Any, api: Any, tmp_path: Path) -> None:
    """Its halves stand for what it was; a node that leaves it as it is leaves them, too."""
    save_checkpoint(server.base / "models" / "sora" / "apart.safetensors", apart_model())
    prompt = api("text_to_video")
    sampler, encode = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraTextEncode")[0]
    prompt[by_class(prompt, "SoraLoadModel")[0]]["inputs"]["checkpoint"] = "apart.safetensors"
    prompt[encode]["inputs"]["text"] = TWO
    prompt["other"] = {"class_type": "SoraTextEncode", "inputs": prompt[encode]["inputs"] | {"text": "a star spins"}}
    mixed = {"conditioning_to": [encode, 0], "conditioning_from": ["other", 0], "conditioning_to_strength": 0.5}
    prompt["mixed"] = {"class_type": "ConditioningAverage", "inputs": mixed}
    prompt[sampler]["inputs"] |= {"steps": 2, "positive": ["mixed", 0]}
    ours = latents(server, prompt, sampler, tmp_path)
    prompt["mixed"]["inputs"]["conditioning_to_strength"] = 1.0
    kept = latents(server, prompt, sampler, tmp_path)
    prompt[sampler]["inputs"]["positive"] = [encode, 0]
    assert torch.equal(latents(server, prompt, sampler, tmp_path), kept)
    prompt[sampler]["inputs"]["positive"] = ["mixed", 0]
    prompt["mixed"]["inputs"]["conditioning_to_strength"] = 0.5
    prompt[encode]["class_type"] = "CLIPTextEncode"
    assert torch.equal(latents(server, prompt, sampler, tmp_path), ours)


def test_a_box_outside_the_frame_is_refused(server: Any, api: Any) -> None:
    """Before anything is made."""
    prompt = api("regions")
    prompt[by_class(prompt, "SoraRegion")[0]]["inputs"] |= {"left": 0.7, "width": 0.6}
    status, answer = server.post("/prompt", {"prompt": prompt, "client_id": server.client})
    assert status == 400 and "ends inside the frame" in str(answer)
