"""What a user sees and does while a workflow runs: previews, cancelling, and memory that comes back."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image
from prompts import assert_it_still_works, by_class


def test_the_preview_moves(server: Any, api: Any) -> None:
    prompt = api("text_to_video")
    prompt[by_class(prompt, "SoraSampler")[0]]["inputs"] |= {"steps": 3, "seed": 11}
    outcome = server.run(prompt)
    shown = [event["data"] for event in outcome.events if event["type"] == "sora.preview"]
    assert len(shown) == 3 and {event["node"] for event in shown} == set(by_class(prompt, "SoraSampler"))
    picture = Image.open(io.BytesIO(base64.b64decode(shown[-1]["image"].partition(",")[2])))
    assert picture.format == "WEBP" and picture.n_frames == 5
    steps = [e["data"] for e in outcome.events if e["type"] == "progress" and e["data"]["max"] == 3]
    assert [step["value"] for step in steps][-1] == 3


def test_latents_whose_picture_is_not_read_are_named(server: Any, api: Any) -> None:
    """As after Upscale Latent, which many put between two samplers: without a strength map only the size is used."""
    prompt = api("text_to_video")
    first, empty = by_class(prompt, "SoraSampler")[0], by_class(prompt, "SoraEmptyVideo")[0]
    prompt[empty]["inputs"] |= {"width": 64, "height": 64, "frames": 5}
    prompt[first]["inputs"] |= {"steps": 1, "seed": 12}
    again = prompt[first]["inputs"] | {"latent": [first, 0], "seed": 13}
    prompt["again"] = {"class_type": "SoraSampler", "inputs": again}
    prompt[by_class(prompt, "SoraVAEDecode")[0]]["inputs"]["latent"] = ["again", 0]
    outcome = server.run(prompt)
    assert outcome.error is None and "no strength map" in outcome.outputs["again"]["text"][0]
    assert "text" not in outcome.outputs.get(first, {})


def test_cancel_takes_effect_within_a_step(server: Any, api: Any) -> None:
    prompt = api("text_to_video")
    prompt[by_class(prompt, "SoraSampler")[0]]["inputs"] |= {"steps": 400, "seed": 5}
    prompt_id = server.queue(prompt)
    reached = 0
    for event in server.events(prompt_id):
        if event["type"] == "progress" and event["data"]["max"] == 400:
            reached = event["data"]["value"]
            if reached == 1:
                server.post("/interrupt", {})
        last = event["type"]
    assert last == "execution_interrupted" and reached <= 3
    prompt[by_class(prompt, "SoraSampler")[0]]["inputs"]["steps"] = 1
    assert server.run(prompt).error is None


def test_cancel_stops_the_decoder_too(server: Any, api: Any) -> None:
    prompt = api("text_to_video")
    decode = by_class(prompt, "SoraVAEDecode")[0]
    prompt[by_class(prompt, "SoraEmptyVideo")[0]]["inputs"] |= {"frames": 401}
    prompt[decode]["inputs"]["latent"] = [by_class(prompt, "SoraEmptyVideo")[0], 0]
    reached, last = 0, ""
    for event in server.events(server.queue(prompt)):
        if event["type"] == "progress" and event["data"]["node"] == decode:
            if reached == 0:
                server.post("/interrupt", {})
            reached = event["data"]["value"]
        last = event["type"]
    assert last == "execution_interrupted" and 0 < reached < 200
    assert_it_still_works(server, api)


def test_memory_returns_to_its_level(server: Any, api: Any) -> None:
    levels = []
    for seed in range(10):
        prompt = api("text_to_video")
        prompt[by_class(prompt, "SoraEmptyVideo")[0]]["inputs"] |= {"width": 256, "height": 256, "frames": 33}
        prompt[by_class(prompt, "SoraSampler")[0]]["inputs"] |= {"seed": 100 + seed, "steps": 1, "cfg": 1.0}
        assert server.run(prompt).error is None
        levels.append(server.memory())
    assert min(levels[-3:]) - levels[1] < 60, levels  # MB; the frames of one clip are 26
