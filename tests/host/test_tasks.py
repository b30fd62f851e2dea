"""The tasks on a real host: given frames come back bit for bit under any MODEL, and work survives a cancel."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompts import SIDE, assert_it_still_works, by_class, latents, saved, wan, with_latent_saved
from torch import Tensor

from sora_core.checkpoint import Model, save_checkpoint
from sora_core.video import read_video, write_video
from sora_core.world import render, scene_of

TASKS = ["extend", "extend_backward", "transition", "loop", "keyframes", "sdedit", "reroll"]


def quick(prompt: dict[str, Any]) -> dict[str, Any]:
    for node in prompt.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    return prompt


def frames_of(server: Any, prompt: dict[str, Any], nodes: list[str], folder: Path) -> list[Tensor]:
    """Frames of some nodes' images, through PNG files."""
    for node in nodes:
        prompt[f"png{node}"] = {
            "class_type": "SaveImage", "inputs": {"images": [node, 0], "filename_prefix": f"frames{node}"},
        }  # fmt: skip
    outcome = server.run(prompt)
    assert outcome.error is None, outcome.error
    return [
        torch.stack(
            [read_video(server.view(entry, folder)).frames[0] for entry in outcome.outputs[f"png{n}"]["images"]]
        )
        for n in nodes
    ]


def given_in(name: str, first: Tensor, last: Tensor) -> tuple[int, list[tuple[int, Tensor]]]:
    """Length of a shipped task's clip, and the given frames in it with their places."""
    return {
        "extend": (17, [(0, first[:9])]),
        "extend_backward": (17, [(8, first[8:])]),
        "transition": (42, [(0, first), (25, last)]),
        "loop": (25, [(0, first)]),
        "keyframes": (17, [(0, first[:1]), (16, first[16:])]),
        "sdedit": (17, []),
        "reroll": (17, [(0, first[:5]), (13, first[13:])]),
    }[name]


@pytest.mark.parametrize("foreign", [False, True], ids=["sora-mini", "wan"])
@pytest.mark.parametrize("name", TASKS)
def test_given_frames_come_back_bit_for_bit(server: Any, api: Any, tmp_path: Path, name: str, foreign: bool) -> None:
    prompt = api(name)
    decode, clips = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraWorldClip")
    if foreign:
        prompt, sampler = wan(api, name)
        prompt[sampler]["inputs"]["positive"] = ["wan", 1]
    made, *sources = frames_of(server, quick(prompt), [decode, *clips], tmp_path)
    first = sources[0]
    length, places = given_in(name, first, sources[-1])
    assert made.shape == (length, SIDE, SIDE, 3)
    for at, frames in places:
        assert torch.equal(made[at : at + len(frames)], frames)
    if name == "sdedit":
        assert not torch.isclose(made, first, atol=0.02).all()
    given = torch.zeros(length, dtype=torch.bool)
    for at, frames in places:
        given[at : at + len(frames)] = True
    assert float(made[~given].std()) > 0.01


@pytest.mark.parametrize("name", ["inpaint", "outpaint"])
def test_what_a_mask_leaves_stays_bit_for_bit(server: Any, api: Any, tmp_path: Path, name: str) -> None:
    prompt = api(name)
    decode, clip = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraWorldClip")[0]
    made, source = frames_of(server, quick(prompt), [decode, clip], tmp_path)
    if name == "outpaint":
        assert made.shape == (17, SIDE, SIDE + 64, 3) and torch.equal(made[:, :, 32:-32], source)
        new, before = torch.cat([made[:, :, :32], made[:, :, -32:]], dim=2), torch.tensor(0.5)
    else:
        lower = SIDE * 3 // 4
        assert torch.equal(made[:, lower:], source[:, lower:])
        new, before = made[:, :lower], source[:, :lower]
    assert float((new - before).abs().mean()) > 0.02


