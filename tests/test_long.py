"""Laws of long videos: their length, what windows share, going on after a crash, and cues that are read or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sora_core.checkpoint import Model
from sora_core.long import Cue, PipelineEngine, Window, make_long, parse_cues
from sora_core.pipeline import Pipeline

SMALL: dict[str, Any] = {"width": 64, "height": 64, "window": 17}
CIRCLE = [Cue(0, "a red circle")]


def long(pipeline: Pipeline, cues: list[Cue], frames: int, **settings: Any) -> Iterator[Window]:
    return make_long(PipelineEngine(pipeline, steps=2), cues, frames, **(SMALL | settings))


def frames_of(windows: list[Window]) -> Tensor:
    return torch.cat([window.frames for window in windows])


@pytest.mark.parametrize("frames", [1, 17, 18, 40])
def test_a_clip_is_as_long_as_asked_for(pipeline: Pipeline, frames: int) -> None:
    clip = frames_of(list(long(pipeline, CIRCLE, frames)))
    assert clip.shape == (frames, 64, 64, 3) and 0 <= float(clip.min()) <= float(clip.max()) <= 1


def test_the_first_window_is_the_clip_that_is_made_alone(pipeline: Pipeline) -> None:
    first = next(long(pipeline, CIRCLE, 40, seed=3, correct=0))
    alone = pipeline.generate("a red circle", width=64, height=64, frames=17, seed=3, steps=2)
    torch.testing.assert_close(first.frames, alone, atol=1e-5, rtol=1e-5)


def test_every_window_sees_the_latents_of_the_last(tiny: Model) -> None:
    """The sampler is handed the last latents as they are, kept, and the frame before them as its first latent."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Watching(Pipeline):
        def sample(self, *args: Any, **settings: Any) -> Tensor:
            out = super().sample(*args, **settings)
            seen.append((settings.get("known"), out))
            return out

    windows = list(long(Watching(tiny), CIRCLE, 33, overlap=2, correct=0))
    assert len(seen) == 3 and len(windows) == 3
    (_, first), (known, second), _ = seen
    assert torch.equal(known[:, :, 1:3], first[:, :, 3:5]) and torch.equal(second[:, :, 1:3], first[:, :, 3:5])
    frame = windows[0].frames[8:9]  # the last frame of the latent before those
    torch.testing.assert_close(known[:, :, :1], Watching(tiny).encode(frame), atol=1e-5, rtol=1e-5)


def test_a_crash_costs_no_finished_window(pipeline: Pipeline, tmp_path: Path) -> None:
    cues = [Cue(0, "a red circle"), Cue(20, "a blue square")]
    whole = frames_of(list(long(pipeline, cues, 40, seed=5)))
    begun = long(pipeline, cues, 40, seed=5, folder=tmp_path)
    next(begun), next(begun)
    begun.close()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("window-*.safetensors")}
    assert len(kept) == 2
    again = frames_of(list(long(pipeline, cues, 40, seed=5, folder=tmp_path)))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    torch.testing.assert_close(again, whole, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="another clip"):
        long(pipeline, cues, 40, seed=6, folder=tmp_path)


def test_the_correction_takes_drift_back(pipeline: Pipeline) -> None:
    windows = list(long(pipeline, CIRCLE, 60, correct=0.5))
    assert all(window.corrected <= window.drift + 1e-6 for window in windows)
    assert sum(window.corrected for window in windows[1:]) < 0.6 * sum(window.drift for window in windows[1:])


def test_a_cue_takes_over_at_its_frame(pipeline: Pipeline) -> None:
    """Before a cue falls into a window, it changes nothing."""
    one = list(long(pipeline, CIRCLE, 40))
    two = list(long(pipeline, [Cue(0, "a red circle"), Cue(24, "a blue square")], 40))
    assert torch.equal(one[0].frames, two[0].frames) and not torch.equal(one[1].frames, two[1].frames)


def test_cues_are_read() -> None:
    assert parse_cues("a red circle moves left", 12) == [Cue(0, "a red circle moves left")]
    assert parse_cues("0:00 a red circle\n\n0:02.5 - 5 squares\n1:00: a star", 12) == [
        Cue(0, "a red circle"), Cue(30, "5 squares"), Cue(720, "a star"),
    ]  # fmt: skip
    assert parse_cues("0s a red circle\n1.5s, a star", 24) == [Cue(0, "a red circle"), Cue(36, "a star")]
    assert parse_cues("5 red circles move left", 12) == [Cue(0, "5 red circles move left")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  \n", "the prompts are empty"),
        ("0:00 a red circle\na blue square", "line 2: 'a blue square' has no time"),
        ("0:00 a\n0:05 b\n0:05 c", "line 3: its time is not after"),
        ("0:01 a red circle", "line 1: the first prompt has to begin at 0:00"),
    ],
)
def test_cues_that_cannot_be_say_which_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_cues(text, 12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overlap": 4}, "windows of 17 frames can share 1 to 3 latent frames"),
        ({"window": 16}, "16 frames.*the nearest is 17"),
        ({"correct": 1.5}, "from 0 to 1"),
        ({"width": 65}, "width 65"),
    ],
)
def test_settings_that_cannot_be_say_why(pipeline: Pipeline, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        long(pipeline, CIRCLE, 40, **settings)


def test_a_clip_that_is_given_is_seen_and_not_returned(tiny: Model) -> None:
    seen: list[Tensor] = []

    class Watching(Pipeline):
        def sample(self, *args: Any, **settings: Any) -> Tensor:
            seen.append(settings["known"])
            return super().sample(*args, **settings)

    for length in (1, 6, 13, 30):
        start = torch.rand(length, 64, 64, 3, generator=torch.Generator().manual_seed(0))
        windows = list(long(Watching(tiny), CIRCLE, 10, start=start, correct=0))
        assert len(frames_of(windows)) == 10
        tail = torch.cat([start[:1].expand(max(0, 13 - length), -1, -1, -1), start])[-13:]
        pipeline = Pipeline(tiny)
        known = seen.pop(0)
        torch.testing.assert_close(known[:, :, 1:3], pipeline.encode(tail)[:, :, 2:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(known[:, :, :1], pipeline.encode(tail[4:5]), atol=1e-5, rtol=1e-5)
        seen.clear()
