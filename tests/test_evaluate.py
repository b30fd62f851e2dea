"""Laws of the scoring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sora_core.evaluate import draw_scene, evaluate, interval, judge, through_vae, vae_psnr
from sora_core.evaluate_tasks import (
    EDITS,
    GIVEN,
    SINGLE,
    TASKS,
    _goes_on,
    _look,
    _same_track,
    _seam,
    _summary,
    evaluate_tasks,
)
from sora_core.pipeline import Pipeline, frames_to_video, psnr
from sora_core.timeline import Timeline
from sora_core.vae import VAE
from sora_core.video import read_video, write_video
from sora_core.world import MOTIONS, SHAPES, STYLES, follow, is_visible, one_thing, render, scene_of


def test_judge_tells_right_from_wrong() -> None:
    rng = np.random.default_rng(0)
    scene = scene_of("square", "blue", "moves up", "sand", rng=rng)
    frames = render(scene, 17, 128, 128)
    assert all(judge(frames, scene, "single").values())
    wrong = judge(frames.flip(0), scene_of("square", "red", "moves up", "sand", rng=rng), "single")
    assert {what for what, right in wrong.items() if right} == {"shape", "background", "size", "speed"}
    moved = replace(scene, things=(replace(scene.things[0], size="large", speed="slowly"),))
    assert {what for what, right in judge(frames, moved, "single").items() if not right} == {"size", "speed"}


def test_true_clips_have_their_size_and_speed() -> None:
    rng = np.random.default_rng(1)
    for frames in (1, 9, 17):
        for _ in range(10):
            scene = draw_scene(rng, "single", "any", 1.0)
            assert all(judge(render(scene, frames, 128, 128), scene, "single").values())


def test_interval_holds_the_share() -> None:
    low, high = interval(90, 100)
    assert low == pytest.approx(0.826, abs=1e-3) and high == pytest.approx(0.945, abs=1e-3)


def test_evaluate_counts_every_clip(pipeline: Pipeline) -> None:
    kinds = ("single", "paraphrase", "two", "wall")
    scores = evaluate(pipeline, clips=3, kinds=kinds, frames=9, quiet=True, steps=1, cfg=1)
    assert set(scores) == set(kinds)
    of_one = scores["single"]
    assert {split: s["all"]["total"] for split, s in of_one.items() if "all" in s} == {"seen": 2, "held out": 1}
    for words in (MOTIONS, SHAPES):  # every clip once more under the words of its prompt
        assert sum(of_one[word]["shape"]["total"] for word in words if word in of_one) == 3
    for kind, asked in (("two", "both"), ("wall", "same")):
        assert [scores[kind][split][asked]["total"] for split in ("seen", "held out")] == [2, 1]
    still = evaluate(pipeline, clips=2, frames=1, quiet=True, steps=1, cfg=1)["single"]
    assert not any("motion" in still[word] for word in MOTIONS if word in still)  # an image has none to be right
    with pytest.raises(ValueError, match="kind 'many' is not known"):
        evaluate(pipeline, kinds=("many",))
    with pytest.raises(ValueError, match="5 frames: what passes behind a wall is seen in 9 or more"):
        evaluate(pipeline, kinds=("wall",), frames=5)
    with pytest.raises(ValueError, match="clips is 1: it has to be at least 2"):
        evaluate(pipeline, clips=1)
    with pytest.raises(ValueError, match="batch is 0"):
        evaluate(pipeline, batch=0)


def test_tasks_are_all_scored(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept frames do not depend on what the model can do."""
    monkeypatch.setattr("sora_core.evaluate_tasks.MINUTE", 48)
    scores = evaluate_tasks(pipeline, clips=1, quiet=True, width=64, height=64, steps=1, cfg=1)
    assert set(scores) == set(TASKS)
    assert all(s["right"] == s["total"] for task in scores.values() for name, s in task.items() if "kept" in name)
    with pytest.raises(ValueError, match="task 'much' is not known"):
        evaluate_tasks(pipeline, tasks=("much",))
    with pytest.raises(ValueError, match="clips is 0"):
        evaluate_tasks(pipeline, clips=0)


def test_a_true_clip_goes_on_and_another_does_not() -> None:
    rng = np.random.default_rng(0)
    for motion in ("moves left", "moves up"):
        clip = render(scene_of("star", "red", motion, "sky", rng=rng), 17, 128, 128)
        assert all(_goes_on(clip[:GIVEN], clip[GIVEN:]).values())
        assert not _goes_on(clip[:GIVEN], clip[GIVEN:].flip(0))["velocity"]
        assert not _goes_on(clip[:GIVEN], clip[GIVEN - 1 : GIVEN].expand(8, -1, -1, -1))["velocity"]
        assert _same_track(clip, clip) and not _same_track(clip, clip.flip(0))
        assert _same_track(clip, clip.roll((3, 3), (1, 2))) and not _same_track(clip, clip.roll(13, 1))
    other = render(scene_of("star", "blue", "moves up", "sky", rng=rng), 17, 128, 128)
    assert not _goes_on(clip[:GIVEN], other[GIVEN:])["colour"]