def test_an_edit_of_strength_zero_is_the_clip(server: Any, api: Any, tmp_path: Path) -> None:
    """Of the whole clip, and of the frames where a curve is 0."""
    prompt = api("sdedit")
    edit = prompt[by_class(prompt, "SoraSDEdit")[0]]["inputs"]
    decode, clip = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraWorldClip")[0]
    edit |= {"strength": 0.0, "curve": ""}
    made, source = frames_of(server, quick(prompt), [decode, clip], tmp_path)
    assert torch.equal(made, source)
    edit |= {"curve": "0:0, 8:0, 9:0.8"}
    made, source = frames_of(server, quick(prompt), [decode, clip], tmp_path)
    assert torch.equal(made[:9], source[:9]) and not torch.isclose(made[9:], source[9:]).all()


def test_a_timeline_goes_through_patches(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("extend")
    decode, clip = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraWorldClip")[0]
    task, sampler = by_class(prompt, "SoraExtend")[0], by_class(prompt, "SoraSampler")[0]
    prompt["cut"] = {"class_type": "SoraPatchify", "inputs": {"latent": [task, 0], "strength": 1.0}}
    prompt["join"] = {"class_type": "SoraUnpatchify", "inputs": {"patches": ["cut", 0]}}
    prompt[sampler]["inputs"]["latent"] = ["join", 0]
    made, source = frames_of(server, quick(prompt), [decode, clip], tmp_path)
    assert torch.equal(made[:9], source[:9]) and len(made) == 17


@pytest.mark.parametrize(
    ("node", "inputs", "words"),
    [
        ("LatentAdd", {"samples1": 0, "samples2": 0}, "have changed"),
        ("LatentCut", {"samples": 0, "dim": "t", "index": 1, "amount": 4}, "were cut"),
    ],
)
def test_other_latents_are_not_pasted_over(server: Any, api: Any, node: str, inputs: dict, words: str) -> None:
    prompt = quick(api("extend"))
    decode, sampler = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraSampler")[0]
    for report in by_class(prompt, "SoraClipReport"):  # which expects the whole clip
        del prompt[report]
    prompt = {key: node for key, node in prompt.items() if node["_meta"]["title"] != "The report"}
    wired = {name: [sampler, 0] if name.startswith("samples") else value for name, value in inputs.items()}
    prompt["other"] = {"class_type": node, "inputs": wired}
    prompt[decode]["inputs"]["latent"] = ["other", 0]
    outcome = server.run(prompt)
    assert outcome.error is None, outcome.error
    note = json.dumps(outcome.outputs[decode])
    assert words in note and "are not put back" in note
    if node == "LatentCut":
        prompt["other"]["inputs"]["samples"] = [by_class(prompt, "SoraExtend")[0], 0]
        text = prompt[sampler]["inputs"]["positive"]
        inputs = {"first": text, "second": text, "latent": ["other", 0]}
        prompt["ramp"] = {"class_type": "SoraPromptRamp", "inputs": inputs}
        prompt[sampler]["inputs"]["positive"], prompt[decode]["inputs"]["latent"] = ["ramp", 0], [sampler, 0]
        assert "it was cut or resized after its task" in server.run(prompt).error["exception_message"]


@pytest.mark.parametrize(("solver", "resample"), [("dpmpp_2m", 0), ("heun", 0), ("dpmpp_2m", 1)])
def test_a_run_that_was_stopped_goes_on_from_a_file(
    server: Any, api: Any, tmp_path: Path, solver: str, resample: int
) -> None:
    """A task's run, stopped after 3 of 6 steps, saved, loaded: the clip is that of a run without a stop."""
    prompt = api("extend")
    decode, sampler = by_class(prompt, "SoraVAEDecode")[0], by_class(prompt, "SoraSampler")[0]
    prompt[sampler]["inputs"] |= {"steps": 6, "solver": solver, "resample": resample}
    (whole,) = frames_of(server, json.loads(json.dumps(prompt)), [decode], tmp_path)
    drafts = server.base / "output" / "drafts"
    before = set(drafts.glob("*"))
    prompt[sampler]["inputs"]["stop_after"] = 3
    prompt["save"] = {"class_type": "SoraSaveDraft", "inputs": {"latent": [sampler, 0], "name": "a run"}}
    (half,) = frames_of(server, json.loads(json.dumps(prompt)), [decode], tmp_path)
    (saved_draft,) = set(drafts.glob("*")) - before
    del prompt["save"]
    prompt["load"] = {"class_type": "SoraLoadDraft", "inputs": {"draft": saved_draft.name}}
    prompt[sampler]["inputs"] |= {"stop_after": 0, "latent": ["load", 0]}
    (rest,) = frames_of(server, json.loads(json.dumps(prompt)), [decode], tmp_path)
    assert torch.equal(rest, whole) and not torch.equal(half, whole)
    prompt[sampler]["inputs"]["steps"] = 7
    outcome = server.run(prompt)
    assert "set the same in this node" in outcome.error["exception_message"]


def test_the_draft_workflow_makes_the_clip_of_a_single_run(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("draft_continue")
    first, second = by_class(prompt, "SoraSampler")
    prompt[first]["inputs"] |= {"steps": 4, "stop_after": 2}
    prompt[second]["inputs"] |= {"steps": 4}
    drafts = server.base / "output" / "drafts"
    before = set(drafts.glob("*"))
    outcome = server.run(json.loads(json.dumps(prompt)))
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path))
    assert clip.frames.shape == (17, SIDE, SIDE, 3) and len(set(drafts.glob("*")) - before) == 1
    on_the_way = latents(server, prompt, second, tmp_path)
    prompt[second]["inputs"]["latent"] = prompt[first]["inputs"]["latent"]
    assert torch.equal(latents(server, prompt, second, tmp_path), on_the_way)


