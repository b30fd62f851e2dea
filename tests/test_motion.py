"""Laws of motion: what travels is carried on as it truly goes, and nothing else is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sora_core.checkpoint import Model
from sora_core.motion import carried_on, translation
from sora_core.pipeline import Pipeline
from sora_core.tasks import CARRY, extend
from sora_core.timeline import SOFT
from sora_core.world import MOTIONS, canonical, follow, render, scene_of

T, SIDE, SEEN = 17, 96, 9
CARRIED = float(torch.tensor(CARRY))
TRAVELS = MOTIONS[:4]


def clip(motion: str, background: str = "mint", seed: int = 0, shape: str = "star") -> Tensor:
    return render(scene_of(shape, "red", motion, background, rng=np.random.default_rng(seed)), T, SIDE, SIDE)


def unlike(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


@pytest.mark.parametrize("motion", TRAVELS)
@pytest.mark.parametrize("seed", range(3))
def test_what_travels_is_carried_on_as_it_truly_goes(motion: str, seed: int) -> None:
    frames = clip(motion, seed=seed)
    guess = carried_on(frames[:SEEN], T - SEEN)
    assert guess is not None and guess.shape == frames[SEEN:].shape
    assert unlike(guess, frames[SEEN:]) < 0.05 * unlike(frames[SEEN - 1 : SEEN], frames[SEEN:])
    backward = carried_on(frames[-SEEN:].flip(0), T - SEEN)
    assert backward is not None and unlike(backward.flip(0), frames[:-SEEN]) < 0.05 * unlike(
        frames[-SEEN : T - SEEN + 1], frames[:-SEEN]
    )


@pytest.mark.parametrize("motion", MOTIONS[4:])
@pytest.mark.parametrize("background", ["mint", "meadow"])
def test_what_does_not_travel_is_not_carried_on(motion: str, background: str) -> None:
    for seed in range(3):
        assert carried_on(clip(motion, background, seed, shape="square")[:SEEN], 8) is None


def test_short_clips_and_cuts_are_not_carried_on() -> None:
    frames = clip("moves left")
    assert carried_on(frames[:4], 4) is None and carried_on(frames[:1], 4) is None
    assert carried_on(torch.cat([frames[:5], clip("moves up", "night")[:4]]), 4) is None
    noise = torch.rand(9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    assert carried_on(noise, 4) is None


@pytest.mark.parametrize(("side", "pace"), [(96, 3), (384, 12)])
def test_a_picture_that_pans_goes_on_panning(side: int, pace: int) -> None:
    """Also where frames are so large that motion is measured on smaller ones."""
    picture = torch.rand(1, 3, 12, 24, generator=torch.Generator().manual_seed(1))
    size = (side, 2 * side)
    wide = torch.nn.functional.interpolate(picture, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    pan = torch.stack([wide[0, :, :, pace * t : pace * t + side].movedim(0, -1) for t in range(SEEN + 4)])
    guess = carried_on(pan[:SEEN], 4)
    assert guess is not None and translation(pan[0], pan[1]).tolist() == pytest.approx([-pace, 0], abs=pace / 30)
    inside = slice(None, side - 5 * pace)  # beyond it comes what was never seen
    assert unlike(guess[:, :, inside], pan[SEEN:, :, inside]) < 0.01


# ---- in the task


def test_new_frames_begin_from_the_motion_carried_on() -> None:
    frames = clip("moves right")
    given = frames[:SEEN]
    line = extend(given, after=8)
    assert (line.strength[SEEN:] == CARRY).all() and line.pieces == ((0, T),) and not line.keep[SEEN:].any()
    assert unlike(line.canvas[SEEN:], frames[SEEN:]) < 0.01 and torch.equal(line.canvas[:SEEN], given)
    line = extend(frames[8:], before=8)
    lead = len(line.canvas) - 8
    assert (line.strength[lead - 8 : lead] == CARRY).all() and (line.strength[lead : lead + 4] == SOFT).all()
    assert unlike(line.canvas[lead - 8 : lead], frames[:8]) < 0.01
    assert torch.equal(line.restore(torch.rand_like(line.canvas))[8:], frames[8:])


def test_any_number_of_frames_at_either_end() -> None:
    """At every length that is seen, one frame as well as many."""
    frames = clip("moves up")
    for length, overlap, new in itertools.product((1, 4, 5, 8, 9, 17), (1, 5, 9), (1, 2, 4, 5, 9, 13)):
        given = frames[:length]
        out = extend(given, before=new, overlap=overlap)
        assert torch.equal(out.restore(torch.rand_like(out.canvas))[new:], given)
        out = extend(given, after=new, overlap=overlap)
        assert torch.equal(out.restore(torch.rand_like(out.canvas))[:length], given)


@pytest.mark.parametrize("ends", [{"after": 24}, {"before": 24}, {"after": 3}, {"before": 3}])
def test_no_further_than_what_is_seen(ends: dict[str, int]) -> None:
    line = extend(clip("moves up"), **ends)
    carried = int((line.strength == CARRY).sum())
    assert carried == {"{'after': 3}": 4, "{'before': 3}": 5}.get(str(ends), 8)  # whole latents, or eight at most
    assert float(line.strength[0 if "before" in ends else -1]) == (CARRIED if 3 in ends.values() else 1)


@pytest.mark.parametrize("ends", [{"after": 8}, {"before": 8}])
def test_without_a_steady_motion_or_a_wish_they_begin_from_noise(ends: dict[str, int]) -> None:
    plain, other = extend(clip("moves left"), carry=1, **ends), extend(clip("bounces"), **ends)
    for line in (plain, other):
        assert set(line.strength.unique().tolist()) == {0, 1} and len(line.pieces) == 1
    with pytest.raises(ValueError, match="carry"):
        extend(clip("moves left"), carry=1.5, **ends)


def test_the_model_keeps_the_pace_that_is_carried_on(bundled: Model) -> None:
    """What goes on from noise drifts to the pace that the words usually mean. Velocities within 25% count as kept: on
    average over four clips; and each is nearer than half as far off as from noise."""
    pipeline, found = Pipeline(bundled), []
    for seed in range(4):
        scene = scene_of("circle", "red", "moves left", "mint", rng=np.random.default_rng(seed))
        scene = replace(scene, things=(replace(scene.things[0], amount=0.6),))  # slower than the words say
        frames = render(scene, T, 128, 128)
        path, off = follow(frames), []
        for carry in (CARRY, 1.0):
            line = extend(frames[:SEEN], after=T - SEEN, carry=carry)
            out = pipeline.make(line, canonical(scene), seed=seed, steps=6)
            off.append(float((follow(out)[-1] - path[-1]).norm().nan_to_num(1)))
        found.append((off[0] / float((path[-1] - path[SEEN - 1]).norm()), off[0] / off[1]))
    shares, beside_noise = zip(*found, strict=True)
    assert sum(shares) / len(shares) < 0.25 and max(beside_noise) < 0.5