def test_a_seam_is_that_of_the_frames_and_frozen_ones_do_not_move() -> None:
    rng = np.random.default_rng(0)
    one, other = (render(scene_of("star", "red", m, "sky", rng=rng), 17, 64, 64) for m in ("moves left", "moves up"))
    new = slice(GIVEN, None)
    true, joined, frozen = (
        _seam(torch.cat([one[:GIVEN], rest]), GIVEN, new)
        for rest in (one[GIVEN:], other[GIVEN:], one[GIVEN - 1 : GIVEN].expand(8, -1, -1, -1))
    )
    assert true["seam"] == pytest.approx(1, abs=0.3) and true["motion"] == pytest.approx(1, abs=0.3)
    assert joined["seam"] > 2 and frozen["motion"] == 0
    ends = _seam(torch.cat([one, one.flip(0)[1:-1]]), len(one), slice(len(one), None))
    assert ends["seam"] == pytest.approx(1, abs=0.3)


def test_ratios_are_summed_up_by_median_and_90th_percentile() -> None:
    assert _summary([float(i) for i in range(101)]) == {"median": 50, "p90": 90}
    assert _summary([True, False])["share"] == 0.5


@pytest.mark.parametrize(
    ("shares", "rising"), [((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), True), ((0.1, 0.3, 0.2, 0.4, 0.5, 0.6), False)]
)
def test_an_edit_changes_more_with_every_strength_or_it_is_said(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, shares: tuple[float, ...], rising: bool
) -> None:
    changed = iter(shares)  # of the way to gray, in place of a model's

    def make(self: Pipeline, line: Timeline, *args: object, **settings: object) -> torch.Tensor:
        return line.restore(line.canvas.lerp(torch.tensor(0.5), next(changed) if line.strength.any() else 0))

    monkeypatch.setattr(Pipeline, "make", make)
    scores = evaluate_tasks(pipeline, clips=1, tasks=("recolour",), quiet=True, width=64, height=64)["recolour"]
    assert scores["kept at 0"]["right"] == 1 and scores["monotonic"]["right"] == rising
    assert not any(scores[f"colour at {s}"]["right"] for s in EDITS[:3])


def test_a_track_is_the_scene_s() -> None:
    scene = scene_of("circle", "red", "moves right", "gray", rng=np.random.default_rng(1))
    thing, track = scene.things[0], follow(render(scene, 17, 96, 96))
    assert track[:, 1].numpy() == pytest.approx(np.full(17, thing.y), abs=0.02)
    assert float(track[-1, 0] - track[0, 0]) == pytest.approx(thing.amount, abs=0.03)
    assert follow(render(scene, 17, 96, 96) * 0 + 0.5).isnan().all()


def test_one_thing_is_one_however_soft_its_edge() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        frame = render(draw_scene(rng, "single", "any", 1.0), 17, 128, 128)[8]
        soft = F.avg_pool2d(frame.movedim(-1, 0), 3, 1, 1, count_include_pad=False).movedim(0, -1)
        assert one_thing(frame) > 0.9 and one_thing(soft) > 0.9


def test_a_blend_of_two_things_is_not_one() -> None:
    rng = np.random.default_rng(0)
    for colours in (("red", "blue"), ("red", "red")):
        left = render(scene_of("circle", colours[0], "moves left", "gray", rng=rng), 17, 128, 128)
        right = render(scene_of("square", colours[1], "moves right", "gray", rng=rng), 17, 128, 128)
        for a, b in ((left[0], right[-1]), (left[-1], right[0])):
            soft = F.avg_pool2d(((a + b) / 2).movedim(-1, 0), 3, 1, 1, count_include_pad=False).movedim(0, -1)
            assert one_thing((a + b) / 2) < SINGLE and one_thing(soft) < SINGLE
    assert one_thing(torch.full((64, 64, 3), 0.5)) == 0


@pytest.mark.parametrize("style", STYLES)
def test_a_look_is_read_along_the_track(style: str) -> None:
    rng = np.random.default_rng(0)
    scenes = (draw_scene(rng, "single", "any", 1.0) for _ in range(8))
    seen = [scene for scene in scenes if is_visible(scene.things[0].colour, scene.background, style)]
    assert len(seen) >= 3
    for scene in seen:
        thing = scene.things[0]
        frames = render(replace(scene, style=style), 17, 128, 128)
        assert _look(frames, scene) == (style, thing.shape, thing.colour)
        soft = F.avg_pool2d(frames.movedim(-1, 1), 3, 1, 1, count_include_pad=False).movedim(1, -1)
        assert _look(soft, scene)[0] == style
        assert _look(render(replace(scene, things=()), 17, 128, 128), scene) == ()


def test_true_clips_are_scored_behind_the_vae(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    monkeypatch.setattr(VAE, "encode", lambda self, video: kept.setdefault("video", video))
    monkeypatch.setattr(VAE, "decode", lambda self, latents: kept.pop("video"))  # a VAE that loses nothing
    found = through_vae(pipeline, clips=8, width=96, height=128)["through the VAE"]
    assert found["any"]["all"]["right"] == found["any"]["all"]["total"] == 8
    monkeypatch.setattr(VAE, "decode", lambda self, latents: kept.pop("video").flip(1))  # and one that swaps colours
    assert through_vae(pipeline, clips=8, width=96, height=128)["through the VAE"]["any"]["all"]["right"] < 8


def test_the_vae_is_scored_by_style_and_on_footage(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = torch.rand(7, 40, 52, 3, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "noise.mp4"
    write_video(path, clip, 12, lossless=True)
    found = vae_psnr(pipeline, [path], clips=1, side=32)
    assert list(found) == [*STYLES, str(path)]
    seen = frames_to_video(read_video(path).frames[:5, :40, :48])
    again = pipeline.model.vae.decode(pipeline.model.vae.encode(seen))
    assert found[str(path)] == pytest.approx(psnr(seen, again), abs=0.01)