def test_a_draft_that_was_picked_goes_on_as_itself(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = api("text_to_video")
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt[by_class(prompt, "SoraEmptyVideo")[0]]["inputs"] |= {"width": 64, "height": 64, "frames": 5, "batch_size": 2}
    prompt[sampler]["inputs"] |= {"steps": 4, "seed": 7}
    prompt["pick"] = {
        "class_type": "LatentFromBatch", "inputs": {"samples": [sampler, 0], "batch_index": 1, "length": 1},
    }  # fmt: skip
    whole = latents(server, prompt, "pick", tmp_path)
    rest = json.loads(json.dumps(prompt[sampler]))
    prompt[sampler]["inputs"]["stop_after"] = 2
    prompt["rest"] = rest | {"inputs": rest["inputs"] | {"latent": ["pick", 0]}}
    torch.testing.assert_close(latents(server, prompt, "rest", tmp_path), whole, atol=1e-4, rtol=1e-4)
    prompt["other"] = {"class_type": "LatentAdd", "inputs": {"samples1": ["pick", 0], "samples2": ["pick", 0]}}
    prompt["rest"]["inputs"]["latent"] = ["other", 0]
    outcome = server.run(with_latent_saved(prompt, "rest"))
    assert "it was changed after its run was stopped" in outcome.error["exception_message"]


def test_long_video_is_made_again_under_another_patch_or_checkpoint(
    server: Any, api: Any, tmp_path: Path, bundled: Model
) -> None:
    prompt = quick(api("long_video"))
    node, load = by_class(prompt, "SoraLongVideo")[0], by_class(prompt, "SoraLoadModel")[0]
    prompt[node]["inputs"] |= {"prompts": "a red circle", "frames": 9, "window": 9, "overlap": 1, "seed": 12}
    prompt = {key: prompt[key] for key in (node, load)}
    clips = []
    for multiplier in (None, 0.7, 0.2):
        if multiplier is not None:
            inputs = {"model": [load, 0], "multiplier": multiplier}
            prompt["patch"] = {"class_type": "RescaleCFG", "inputs": inputs}
            prompt[node]["inputs"]["model"] = ["patch", 0]
        (clip,) = frames_of(server, json.loads(json.dumps(prompt)), [node], tmp_path)
        clips.append(clip)
    other = replace(bundled, defaults=replace(bundled.defaults, shift=1.0))
    save_checkpoint(server.base / "models" / "sora" / "other.safetensors", other)
    prompt[load]["inputs"]["checkpoint"] = "other.safetensors"  # the same weights, sampled in another way
    clips += frames_of(server, json.loads(json.dumps(prompt)), [node], tmp_path)
    assert not any(torch.equal(one, next_one) for one, next_one in pairwise(clips))


def test_long_video_survives_a_cancel(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = quick(api("long_video"))
    node = by_class(prompt, "SoraLongVideo")[0]
    folders = server.base / "output" / "sora_long"
    others = set(folders.glob("*/window-*.safetensors"))
    windows = 0
    for event in server.events(server.queue(prompt)):
        if event["type"] == "progress" and event["data"]["max"] == 16 and event["data"]["value"] % 2 == 0:
            windows += 1  # of eight, of two steps each, in one bar
            if windows == 4:
                server.post("/interrupt", {})
        last = event["type"]
    kept = set(folders.glob("*/window-*.safetensors")) - others
    assert last == "execution_interrupted" and len(kept) >= 2
    before = {path: path.stat().st_mtime_ns for path in kept}
    outcome = server.run(prompt)
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path))
    assert len(clip.frames) == 72 and clip.fps == 12
    steps = [e for e in outcome.events if e["type"] == "progress" and e["data"]["node"] == node]
    assert {e["data"]["max"] for e in steps} == {16}  # one bar, of the steps of all windows
    values = [e["data"]["value"] for e in steps]
    assert values == sorted(values) and values[-1] == 16
    assert 0 < len({id(e) for e in steps}) <= 2 * (8 - len(before)) + 2  # finished windows were not made again
    assert {path: path.stat().st_mtime_ns for path in before} == before
    done = max(folders.glob("*/finished"), key=lambda path: path.stat().st_mtime)
    for number in range(9):  # older ones
        (folders / f"old{number}").mkdir()
        (folders / f"old{number}" / "finished").touch()
        os.utime(folders / f"old{number}" / "finished", (number, number))
    prompt[node]["inputs"] |= {"prompts": "a red circle", "frames": 9, "window": 9, "overlap": 1}
    assert server.run(prompt).error is None
    assert done.exists() and len(list(folders.glob("*/finished"))) == 8  # for a second try, or to be made longer
    assert not (folders / "old0").exists()
    longer = json.loads(json.dumps(prompt))
    longer[node]["inputs"]["frames"] = 200
    for event in server.events(server.queue(longer)):
        if event["type"] == "progress" and event["data"]["value"] == 6:
            server.post("/interrupt", {})
    newest = max(folders.glob("*/window-*.safetensors"), key=lambda path: path.stat().st_mtime)
    assert not newest.with_name("finished").exists()  # what was cancelled is not to be cleared away


