"""Laws of long videos: their length, what windows share, going on after a crash, and settings that are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sora_core.checkpoint import Model
from sora_core.cues import Cue, seen_from
from sora_core.edges import FADE, pad_sides, slow_colours
from sora_core.engine import PipelineEngine, Task
from sora_core.long import Window, count_windows, make_long, make_timeline
from sora_core.pipeline import Pipeline
from sora_core.tasks import edit, extend, loop
from sora_core.vae import VAE

ROOT = Path(__file__).parent.parent
SMALL: dict[str, Any] = {"fps": 1, "width": 64, "height": 64, "window": 17}  # seconds are frames
CIRCLE = [Cue(0, "a red circle")]


def long(pipeline: Pipeline, cues: list[Cue], frames: int, **settings: Any) -> Iterator[Window]:
    return make_long(PipelineEngine(pipeline, steps=2), cues, frames, **(SMALL | settings))


class Watching(PipelineEngine):
    """An engine whose windows can be looked at."""

    def __init__(self, pipeline: Pipeline, **settings: Any) -> None:
        super().__init__(pipeline, **settings)
        self.tasks: list[Task] = []
        self.sampled: list[Tensor] = []

    def sample(self, window: Task) -> Tensor:
        self.tasks.append(window)
        self.sampled.append(super().sample(window))
        return self.sampled[-1]


def frames_of(windows: list[Window]) -> Tensor:
    return torch.cat([window.frames for window in windows])


@pytest.mark.parametrize("frames", [1, 17, 18, 40])
def test_a_clip_is_as_long_as_asked_for(pipeline: Pipeline, frames: int) -> None:
    clip = frames_of(list(long(pipeline, CIRCLE, frames)))
    assert clip.shape == (frames, 64, 64, 3) and 0 <= float(clip.min()) <= float(clip.max()) <= 1


@pytest.mark.parametrize(
    ("frames", "window", "overlap"), [(1, 17, 2), (17, 17, 2), (18, 17, 2), (60, 13, 1), (49, 17, 3)]
)
def test_windows_are_counted_before_they_are_made(pipeline: Pipeline, frames: int, window: int, overlap: int) -> None:
    made = list(long(pipeline, CIRCLE, frames, window=window, overlap=overlap))
    assert len(made) == count_windows(frames, window, overlap, 4)


def test_memory_does_not_grow_with_the_length() -> None:
    """A thousand frames that are looked at one window after the other take no more than sixty do."""
    code = """
import resource, sys
import torch
sys.path.insert(0, "tests")
from conftest import tiny
from sora_core.cues import Cue
from sora_core.engine import PipelineEngine
from sora_core.long import make_long
from sora_core.pipeline import Pipeline
torch.set_num_threads(1)
engine = PipelineEngine(Pipeline(tiny.__wrapped__()), steps=1, cfg=1)
peaks = []
for part in make_long(engine, [Cue(0, "a red circle")], 1000, fps=12, width=64, height=64):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[-1] - peaks[6]) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 12  # megabytes; the frames alone are 47


def test_the_first_window_is_the_clip_that_is_made_alone(pipeline: Pipeline) -> None:
    first = next(long(pipeline, CIRCLE, 40, seed=3, correct=0))
    alone = pipeline.generate("a red circle", width=64, height=64, frames=17, seed=3, steps=2)
    torch.testing.assert_close(first.frames, alone, atol=1e-5, rtol=1e-5)


def test_every_window_sees_the_latents_of_the_last(tiny: Model) -> None:
    """The sampler is handed the last latents as they are, kept, and the frame before them as its first latent."""
    engine = Watching(Pipeline(tiny), steps=2)
    windows = list(make_long(engine, CIRCLE, 33, overlap=2, correct=0, **SMALL))
    assert len(engine.tasks) == 3 and len(windows) == 3
    known, (first, second, _) = engine.tasks[1].known, engine.sampled
    assert torch.equal(known[:, :, 1:3], first[:, :, 3:5]) and torch.equal(second[:, :, 1:3], first[:, :, 3:5])
    frame = windows[0].frames[8:9]  # the last frame of the latent before those
    torch.testing.assert_close(known[:, :, :1], engine.encode(frame), atol=1e-5, rtol=1e-5)


def test_every_window_takes_the_next_seed(tiny: Model) -> None:
    for seed in (0, 2**63 - 1):
        engine = Watching(Pipeline(tiny), steps=1)
        list(make_long(engine, CIRCLE, 33, seed=seed, **SMALL))
        assert [task.seed for task in engine.tasks] == [seed, (seed + 1) % 2**63, (seed + 2) % 2**63]


