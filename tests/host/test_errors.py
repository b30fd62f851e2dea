"""What goes wrong on the host: refused before it is queued where that can be, and named where not."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from prompts import SIDE, assert_it_still_works, by_class
from safetensors.torch import save_file


@pytest.mark.parametrize(
    ("node", "values", "words"),
    [
        (
            "SoraEmptyVideo",
            {"width": 130},
            "width 130: sides are multiples of 16 from 16 to 8192",
        ),
        (
            "SoraEmptyVideo",
            {"height": 8},
            "pixels; the nearest is 16",
        ),
        ("SoraEmptyVideo", {"frames": 18}, "18 frames: a clip has 4n + 1 frames, from 1 to 16381; the nearest is 17"),
        ("SoraEmptyVideo", {"width": 9000}, "the nearest is 8192"),
        ("SoraLoadModel", {"checkpoint": "gone.safetensors"}, "gone.safetensors"),
        ("SoraSampler", {"steps": 0}, "steps"),
        ("SoraSampler", {"solver": "magic"}, "magic"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_queued(
    server: Any, api: Any, node: str, values: dict[str, Any], words: str
) -> None:
    prompt = api("text_to_video")
    target = by_class(prompt, node)[0]
    prompt[target]["inputs"] |= values
    status, answer = server.post("/prompt", {"prompt": prompt, "client_id": server.client})
    assert status == 400
    assert words in json.dumps(answer["node_errors"][target]["errors"])


@pytest.mark.parametrize(
    ("name", "node", "values", "words"),
    [
        ("extend", "SoraLoadModel", {"checkpoint": "../../../sd.safetensors"}, "sd.safetensors"),
        ("extend", "SoraClipReport", {"seams": "17, x"}, "is no list of frames; write them as in 17, 25"),
        ("long_video", "SoraLongVideo", {"prompts": "0:00-0:05 a star"}, "has two times"),
        ("long_video", "SoraLongVideo", {"overlap": 4}, "windows of 17 frames can share 1 to 3 of them"),
        ("long_video", "SoraLongVideo", {"window": 4001}, "window 4001: at most 1021"),
        ("extend", "SoraExtend", {"before": 0, "after": 0}, "extend by 0 before and 0 after"),
        ("extend", "SoraExtend", {"after": 100001}, "after 100001: at most 100000"),
        ("sdedit", "SoraSDEdit", {"curve": "0-0.5"}, "'0-0.5' is not FRAME:STRENGTH"),
        ("patches", "SoraPatchStrength", {"left": 0.5, "right": 0.5}, "left lies below right"),
        ("save", "SoraSaveDraft", {"name": "../../elsewhere"}, "give a plain name, without folders"),
        ("load", "SoraLoadDraft", {"draft": "../../secret.safetensors"}, "secret.safetensors"),
    ],
)
def test_names_and_texts_are_refused_before_anything_is_made(
    server: Any, api: Any, name: str, node: str, values: dict[str, Any], words: str
) -> None:
    prompt = api("extend" if name in ("save", "load") else name)
    if name == "save":
        prompt[node] = {"class_type": node, "inputs": {"latent": [by_class(prompt, "SoraSampler")[0], 0]}}
    elif name == "load":
        prompt[node] = {"class_type": node, "inputs": {}}
        prompt[by_class(prompt, "SoraVAEDecode")[0]]["inputs"]["latent"] = [node, 0]
    for sampler in by_class(prompt, "SoraSampler"):
        prompt[sampler]["inputs"]["steps"] = 1  # an output that is in order runs all the same
    target = by_class(prompt, node)[0]
    prompt[target]["inputs"] |= values
    _, answer = server.post("/prompt", {"prompt": prompt, "client_id": server.client})
    assert words in json.dumps(answer["node_errors"][target]["errors"])


def test_a_loop_of_one_frame_is_named(server: Any, api: Any) -> None:
    prompt = api("loop")
    task, clip = by_class(prompt, "SoraLoop")[0], by_class(prompt, "SoraWorldClip")[0]
    prompt[clip]["inputs"]["frames"] = 1
    outcome = server.run(prompt)
    assert outcome.error is not None and outcome.error["node_id"] == task
    assert "the clip has 1 frame: this takes at least 2" in outcome.error["exception_message"]
    assert_it_still_works(server, api)


def test_a_foreign_checkpoint_is_named(server: Any, api: Any) -> None:
    folder = server.base / "models" / "sora"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, folder / "sd.safetensors")
    whole = (Path(__file__).parents[2] / "sora_core" / "weights" / "sora-mini.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "old.ckpt").write_bytes(struct.pack("<Q", 0))
    options = server.get("/object_info/SoraLoadModel")["SoraLoadModel"]["input"]["required"]["checkpoint"]
    listed = options[0] if isinstance(options[0], list) else options[1]["options"]
    assert listed[0] == "sora-mini (bundled)" and {"half.safetensors", "sd.safetensors"} <= set(listed)
    assert "old.ckpt" not in listed
    for name, words in (("sd.safetensors", "Stable Diffusion"), ("half.safetensors", "truncated")):
        prompt = api("text_to_image")
        loader = by_class(prompt, "SoraLoadModel")[0]
        prompt[loader]["inputs"]["checkpoint"] = name
        outcome = server.run(prompt)
        assert outcome.error is not None and outcome.error["node_id"] == loader
        assert words in outcome.error["exception_message"]
    assert_it_still_works(server, api)


@pytest.mark.parametrize(("name", "node"), [("text_to_video", "SoraSampler"), ("patches", "SoraPatchify")])
def test_a_mask_of_another_shape_is_named(server: Any, api: Any, name: str, node: str) -> None:
    prompt = api(name)
    taker = by_class(prompt, node)[0]
    source, output = prompt[taker]["inputs"]["latent"]
    prompt["one"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": SIDE, "height": SIDE}}
    prompt["image"] = {"class_type": "MaskToImage", "inputs": {"mask": ["one", 0]}}
    prompt["three"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["image", 0], "amount": 3}}
    prompt["mask"] = {"class_type": "ImageToMask", "inputs": {"image": ["three", 0], "channel": "red"}}
    prompt["set"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": [source, output], "mask": ["mask", 0]}}
    prompt[taker]["inputs"]["latent"] = ["set", 0]
    outcome = server.run(prompt)
    assert outcome.error is not None and outcome.error["node_id"] == taker
    assert "noise_mask of shape (3, 1, 128, 128)" in outcome.error["exception_message"]
    assert "one a frame (17, H, W); Set Latent Noise Mask" in outcome.error["exception_message"]
    assert_it_still_works(server, api)


def test_an_image_vae_is_named(server: Any, api: Any) -> None:
    prompt = api("vae_roundtrip")
    encode, decode = by_class(prompt, "SoraVAEEncode")[0], by_class(prompt, "SoraVAEDecode")[0]
    prompt["image"] = {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}}
    for node in (decode, encode):
        prompt[node]["inputs"]["vae"] = ["image", 0]
        outcome = server.run(prompt)
        assert outcome.error is not None and outcome.error["node_id"] == node
        assert "vae: this is not a video VAE" in outcome.error["exception_message"]


def test_a_ramp_over_a_clip_of_another_length_is_named(server: Any, api: Any) -> None:
    prompt = api("text_to_video")
    sampler, first, empty = (by_class(prompt, k)[0] for k in ("SoraSampler", "SoraTextEncode", "SoraEmptyVideo"))
    prompt["other"] = {"class_type": "SoraEmptyVideo", "inputs": prompt[empty]["inputs"] | {"frames": 33}}
    ramp = {"first": [first, 0], "second": [first, 0], "latent": ["other", 0]}
    prompt["ramp"] = {"class_type": "SoraPromptRamp", "inputs": ramp}
    prompt[sampler]["inputs"]["positive"] = ["ramp", 0]
    outcome = server.run(prompt)
    assert outcome.error is not None and outcome.error["node_id"] == sampler
    assert "positive: mask of shape (9, " in outcome.error["exception_message"]
    assert "a Sora Prompt Ramp takes the latent that is sampled" in outcome.error["exception_message"]


def test_a_clip_that_does_not_fit_is_named(server: Any, api: Any) -> None:
    prompt = api("vae_roundtrip")
    encode, clip = by_class(prompt, "SoraVAEEncode")[0], by_class(prompt, "SoraWorldClip")[0]
    prompt["cut"] = {"class_type": "ImageFromBatch", "inputs": {"image": [clip, 0], "batch_index": 0, "length": 16}}
    prompt[encode]["inputs"]["images"] = ["cut", 0]
    outcome = server.run(prompt)
    assert outcome.error is not None and outcome.error["node_id"] == encode
    assert "16 frames" in outcome.error["exception_message"] and "use 13 or 17" in outcome.error["exception_message"]
    assert_it_still_works(server, api)