@pytest.mark.parametrize(
    ("name", "node", "seams"),
    [
        ("extend", "SoraExtend", "9"),
        ("extend_backward", "SoraExtend", "8"),
        ("transition", "SoraInterpolate", "17, 25"),
        ("loop", "SoraLoop", "17"),
        ("reroll", "SoraSDEdit", "5, 13"),
        ("long_video", "SoraLongVideo", "9, 13"),
        ("long_edit", "SoraLongVideo", "1, 17, 25"),
    ],
)
def test_tasks_tell_where_their_parts_meet(server: Any, api: Any, name: str, node: str, seams: str) -> None:
    prompt = quick(api(name))
    task = by_class(prompt, node)[0]
    if name == "long_video":
        prompt[task]["inputs"] |= {"prompts": "a red circle", "frames": 17, "window": 9, "overlap": 1}
    wanted = {key: value for key, value in prompt.items() if "Save" not in value["class_type"]}
    shown = {"source": [task, 2 if node == "SoraLongVideo" else 1]}
    outcome = server.run(wanted | {"seams": {"class_type": "PreviewAny", "inputs": shown}})
    assert outcome.error is None and outcome.outputs["seams"]["text"] == [seams]
    if node != "SoraLongVideo":  # and what web/timeline.js draws says the same
        (spans,) = outcome.outputs[task]["sora_timeline"]
        given = [strength is None for count, strength in spans for _ in range(count)]
        assert ", ".join(str(t) for t in range(1, len(given)) if given[t] != given[t - 1]) == seams


@pytest.mark.parametrize(("height", "told"), [(48, "from 64 to 256"), (64, None)])
def test_a_clip_of_an_unusual_size_is_made_with_a_note(server: Any, api: Any, height: int, told: str | None) -> None:
    prompt = api("text_to_image")
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt[by_class(prompt, "SoraEmptyVideo")[0]]["inputs"] |= {"width": 64, "height": height}
    prompt[sampler]["inputs"] |= {"steps": 1, "seed": 3}
    outcome = server.run(prompt)
    assert outcome.error is None
    note = json.dumps(outcome.outputs.get(sampler, {}))
    assert told in note if told else "text" not in note