def test_a_crash_costs_no_finished_window(pipeline: Pipeline, tmp_path: Path) -> None:
    cues = [Cue(0, "a red circle"), Cue(20, "a blue square")]
    whole = list(long(pipeline, cues, 40, seed=5))
    begun = long(pipeline, cues, 40, seed=5, folder=tmp_path)
    next(begun), next(begun)
    begun.close()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("window-*.safetensors")}
    assert len(kept) == 2
    again = list(long(pipeline, cues, 40, seed=5, folder=tmp_path))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    torch.testing.assert_close(frames_of(again), frames_of(whole), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="another clip, made with other overlap, seed; choose another folder"):
        long(pipeline, cues, 40, seed=6, overlap=1, folder=tmp_path)


def test_clips_of_any_length_share_a_folder_and_no_other_clip_does(tiny: Model, tmp_path: Path) -> None:
    named: list[str] = []

    def folder(name: str) -> Path:
        named.append(name)
        return tmp_path / name

    for settings in ({}, {}, {"seed": 1}, {"overlap": 1}, {"fps": 13}):
        frames = 33 if len(named) == 1 else 17
        next(make_long(PipelineEngine(Pipeline(tiny), steps=1), CIRCLE, frames, folder=folder, **(SMALL | settings)))
    assert named[0] == named[1] and len(set(named)) == 4
    assert all((tmp_path / name / "clip.json").exists() for name in named)


def test_windows_are_gone_on_from_where_a_default_is_spelled_out(pipeline: Pipeline, tmp_path: Path) -> None:
    own = pipeline.model.defaults
    told = {"steps": own.steps, "cfg": own.cfg, "cfg_interval": own.cfg_interval, "solver": own.solver, "negative": ""}
    next(make_long(PipelineEngine(pipeline), CIRCLE, 40, folder=tmp_path, **SMALL))
    make_long(PipelineEngine(pipeline, **told), CIRCLE, 40, folder=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="made with other settings steps; choose"):
        make_long(PipelineEngine(pipeline, **(told | {"steps": 1})), CIRCLE, 40, folder=tmp_path, **SMALL)


def test_a_task_goes_on_from_the_windows_that_were_finished(tiny: Model, tmp_path: Path) -> None:
    line = edit(torch.rand(40, 64, 64, 3, generator=torch.Generator().manual_seed(0)), 0.6)

    class Dies(Watching):
        def sample(self, window: Task) -> Tensor:
            if window.number == 2:
                raise KeyboardInterrupt
            return super().sample(window)

    with pytest.raises(KeyboardInterrupt):
        make_timeline(Dies(Pipeline(tiny), steps=2), line, "a red circle", folder=tmp_path)

    class Elsewhere(Watching):  # on another machine the last bits of what is given are others
        def encode(self, frames: Tensor) -> Tensor:
            return super().encode(frames) * (1 + 1e-6)

    engine = Elsewhere(Pipeline(tiny), steps=2)
    out = make_timeline(engine, line, "a red circle", folder=tmp_path)
    assert [task.number for task in engine.tasks] == [2, 3]
    whole = make_timeline(PipelineEngine(Pipeline(tiny), steps=2), line, "a red circle")
    torch.testing.assert_close(out, whole, atol=1e-5, rtol=1e-5)


def test_what_was_finished_reports_the_drift_it_had(pipeline: Pipeline, tmp_path: Path) -> None:
    """Also from a folder whose copy was cut short: that window is made again."""
    first = list(long(pipeline, CIRCLE, 40, correct=0.5, folder=tmp_path))
    assert first[0].drift is None and all(window.drift > window.corrected > 0 for window in first[1:])
    window = tmp_path / "window-0002.safetensors"
    for keep in (window.stat().st_size, 1000, 4, 0):
        window.write_bytes(window.read_bytes()[:keep])
        again = list(long(pipeline, CIRCLE, 40, correct=0.5, folder=tmp_path))
        assert [(w.drift, w.corrected) for w in again] == [(w.drift, w.corrected) for w in first]
        torch.testing.assert_close(frames_of(again), frames_of(first), atol=1e-5, rtol=1e-5)


def test_windows_that_do_not_say_of_which_clip_they_are_stay_as_they_are(tiny: Model, tmp_path: Path) -> None:
    next(long(Pipeline(tiny), CIRCLE, 40, folder=tmp_path))
    note, kept = tmp_path / "clip.json", (tmp_path / "window-0000.safetensors").read_bytes()
    note.write_text(note.read_text()[:48])
    with pytest.raises(ValueError, match=r"clip\.json is damaged"):
        next(long(Pipeline(tiny), CIRCLE, 40, folder=tmp_path))
    note.unlink()
    with pytest.raises(ValueError, match=r"keeps windows without clip\.json"):
        next(long(Pipeline(tiny), CIRCLE, 40, folder=tmp_path))
    assert (tmp_path / "window-0000.safetensors").read_bytes() == kept


