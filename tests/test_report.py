"""Laws of the report: seams are seen where clips are joined and nowhere else, motion is measured as the world moves, a
frozen clip is called still, one changed bit is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from math import hypot

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sora_core.motion import _moving
from sora_core.report import Report, draw_report, report
from sora_core.world import Scene, render, scene_of

T, SIDE = 17, 96


def scene(motion: str = "moves left", background: str = "sky", shape: str = "star", seed: int = 0) -> Scene:
    return scene_of(shape, "red", motion, background, rng=np.random.default_rng(seed))


def clip(motion: str = "moves left", background: str = "sky", shape: str = "star", seed: int = 0) -> Tensor:
    return render(scene(motion, background, shape, seed), T, SIDE, SIDE)


def panned(x: int, y: int, count: int = 6) -> Tensor:
    """Grainy footage of a texture that moves by whole pixels a frame."""
    generator = torch.Generator().manual_seed(3)
    texture = F.interpolate(torch.rand(1, 3, 24, 24, generator=generator), size=SIDE, mode="bicubic")[0].movedim(0, -1)
    frames = torch.stack([texture.roll((y * t, x * t), (0, 1)) for t in range(count)])
    return (frames + 0.02 * torch.randn(frames.shape, generator=generator)).clamp(0, 1)


def turned_back(frames: Tensor) -> Tensor:
    """A clip that goes backwards from frame 9 on."""
    return torch.cat([frames[:9], frames[:8].flip(0)])


# -- seams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["sky", "meadow", "sea"])
def test_a_join_stands_out_and_nothing_else_does(background: str) -> None:
    joined = torch.cat([clip("moves left", background), clip("moves right", background, "square", seed=1)])
    found = report(joined, seams=range(1, 2 * T))
    ratios = {seam.frame: seam.ratio for seam in found.seams}
    assert list(ratios) == list(range(1, 2 * T))
    assert ratios.pop(T) > 3
    assert all(0.5 < ratio < 1.5 for ratio in ratios.values())


@pytest.mark.parametrize("motion", ["moves up", "moves right", "spins", "circles around"])
def test_a_continuous_clip_has_no_seams(motion: str) -> None:
    for seam in report(clip(motion), seams=range(2, T - 1, 2)).seams:
        assert 0.8 < seam.ratio < 1.25
        assert seam.flow_jump is not None and seam.flow_jump < (0.065 if motion == "circles around" else 0.002)
        assert seam.colour_distance < 0.002


def test_a_repeated_frame_and_a_change_of_colour_are_seen() -> None:
    frames = clip()
    assert report(torch.cat([frames[:9], frames[8:]]), seams=[9]).seams[0].ratio < 0.1
    darker = torch.cat([frames[:9], frames[9:] * 0.9])
    assert report(darker, seams=[9]).seams[0].colour_distance == pytest.approx(0.08, abs=0.01)


def test_a_side_of_a_seam_ends_at_the_next_one() -> None:
    greys = torch.tensor([0.2] * 4 + [0.4] * 2 + [0.8] * 4)
    found = report(greys.view(-1, 1, 1, 1).expand(-1, 16, 16, 3), seams=[4, 6]).seams
    assert [seam.colour_distance for seam in found] == pytest.approx([0.2, 0.4])


def test_a_loop_is_measured_from_its_end_to_its_beginning() -> None:
    circle = clip("circles around")  # its last frame shows what its first one shows
    (seam,) = report(circle[:-1], loop=True).seams
    assert seam.frame == 0 and seam.ratio == pytest.approx(1, abs=0.1)
    assert report(circle, loop=True).seams[0].ratio < 0.1
    assert report(clip("moves left"), loop=True).seams[0].ratio > 2


# -- motion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["sky", "meadow", "sea"])
@pytest.mark.parametrize("motion", ["moves left", "moves down"])
def test_the_flow_jump_is_the_change_of_the_true_motion(motion: str, background: str) -> None:
    (thing,) = scene(motion, background).things
    (seam,) = report(turned_back(clip(motion, background)), seams=[9]).seams
    step = thing.amount / (T - 1) / 2  # in shorter sides, which span 2
    assert seam.flow_jump == pytest.approx(2 * step, rel=0.05)


def test_the_flow_jump_of_textured_footage() -> None:
    (seam,) = report(torch.cat([panned(4, 1), panned(-1, 3)]), seams=[6]).seams
    assert seam.flow_jump == pytest.approx(hypot(5, 2) / SIDE, rel=0.05)
    assert report(panned(4, 1), seams=[3]).seams[0].flow_jump == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize(("motion", "background"), [("spins", "sky"), ("grows", "meadow"), ("stays still", "sea")])
def test_what_does_not_travel_has_no_flow(motion: str, background: str) -> None:
    assert report(turned_back(clip(motion, background)), seams=[9]).seams[0].flow_jump == pytest.approx(0, abs=0.005)


def test_a_frozen_clip_cannot_pass_for_a_smooth_one() -> None:
    frozen = report(clip()[:1].expand(T, -1, -1, -1), seams=[4, 9], loop=True)
    assert (frozen.motion, frozen.still) == (0, 1)
    assert [(seam.ratio, seam.flow_jump) for seam in frozen.seams] == [(1, 0)] * 3
    frames = clip()
    half = report(torch.cat([frames[:9], frames[8:9].expand(8, -1, -1, -1)]), seams=[9])
    assert half.still == 0.5 and half.drift.motion == -1 and half.seams[0].ratio < 0.1
    assert half.seams[0].flow_jump > 0.02


def test_flicker_is_still_and_a_small_slow_thing_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    still = clip("stays still", "meadow")
    assert report(still + 0.003 * torch.randn(still.shape, generator=generator)).still == 1
    slow = scene_of("ring", "red", "moves left", "sky", size="small", speed="slowly", rng=np.random.default_rng(0))
    assert report(render(slow, 33, SIDE, SIDE)).still == 0
    assert report(panned(1, 0)).still == 0


def test_time_reversed_has_the_same_motion_and_the_opposite_drift() -> None:
    frames = torch.cat([clip("bounces", "sea"), clip("moves right", "sea")])
    forward, backward = report(frames, seams=[T]), report(frames.flip(0), seams=[T])
    assert (forward.motion, forward.still) == (backward.motion, backward.still)
    assert forward.differences == backward.differences[::-1]
    assert forward.seams[0].ratio == backward.seams[0].ratio
    assert asdict(backward.drift) == pytest.approx(
        {name: value if name == "colour" else -value for name, value in asdict(forward.drift).items()}, abs=1e-6
    )


# -- drift and source --------------------------------------------------------------------------------------------


def test_drift_names_what_changes() -> None:
    still = clip("stays still", "meadow")
    ramp = torch.linspace(0, 1, T).view(T, 1, 1, 1)
    nothing = report(still).drift
    assert all(value == 0 for value in asdict(nothing).values())
    brighter = report(still * (0.5 + 0.5 * ramp)).drift
    assert 0.4 < brighter.brightness < 0.5 and 0.4 < brighter.contrast < 0.5 and brighter.colour > 0.2
    red = report(still + ramp * torch.tensor([0.1, 0, 0])).drift
    assert 0.03 < red.colour < 0.1 / 3**0.5
    soft = F.avg_pool2d(still.movedim(-1, 1), 5, 1, 2, count_include_pad=False).movedim(1, -1)
    blurred = report(torch.lerp(still, soft, ramp)).drift
    assert blurred.sharpness < -0.1 and abs(blurred.brightness) < 0.01
    assert report(still.lerp(still.mean((1, 2), keepdim=True), ramp)).drift.contrast < -0.5
    early, late = torch.zeros(40, 8, 8, 3), torch.zeros(40, 8, 8, 3)
    early[5], late[6] = 1, 1  # of the first 15%, and behind them
    assert report(early).drift.brightness == pytest.approx(-1) and report(late).drift.brightness == 0


@pytest.mark.parametrize("bits", [1, 2**22])
def test_one_changed_value_is_found(bits: int) -> None:
    frames = clip()
    source = frames[4:12].clone()
    kept = report(frames, source=source, source_at=4).kept
    assert kept is not None and asdict(kept) == {"compared": 8, "exact": 8, "identical": True, "worst_psnr": None}
    source[3, 50, 20].view(torch.int32)[1] -= bits
    kept = report(frames, source=source, source_at=4).kept
    assert kept is not None and (kept.compared, kept.exact, kept.identical) == (8, 7, False)
    assert kept.worst_psnr is not None and (kept.worst_psnr > 150) == (bits == 1)


def test_psnr_is_that_of_the_worst_frame() -> None:
    frames = torch.full((5, 8, 8, 3), 0.5)
    source = frames.clone()
    source[1] += 0.01
    source[3] -= 0.1
    kept = report(frames, source=source).kept
    assert kept is not None and kept.exact == 3 and kept.worst_psnr == pytest.approx(20, abs=1e-4)


# -- the report itself -------------------------------------------------------------------------------------------


def test_the_input_is_left_alone_and_half_precision_is_welcome() -> None:
    frames = clip()
    before = frames.clone()
    whole = report(frames, seams=[5], source=frames, loop=True)
    assert torch.equal(frames, before)
    assert report(frames.half()).motion == pytest.approx(whole.motion, rel=0.01)
    assert (whole.frames, whole.width, whole.height) == (T, SIDE, SIDE) and len(whole.differences) == T - 1


@pytest.mark.parametrize("size", [(2, 1, 1), (2, 3, 5), (3, 40, 25)])
def test_the_smallest_clips_have_a_report(size: tuple[int, int, int], generator: torch.Generator) -> None:
    found = report(torch.rand(*size, 3, generator=generator), seams=[1], loop=True)
    assert json.loads(found.to_json()) == asdict(found)
    assert found.seams[0].flow_jump is None and (found.width, found.height) == (size[2], size[1])
    assert draw_report(found).shape[1] == 640


def full() -> Report:
    frames = torch.cat([clip(), clip("bounces", "meadow")])
    return report(frames, seams=[9, T], source=frames[3:7], source_at=3, loop=True)


def test_motion_is_found_in_frames_of_any_size() -> None:
    """Of more pixels than torch takes quantiles of."""
    image = torch.zeros(1, 3, 2**24 // 4096 + 1, 4096)
    other = image.clone()
    other[..., 100:1100, 200:2200] = 1
    found = _moving(image, other)
    assert bool(found[..., 101:1099, 201:2199].all()) and not bool(found[..., 1200:, :].any())


def test_a_report_is_json() -> None:
    found = full()
    assert json.loads(found.to_json()) == asdict(found)


def test_the_picture_grows_with_what_there_is_to_say() -> None:
    small, large = draw_report(report(clip())), draw_report(full())
    for picture in (small, large):
        assert picture.shape[1:] == (640, 3) and picture.min() >= 0 and picture.max() == 1
    assert len(large) > len(small)
    assert not torch.equal(small, draw_report(report(clip(), source=clip()))[: len(small)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: report(c[:1]), "the clip has 1 frame: give at least 2"),
        (lambda c: report(c[0]), r"the clip of shape \(96, 96, 3\): give a clip of shape \(T, H, W, 3\)"),
        (lambda c: report(c[..., :2]), r"the clip of shape \(17, 96, 96, 2\)"),
        (lambda c: report((c * 255).byte()), "the clip of type torch.uint8: .* divide bytes by 255"),
        (lambda c: report(c * 255), "the clip from .* to .*: values have to lie in 0..1"),
        (lambda c: report(c * torch.nan), "values have to lie in 0..1"),
        (lambda c: report(c, seams=[3, 0]), "seam 0 of a clip of 17 frames: choose from 1 to 16"),
        (lambda c: report(c, seams=[17]), "seam 17 of a clip of 17 frames: choose from 1 to 16"),
        (lambda c: report(c, source=c[:, :64]), "source of 96x64 for a clip of 96x96"),
        (lambda c: report(c, source=c[:5], source_at=13), "source of 5 frames at frame 13 .* from 0 to 12"),
        (lambda c: report(c, source=c[:5], source_at=-1), "source of 5 frames at frame -1 .* from 0 to 12"),
        (lambda c: report(c[:4], source=c), "source of 17 frames .* a clip of 4: give at most 4"),
        (lambda c: report(c, source=c[:0]), "the source has 0 frames: give at least 1"),
    ],
)
def test_what_cannot_be_measured_says_why(call: Callable[[Tensor], Report], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(clip())