def test_a_long_clip_is_edited_in_windows(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = quick(api("long_edit"))
    node, task, material = (by_class(prompt, k)[0] for k in ("SoraLongVideo", "SoraSDEdit", "SoraWorldClip"))
    size = {"width": 72, "height": 56, "upscale_method": "bilinear", "crop": "disabled"}
    prompt["clip"] = {"class_type": "ImageScale", "inputs": {"image": [material, 0]} | size}
    prompt[task]["inputs"] |= {"images": ["clip", 0], "first_frame": 4}
    made, source = frames_of(server, prompt, [node, "clip"], tmp_path)
    assert made.shape == source.shape == (33, 56, 72, 3)
    assert torch.equal(made[:4], source[:4]) and not (made[4:] == source[4:]).all((1, 2, 3)).any()
    prompt["later"] = {
        "class_type": "SoraExtend",
        "inputs": {"vae": prompt[task]["inputs"]["vae"], "images": ["clip", 0], "before": 0, "after": 16, "overlap": 9},
    }
    prompt[node]["inputs"]["latent"] = ["later", 0]
    prompt["seams"] = {"class_type": "PreviewAny", "inputs": {"source": [node, 2]}}
    outcome = server.run(prompt)
    seams = [int(seam) for seam in outcome.outputs["seams"]["text"][0].split(",")]
    assert seams[0] == 33 and seams == sorted(set(seams))  # the given frames that it sees again have none
    prompt["later"]["inputs"] |= {"before": 4, "after": 0}
    assert "which makes such a clip at once" in server.run(prompt).error["exception_message"]


def scaled(prompt: dict[str, Any], source: str, width: int, height: int) -> None:
    size = {"width": width, "height": height, "upscale_method": "bilinear", "crop": "disabled"}
    prompt["scaled"] = {"class_type": "ImageScale", "inputs": {"image": [source, 0]} | size}


def test_a_clip_that_save_video_cannot_write_is_named_before_it_is_sampled(
    server: Any, api: Any, tmp_path: Path
) -> None:
    """And the nodes that the note names do write it."""
    prompt = quick(api("extend"))
    task, decode, sampler = (by_class(prompt, k)[0] for k in ("SoraExtend", "SoraVAEDecode", "SoraSampler"))
    scaled(prompt, by_class(prompt, "SoraWorldClip")[0], 75, 57)
    prompt[task]["inputs"]["images"] = ["scaled", 0]
    prompt = {key: node for key, node in prompt.items() if node["class_type"] not in ("SoraClipReport", "SaveImage")}
    webm = {"images": [decode, 0], "filename_prefix": "odd", "fps": 12.0, "crf": 32.0, "codec": "vp9"}
    webp = {"images": [decode, 0], "filename_prefix": "odd", "fps": 12.0, "lossless": True, "quality": 80}
    prompt["webm"] = {"class_type": "SaveWEBM", "inputs": webm}
    prompt["webp"] = {"class_type": "SaveAnimatedWEBP", "inputs": webp | {"method": "default"}}
    outcome = server.run(prompt)
    assert outcome.error is not None and outcome.error["node_type"] == "SaveVideo"
    for name in (*by_class(prompt, "SaveVideo"), *by_class(prompt, "CreateVideo")):
        del prompt[name]
    prompt[sampler]["inputs"]["seed"] = 1
    prompt[task]["inputs"]["overlap"] = 8  # so that it runs once more
    outcome = server.run(prompt)
    told = outcome.outputs[task]["text"][0]
    assert "75x57" in told and "even sides" in told
    events = [(e["type"], e["data"].get("node")) for e in outcome.events]
    assert events.index(("executed", task)) < events.index(("progress", sampler))
    for node in ("webm", "webp"):
        assert read_video(saved(server, outcome, node, tmp_path)).frames.shape == (25, 57, 75, 3)


def test_long_video_says_what_is_to_come_before_it_works(server: Any, api: Any) -> None:
    prompt = quick(api("long_edit"))
    node, task = by_class(prompt, "SoraLongVideo")[0], by_class(prompt, "SoraSDEdit")[0]
    scaled(prompt, by_class(prompt, "SoraWorldClip")[0], 75, 41)
    prompt[task]["inputs"]["images"] = ["scaled", 0]
    prompt[node]["inputs"]["prompts"] = "0:00 a red circle grows and a blue square spins\n0:01 a star and a cross"
    prompt = {key: prompt[key] for key in prompt if prompt[key]["class_type"] not in ("CreateVideo", "SaveVideo")}
    prompt["look"] = {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}
    outcome = server.run(prompt)
    assert outcome.error is None
    notes = [e for e in outcome.events if e["type"] == "sora.note"]
    assert len(notes) == 1 and notes[0]["data"]["node"] == node
    for words in ("33 frames in 3 windows", "from 64 to 256", "75x41"):
        assert words in notes[0]["data"]["text"]
    assert notes[0]["data"]["text"].count("Name one thing.") == 1
    assert outcome.outputs[node]["text"] == [notes[0]["data"]["text"]]
    steps = [i for i, e in enumerate(outcome.events) if e["type"] == "progress" and e["data"]["node"] == node]
    assert outcome.events.index(notes[0]) < steps[0]


def test_a_video_of_one_s_own_keeps_its_rate_length_and_size(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = quick(api("your_video"))
    scale, task = by_class(prompt, "ImageScale")[0], by_class(prompt, "SoraSDEdit")[0]
    frames = render(scene_of("circle", "red", "circles around", "sky", rng=np.random.default_rng(0)), 22, 56, 72)
    write_video(server.base / "input" / "clip.mp4", frames, 25)
    prompt[task]["inputs"]["images"] = prompt[scale]["inputs"]["image"]  # as where the node for the size is bypassed
    outcome = server.run(prompt)
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path))
    assert clip.frames.shape == frames.shape and clip.fps == 25