@pytest.mark.parametrize("network", ["dit", "vae", "text"])
def test_windows_of_other_weights_are_not_gone_on_from(tiny: Model, tmp_path: Path, network: str) -> None:
    next(long(Pipeline(tiny), CIRCLE, 40, folder=tmp_path))
    other = deepcopy(getattr(tiny, network))
    weights = list(other.parameters())
    weights[len(weights) // 2] += 0.01
    long(Pipeline(deepcopy(tiny)), CIRCLE, 40, folder=tmp_path)
    with pytest.raises(ValueError, match=f"another clip, made with other weights {network};"):
        long(Pipeline(replace(tiny, **{network: other})), CIRCLE, 40, folder=tmp_path)


def test_the_correction_takes_drift_back(pipeline: Pipeline) -> None:
    windows = list(long(pipeline, CIRCLE, 60, correct=0.5))[1:]
    assert all(window.corrected <= window.drift for window in windows)
    assert sum(window.corrected for window in windows) < 0.6 * sum(window.drift for window in windows)


def test_a_window_in_which_texts_meet_is_not_corrected(pipeline: Pipeline, tmp_path: Path) -> None:
    """Each text is led towards the first window that it has to itself: here 0 and 2, and then 2, 3 alike."""
    cues = [Cue(0, "a red circle"), Cue(21, "a blue square")]
    left, led = (list(long(pipeline, cues, 41, correct=share, folder=tmp_path / str(share))) for share in (0, 1))
    assert [window.drift is None for window in led] == [True, True, True, False]
    assert torch.equal(frames_of(led[:3]), frames_of(left[:3])) and not torch.equal(led[3].frames, left[3].frames)
    mixed, own, later = (load_file(tmp_path / "1" / f"window-{i:04d}.safetensors")["latents"] for i in (1, 2, 3))
    for of in (torch.Tensor.mean, torch.Tensor.std):
        torch.testing.assert_close(of(later, (0, 2, 3, 4)), of(own, (0, 2, 3, 4)), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(of(mixed, (0, 2, 3, 4)), of(own, (0, 2, 3, 4)), atol=1e-3)


def test_drift_is_measured_from_the_first_window_of_a_text(pipeline: Pipeline, tmp_path: Path) -> None:
    """Not from the one before, or a clip could drift on by a little each time."""
    windows = list(long(pipeline, CIRCLE, 33, correct=0.5, folder=tmp_path))
    first, second, third = (
        torch.stack([of(made, (0, 2, 3, 4)) for of in (torch.mean, torch.std)])
        for made in (load_file(tmp_path / f"window-000{i}.safetensors")["latents"] for i in range(3))
    )
    assert windows[2].corrected == pytest.approx(float((third - first).abs().mean()), abs=2e-4)
    assert abs(windows[2].corrected - float((third - second).abs().mean())) > 1e-3


@pytest.mark.parametrize("given", [0, 6])
def test_a_cue_takes_over_within_half_a_latent_frame(pipeline: Pipeline, given: int) -> None:
    """And at its very frame where a latent begins there; in a window of three and more, too."""
    start = torch.rand(given, 64, 64, 3) if given else None
    times = (0, 4, 9, 18, 23, 31, 36)
    engine = Watching(pipeline, steps=1)
    list(make_long(engine, [Cue(time, str(time)) for time in times], 41, start=start, **SMALL))
    shown: list[str] = []
    for task in engine.tasks:
        shares = torch.stack([share for _, share in task.texts])
        assert torch.equal(shares.sum(0), torch.ones(5))
        texts = [task.texts[i][0] for i in shares.argmax(0)][0 if task.known is None else 3 :]
        for text in texts:
            shown += [text] * (4 if shown or given else 1)
    assert max(len(task.texts) for task in engine.tasks) >= (2 if given else 3)
    for time in times:
        begins_there = time % 4 == (0 if given else 1)
        assert abs(shown.index(str(time)) - time) <= (0 if begins_there else 2)


def test_every_text_of_a_window_is_followed(pipeline: Pipeline) -> None:
    """In one step every latent frame is that of its own text alone, however many texts there are."""
    cues = [Cue(0, "a red circle"), Cue(5, "a blue square"), Cue(13, "a star")]
    settings: dict[str, Any] = {"steps": 1, "solver": "euler"}

    def first(cues: list[Cue]) -> Tensor:
        engine = Watching(pipeline, **settings)
        next(make_long(engine, cues, 17, correct=0, **SMALL))
        return engine.sampled[0]

    mixed, alone = first(cues), [first([Cue(0, cue.text)]) for cue in cues]
    assert not torch.allclose(alone[0], alone[1], atol=1e-3) and not torch.allclose(alone[1], alone[2], atol=1e-3)
    for frame, text in enumerate((0, 0, 1, 1, 2)):
        torch.testing.assert_close(mixed[:, :, frame], alone[text][:, :, frame], atol=1e-5, rtol=1e-5)


def test_a_text_may_begin_just_before_what_is_new(pipeline: Pipeline) -> None:
    """Times lie on the finished clip, whose first part is not on the canvas: the texts need not be far apart there."""
    line = extend(torch.rand(24, 64, 64, 3), after=12, overlap=1)
    begin = len(line.before) - line.show[0]
    cues = seen_from([Cue(0, "a red circle"), Cue(2, "a blue square")], begin, begin + len(line.canvas), 36, fps=12)
    engine = Watching(pipeline, steps=1)
    list(make_long(engine, cues, len(line.canvas), fps=12, width=64, height=64, window=9, overlap=1, line=line))
    texts = [text for task in engine.tasks for text, share in task.texts if share[1:].any()]
    assert set(texts) == {"a blue square"}


def test_what_is_new_behind_a_given_clip_is_corrected_and_edits_are_not(pipeline: Pipeline) -> None:
    clip = torch.rand(9, 64, 64, 3)
    for line, corrected in ((extend(clip, after=40), True), (edit(clip.repeat(5, 1, 1, 1), 0.7), False)):
        engine = PipelineEngine(pipeline, steps=1)
        windows = list(make_long(engine, CIRCLE, len(line.canvas), fps=12, width=64, height=64, line=line))
        assert any(window.drift is not None for window in windows) == corrected


def test_settings_that_fail_claim_no_folder_and_encode_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    for settings, words in (
        ({"seed": -1}, "seed -1"),
        ({"cues": [Cue(0, "a"), Cue(40, "b")]}, "begins after the end"),
    ):
        with pytest.raises(ValueError, match=words):
            long(pipeline, **({"cues": CIRCLE, "frames": 40, "folder": tmp_path} | settings))
    with pytest.raises(ValueError, match="steps is 0"):
        PipelineEngine(pipeline, steps=0)
    with pytest.raises(TypeError, match="step_count"):
        PipelineEngine(pipeline, step_count=4)
    for line, frames, words in (
        (edit(torch.rand(17, 64, 64, 3), 0.5), 60, r"its canvas is \(17, 64, 64\), the clip \(60, 64, 64\)"),
        (loop(torch.rand(9, 64, 64, 3), 51), 57, "does not all come first"),
    ):
        with pytest.raises(ValueError, match=words):
            long(pipeline, CIRCLE, frames, line=line, folder=tmp_path)
    assert not list(tmp_path.iterdir())

    class NeverEncodes(PipelineEngine):
        def encode(self, frames: Tensor) -> Tensor:
            raise AssertionError("encoded before the settings were looked at")

    engine = PipelineEngine(pipeline, steps=1)
    make_timeline(engine, edit(torch.zeros(9, 64, 64, 3), 0.5), "a star", window=9, folder=tmp_path)
    with pytest.raises(ValueError, match="made with other prompts, given clip, strengths or number of new frames"):
        make_timeline(
            NeverEncodes(pipeline, steps=1), edit(torch.ones(9, 64, 64, 3), 0.5), "two", window=9, folder=tmp_path
        )
    with pytest.raises(ValueError, match="16 frames"):
        make_timeline(NeverEncodes(pipeline), edit(torch.rand(30, 64, 64, 3), 0.5), "a star", window=16)


def test_tasks_are_refused_where_a_vae_counts_frames_otherwise(tiny: Model) -> None:
    """Before anything is encoded or sampled for them."""
    config = replace(tiny.vae.config, time_down=(False, True))
    pipeline, line = Pipeline(replace(tiny, vae=VAE(config).eval())), edit(torch.rand(9, 64, 64, 3), 0.5)
    with pytest.raises(ValueError, match="the VAE has 2 frames in a latent frame, and tasks are laid out for 4"):
        pipeline.make(line, "a star")
    with pytest.raises(ValueError, match="the VAE has 2 frames in a latent frame, and tasks are laid out for 4"):
        make_timeline(PipelineEngine(pipeline), line, "a star")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overlap": 4}, "windows of 17 frames can share 1 to 3 of them, which are 4 to 12 frames"),
        ({"window": 16}, "16 frames.*the nearest is 17"),
        ({"correct": 1.5}, "from 0 to 1"),
        ({"width": 65}, "width 65"),
    ],
)
def test_settings_that_cannot_be_say_why(pipeline: Pipeline, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        long(pipeline, CIRCLE, 40, **settings)


def test_cues_that_would_not_be_seen_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match=r"prompts at 5 s and 5.25 s: move them apart, to 4 frames at least \(0.33 s"):
        long(pipeline, [*CIRCLE, Cue(5, "a"), Cue(5.25, "b")], 100, fps=12)