def test_a_large_video_is_brought_to_the_size_of_the_model(server: Any, api: Any, tmp_path: Path) -> None:
    prompt = quick(api("your_video", shipped=True))
    node, load = by_class(prompt, "SoraLongVideo")[0], by_class(prompt, "LoadVideo")[0]
    frames = render(scene_of("circle", "red", "circles around", "sky", rng=np.random.default_rng(0)), 5, 720, 1280)
    write_video(server.base / "input" / "large.mp4", frames, 25)
    prompt[load]["inputs"]["file"] = "large.mp4"
    outcome = server.run(prompt)
    clip = read_video(saved(server, outcome, by_class(prompt, "SaveVideo")[0], tmp_path))
    assert clip.frames.shape == (5, 144, 256, 3) and clip.fps == 25
    assert "Not what this model was made for" not in outcome.outputs[node]["text"][0]


@pytest.mark.parametrize(
    ("name", "node", "values", "words"),
    [
        ("sdedit", "SoraSDEdit", {"curve": "0:0, 30:1"}, "the last is 16"),
        ("sdedit", "SoraSDEdit", {"last_frame": 40}, "choose 0 to 16"),
        ("keyframes", "SoraKeyframes", {"frame": 17}, "frame 17 of a clip of 17"),
        ("draft_refine", "SoraSampler", {"stop_after": 3}, "stop after step 3: this run has done 0 of 2"),
    ],
)
def test_what_cannot_be_is_a_node_s_error(
    server: Any, api: Any, name: str, node: str, values: dict[str, Any], words: str
) -> None:
    prompt = quick(api(name))
    target = by_class(prompt, node)[-1]
    prompt[target]["inputs"] |= values
    outcome = server.run(prompt)
    assert outcome.error is not None and outcome.error["node_id"] == target
    assert words in outcome.error["exception_message"]
    assert_it_still_works(server, api)


def test_prompts_without_a_time_are_refused_before_they_are_queued(server: Any, api: Any) -> None:
    prompt = api("long_video")
    target = by_class(prompt, "SoraLongVideo")[0]
    prompt[target]["inputs"]["prompts"] = "0:00 a red circle\na blue square"
    status, answer = server.post("/prompt", {"prompt": prompt, "client_id": server.client})
    assert status == 400 and "line 2" in json.dumps(answer["node_errors"][target]["errors"])