def test_a_clip_that_is_given_is_seen_and_not_returned(tiny: Model) -> None:
    pipeline = Pipeline(tiny)
    for length in (1, 6, 13, 30):
        start = torch.rand(length, 64, 64, 3, generator=torch.Generator().manual_seed(0))
        engine = Watching(pipeline, steps=2)
        windows = list(make_long(engine, CIRCLE, 10, start=start, correct=0, **SMALL))
        assert len(frames_of(windows)) == 10
        tail = torch.cat([start[:1].expand(max(0, 13 - length), -1, -1, -1), start])[-13:]
        known = engine.tasks[0].known
        torch.testing.assert_close(known[:, :, 1:3], pipeline.encode(tail)[:, :, 2:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(known[:, :, :1], pipeline.encode(tail[4:5]), atol=1e-5, rtol=1e-5)


def test_colours_go_over_from_a_clip_that_is_gone_on_from(tiny: Model) -> None:
    """What the decoder misses at its end is led over to nothing within a few frames; the latents are as they were."""
    start = torch.full((13, 50, 64, 3), 0.6)
    engine = PipelineEngine(Pipeline(tiny), steps=1)
    led = frames_of(list(make_long(engine, CIRCLE, 24, start=start, correct=0, **(SMALL | {"height": 50}))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sora_core.long.faded", lambda frames, shift: frames)
        engine = PipelineEngine(Pipeline(tiny), steps=1)
        plain = frames_of(list(make_long(engine, CIRCLE, 24, start=start, correct=0, **(SMALL | {"height": 50}))))
    assert torch.equal(led[FADE:], plain[FADE:])
    engine = PipelineEngine(Pipeline(tiny))
    missed = slow_colours(start[-1] - engine.decode(engine.encode(pad_sides(start, 16)))[-1, :50])
    for t in range(FADE):
        share = 1 - (t + 1) / (FADE + 1)
        torch.testing.assert_close(led[t], (plain[t] + share * missed).clamp(0, 1), atol=2e-3, rtol=0)


@pytest.mark.parametrize("frames", [9, 40])
def test_an_edit_is_made_in_windows(tiny: Model, frames: int) -> None:
    """What has strength 0 stays bit for bit, and is seen; each window begins from the source's own latents."""
    source = torch.rand(frames, 50, 64, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.full((frames,), 0.6)
    wanted[:3] = 0
    engine = Watching(Pipeline(tiny), steps=2)
    line = edit(source, wanted)
    out = make_timeline(engine, line, "a red circle", window=9, overlap=1)
    assert out.shape == source.shape and torch.equal(out[:3], source[:3])
    assert not (out[3:] == source[3:]).all((1, 2, 3)).any()
    known, strength = line.encode(engine.encode, engine.multiple)
    made = 0
    for task in engine.tasks:
        new = slice(2, None) if made else slice(0, None)
        begin, count = made, task.shape[0] - (2 if made else 0)
        assert torch.equal(task.known[:, :, new], known[:, :, begin : begin + count])
        assert torch.equal(task.strength[:, :, new], strength[:, :, begin : begin + count])
        assert not made or not task.strength[:, :, :2].any()
        made += count
    assert made == known.shape[2]  # nothing is made that is not there


def test_one_window_is_the_task_made_at_once(pipeline: Pipeline) -> None:
    source = torch.rand(17, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    for line in (edit(source, 0.5), extend(source, after=8)):
        assert line.goes_forward
        at_once = pipeline.make(line, "a red circle", seed=3, steps=2)
        windows = make_timeline(PipelineEngine(pipeline, steps=2), line, "a red circle", window=17, seed=3)
        torch.testing.assert_close(windows, at_once, atol=1e-5, rtol=1e-5)
    assert not extend(source, before=8).goes_forward


def test_many_new_frames_behind_a_clip(pipeline: Pipeline) -> None:
    source = torch.rand(7, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    out = make_timeline(PipelineEngine(pipeline, steps=2), extend(source, after=50), "a red circle", window=17)
    assert len(out) == 57 and torch.equal(out[:7], source)
