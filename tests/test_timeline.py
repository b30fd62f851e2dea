"""Laws of the timeline: given frames come back bit for bit in every task, at every length and size; latents stand where
their frames stand; what is refused says why."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sora_core.pipeline import Pipeline
from sora_core.tasks import backward_parts, edit, empty, extend, interpolate, loop, strengths
from sora_core.timeline import SOFT, Timeline
from sora_core.video import read_video
from sora_core.world import render, scene_of

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18)
NEW = (1, 2, 3, 4, 5, 8, 12)


def clip(length: int, height: int = 24, width: int = 40, seed: int = 0) -> Tensor:
    return torch.rand(length, height, width, 3, generator=torch.Generator().manual_seed(seed))


def stand_in(frames: Tensor) -> Tensor:
    """Latents that say which frame they end with, instead of a VAE: one channel, the mean of that frame."""
    assert len(frames) % 4 == 1 and frames.shape[1] % 16 == frames.shape[2] % 16 == 0
    last = torch.arange(0, len(frames), 4)
    return (
        frames[last].mean((1, 2, 3)).view(1, 1, -1, 1, 1).expand(-1, -1, -1, frames.shape[1] // 8, frames.shape[2] // 8)
    )


def made(line: Timeline) -> Tensor:
    return torch.full((len(line.canvas), 32, 48, 3), 0.5)


def laws(line: Timeline) -> None:
    """What holds for every timeline: its length; kept latents are those of given frames alone; every given frame is
    seen; and a latent that is seen ends as the last frame given in it."""
    assert len(line.canvas) % 4 == 1
    known, strength = line.encode(stand_in)
    assert known.shape[2:] == strength.shape[2:] == (line.latent_frames, 4, 6)
    assert strength.shape[:2] == (1, 1) and 0 <= float(strength.min()) <= float(strength.max()) <= 1
    given = torch.zeros(len(line.canvas), dtype=torch.bool)
    for at, count in line.pieces:
        assert at == 0 or at % 4 == 1
        given[at : at + count] = True
    for latent in range(line.latent_frames):
        frames = range(max(0, 4 * latent - 3), 4 * latent + 1)
        highest = float(strength[0, 0, latent].max())
        if highest == 0:
            assert given[frames].all()
        if line.keep[frames].flatten(1).all(1).any():
            assert highest < 1
        if highest < 1:
            last = max(frame for frame in frames if given[frame])
            assert float(known[0, 0, latent, 0, 0]) == pytest.approx(_mean_of(line, last), abs=1e-6)


def _mean_of(line: Timeline, frame: int) -> float:
    padded = torch.nn.functional.pad(line.canvas[frame].movedim(-1, 0)[None], (0, 8, 0, 8), mode="replicate")
    return float(padded.mean())


@pytest.mark.parametrize("overlap", [1, 4, 9])
def test_extensions_keep_the_clip_and_add_what_was_asked_for(overlap: int) -> None:
    for length, new in itertools.product(LENGTHS, NEW):
        source = clip(length)
        line = extend(source, after=new, overlap=overlap)
        laws(line)
        out = line.restore(made(line))
        assert len(out) == length + new and torch.equal(out[:length], source)
        assert float(line.encode(stand_in)[1][0, 0, -1].min()) == 1
        line = extend(source, before=new, overlap=overlap)
        laws(line)
        out = line.restore(made(line))
        assert len(out) == length + new and torch.equal(out[new:], source)
        line = extend(source, before=new, after=2, overlap=max(overlap, -(-length // 2)))
        laws(line)
        out = line.restore(made(line))
        assert len(out) == new + length + 2 and torch.equal(out[new:-2], source)
        assert not (line.keep[: line.show[0] + new].any() or line.keep[-2:].any())


def test_parts_before_a_clip_fit_into_a_model_and_make_all_of_it() -> None:
    for length, before, overlap, most in itertools.product((1, 7, 30), (1, 4, 13, 50), (1, 9, 24), (13, 33)):
        if overlap < most:
            counts = backward_parts(before, length, overlap, most)
            assert sum(counts) == before
            for done, count in zip(itertools.accumulate(counts, initial=0), counts, strict=False):
                assert len(extend(clip(length + done, 4, 4), before=count, overlap=overlap).canvas) <= most
    with pytest.raises(ValueError, match="extend by -3 before"):
        backward_parts(-3, 30, 9, 33)


def test_gaps_keep_both_clips() -> None:
    for length, other, new in itertools.product(LENGTHS, (1, 4, 6, 9), NEW):
        a, b = clip(length), clip(other, seed=1)
        line = interpolate(a, b, new)
        laws(line)
        out = line.restore(made(line))
        assert len(out) == length + new + other
        assert torch.equal(out[:length], a) and torch.equal(out[length + new :], b)
    for length, new in itertools.product(LENGTHS[1:], NEW):
        line = loop(clip(length), new)
        laws(line)
        out = line.restore(made(line))
        assert len(out) == length + new and torch.equal(out[:length], clip(length))


@pytest.mark.parametrize("soften", [1, 3, 4])
def test_softened_clips_keep_all_but_their_ends(soften: int) -> None:
    for length, new in itertools.product((12, 15), NEW):
        a, b = clip(length), clip(length, seed=1)
        line = interpolate(a, b, new, overlap=12, soften=soften)
        laws(line)
        blank = lambda f: torch.zeros(1, 1, (len(f) - 1) // 4 + 1, f.shape[1] // 8, f.shape[2] // 8)  # noqa: E731
        strengths = line.encode(blank)[1].amax((0, 1, 3, 4))
        assert strengths[0] == 0 and strengths[-1] <= SOFT + 1e-6  # each clip has a step that stays
        out = line.restore(made(line))
        assert len(out) == 2 * length + new
        assert torch.equal(out[: length - soften], a[:-soften]) and torch.equal(
            out[length + new + soften :], b[soften:]
        )
        rise = line.strength[line.show[0] : line.show[0] + soften, 0, 0]
        assert (rise.diff() > 0).all() and rise[0] > 0 and rise[-1] < 1
        assert torch.equal(line.strength[line.show[1] - soften : line.show[1], 0, 0], rise.flip(0))


def test_edits_keep_what_has_strength_zero() -> None:
    for length in LENGTHS:
        source = clip(length)
        assert torch.equal(edit(source, 0.0).restore(made(edit(source, 0.0))), source)
        line = edit(source, 0.6)
        laws(line)
        assert len(line.restore(made(line))) == length and not line.keep.any()
        mask = torch.zeros(1, 24, 40)
        mask[:, 3:9, 20:31] = 0.7
        line = edit(source, mask)
        laws(line)
        out = line.restore(made(line))
        outside = (mask == 0).expand(length, -1, -1)
        assert torch.equal(out[outside], source[outside]) and bool(((out[~outside] - 0.5).abs() < 0.3).all())
        line = edit(source, strengths(source, 1, first=-1, last=-1))
        out = line.restore(made(line))
        assert torch.equal(out[:-1], source[:-1]) and len(out) == length
        if length > 1:
            assert not torch.equal(out[-1], source[-1])


def test_a_mask_a_frame_says_for_each_frame_where_it_may_change() -> None:
    source, mask = clip(9), torch.zeros(9, 24, 40)
    for t in range(9):
        mask[t, :, 4 * t : 4 * t + 4] = (t + 1) / 9
    line = edit(source, strengths(source, 1.0, mask=mask))
    laws(line)
    out = line.restore(made(line))
    assert torch.equal(out[mask == 0], source[mask == 0]) and bool(((out[mask > 0] - 0.5).abs() < 0.3).all())
    assert torch.equal(strengths(source, 1.0, mask=mask[4]), strengths(source, 1.0, mask=mask[4:5]))
    with pytest.raises(ValueError, match=r"mask of shape .*: give one \(1, H, W\), or one a frame \(9, H, W\)"):
        strengths(source, 1.0, mask=mask[:, None])
    with pytest.raises(ValueError, match="mask: it has 4 frames and the clip 9"):
        strengths(source, 1.0, mask=mask[:4])


def test_what_a_lossy_file_makes_of_black_is_black(tmp_path: Path) -> None:
    """As JPEG does beside a white shape."""
    source, mask = clip(9, 64, 96), np.zeros((64, 96), np.uint8)
    mask[22:43, 37:61] = 255
    Image.fromarray(mask).save(tmp_path / "mask.jpg", quality=90)
    read = read_video(tmp_path / "mask.jpg").frames.mean(-1)
    black = torch.from_numpy(mask == 0)[None]
    far = F.max_pool2d((~black).float(), 17, 1, 8) == 0  # of the blocks that hold no edge, and those beside it
    near = black & ~far
    found = strengths(source, 1.0, mask=read)
    assert (read[near] > 0).sum() > 20 and not found[:, far[0]].any()
    assert (found[0][near[0]] > 0).sum() < (read[near] > 0).sum()


def test_inside_of_a_frame_made_colours_meet_the_kept_ones_and_are_their_own_further_off() -> None:
    source, mask = torch.full((5, 128, 128, 3), 0.3), torch.zeros(1, 128, 128)
    mask[:, :, 64:] = 1
    out = edit(source, mask).restore(torch.full((5, 128, 128, 3), 0.5))
    assert torch.equal(out[:, :, :64], source[:, :, :64])
    row = out[2, 64, 64:, 0]
    assert abs(float(row[0]) - 0.3) < 0.02 and (row.diff() >= -1e-6).all() and (row[24:] - 0.5).abs().max() < 1e-4
    assert row.diff().max() < 0.03  # no edge where the leading over ends


def test_latents_of_what_is_kept_hold_nothing_of_what_is_made_anew() -> None:
    source, mask = torch.full((5, 128, 128, 3), 0.3), torch.zeros(1, 128, 128)
    source[:, :, 64:] = torch.rand(5, 128, 64, 3)
    mask[:, :, 64:] = 1
    seen: list[Tensor] = []

    def watching(frames: Tensor) -> Tensor:
        seen.append(frames)
        return stand_in(frames)

    before = source.clone()
    edit(source, mask).encode(watching)
    assert (seen[0] - 0.3).abs().max() < 1e-4 and torch.equal(source, before)
    edit(source, 0.9 * mask).encode(watching)  # what is only changed is begun from as it is
    assert torch.equal(seen[1], source)


def test_a_span_made_from_noise_is_forgotten_wherever_it_ends() -> None:
    """Its last latent may hold kept frames, too: what is encoded there shows these alone."""

    def of_all_frames(frames: Tensor) -> Tensor:  # of a latent, as a VAE sees them
        fours = frames[:, :1, :1].expand(-1, frames.shape[1] // 8, frames.shape[2] // 8, -1).mean(-1)
        groups = [fours[:1], *fours[1:].split(4)]
        return torch.stack([group.mean(0) for group in groups])[None, None]

    source = clip(25)
    for first, last in ((9, 9), (9, 10), (5, 10), (0, 2), (9, 12)):
        other = source.clone()
        other[first : last + 1] = torch.rand(last + 1 - first, *source.shape[1:])
        one, two = (edit(frames, strengths(frames, 1.0, first=first, last=last)) for frames in (source, other))
        (known, strength), (again, _) = (line.encode(of_all_frames) for line in (one, two))
        kept = strength < 1
        assert torch.equal(known[kept.expand_as(known)], again[kept.expand_as(again)]), (first, last)


def test_the_nearest_kept_frame_of_its_latent_stands_in_for_one_that_is_made() -> None:
    source, seen = clip(9), []

    def watching(frames: Tensor) -> Tensor:
        seen.append(frames)
        return stand_in(frames)

    free = torch.tensor([0, 1, 1, 1, 1, 0, 1, 1, 0]).float().view(-1, 1, 1).expand(9, 24, 40)
    edit(source, free).encode(watching)  # 6 and 7 between 5 and 8, which are kept
    assert torch.equal(seen[0][5:, :24, :40], source[[5, 5, 8, 8]])


def test_a_short_edit_of_a_long_clip_stays_short() -> None:
    source = clip(200)
    line = edit(source, strengths(source, 0.5, first=60, last=63))
    laws(line)
    assert len(line.canvas) < 24
    out = line.restore(made(line))
    changed = torch.arange(200).ge(60) & torch.arange(200).le(63)
    assert torch.equal(out[~changed], source[~changed]) and not bool((out == source)[changed].all((1, 2, 3)).any())


def test_what_is_made_anew_begins_with_a_latent_and_sees_what_stays_around_it() -> None:
    """Wherever the span begins: else the latent across the seam is made, and its kept frames are not seen."""
    source = clip(40)
    for first, count in itertools.product(range(1, 32), (1, 3, 4, 8)):
        line = edit(source, strengths(source, 1, first=first, last=first + count - 1))
        laws(line)
        strength = line.encode(stand_in)[1].amax((0, 1, 3, 4))
        begin = line.show[0] + first - len(line.before)
        assert begin % 4 == 1
        assert (strength[: (begin - 1) // 4 + 1] == 0).all() and strength[(begin - 1) // 4 + 1] > 0.6
        out = line.restore(made(line))
        changed = torch.arange(40).ge(first) & torch.arange(40).lt(first + count)
        assert torch.equal(out[~changed], source[~changed]) and len(out) == 40


def test_nothing_stands_still_behind_an_edit_where_the_clip_goes_on() -> None:
    """Whatever span changes, what the model sees behind it are the clip's own frames, to the end of their latent."""
    clip = torch.arange(40.0).view(-1, 1, 1, 1).expand(-1, 16, 16, 3) / 40
    for first in (0, 3, 5, 12):
        for last in range(first, 25):
            line = edit(clip, strengths(clip, 1, first=first, last=last))
            seen = line.canvas[line.show[0] :, 0, 0, 0]
            begin = 0 if line.before is None else len(line.before)
            assert torch.equal(seen, clip[begin : begin + len(seen), 0, 0, 0])
            assert len(line.after) == 40 - begin - len(seen)


def test_pinned_images_stand_at_their_frames() -> None:
    images = clip(3)
    line = empty(15, 24, 40).pin(images[0], 0).pin(images[1], 6).pin(images[2], -1)
    with_pins = line.restore(made(line))
    assert len(with_pins) == 15
    for image, frame in zip(images, (0, 6, 14), strict=True):
        assert torch.equal(with_pins[frame], image)
    laws(line)
    strength = line.encode(stand_in)[1][0, 0, :, 0, 0]
    assert strength.tolist() == [0, 1, pytest.approx(SOFT), 1, pytest.approx(SOFT)]


def test_pins_leave_what_is_given_alone() -> None:
    """Two images in one latent, and one beside kept frames of a task: all come back."""
    images, source = clip(2, seed=2), clip(9)
    line = empty(9, 24, 40).pin(images[0], 6).pin(images[1], 7)
    out = line.restore(made(line))
    assert torch.equal(out[6], images[0]) and torch.equal(out[7], images[1])
    line = extend(source, after=6).pin(images[0], -1)
    laws(line)
    out = line.restore(made(line))
    assert len(out) == 15 and torch.equal(out[:9], source) and torch.equal(out[-1], images[0])
    with pytest.raises(ValueError, match="frame 3 is given already; choose from 9 to 14"):
        extend(source, after=6).pin(images[0], 3)


def test_pins_leave_what_an_edit_keeps_alone() -> None:
    source, image = clip(17), clip(1, seed=3)[0]
    with pytest.raises(ValueError, match="frame 3 is given already"):
        edit(source, strengths(source, 1, first=9)).pin(image, 3)
    mask = torch.zeros(1, 24, 40)
    mask[:, :, 16:] = 1
    with pytest.raises(ValueError, match="frame 6 is kept in part, by a mask"):
        edit(source, mask).pin(image, 6)


def test_a_patch_is_kept_as_a_whole_or_not() -> None:
    mask = torch.zeros(1, 24, 40)
    mask[:, :, 8:12] = 1  # half of the first patch
    strength = edit(clip(5), mask).encode(stand_in)[1]
    cells = strength.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-1, -3))
    assert torch.equal(strength.unflatten(-1, (-1, 2)).amin(-1), strength.unflatten(-1, (-1, 2)).amax(-1))
    assert cells.unique().tolist() == [0, 1]


def test_the_fade_touches_made_frames_alone_and_ends_soon() -> None:
    source = torch.full((9, 32, 48, 3), 0.6)
    line = extend(source, after=12)
    decoded = torch.full((len(line.canvas), 32, 48, 3), 0.5)
    out = line.restore(decoded)
    assert torch.equal(out[:9], source)
    values = out[9:, 0, 0, 0].tolist()
    assert values[0] == pytest.approx(0.58, abs=1e-5) and values == sorted(values, reverse=True)
    assert values[4:] == [0.5] * 8


@pytest.mark.parametrize("new", [1, 2, 3, 5, 7, 8])
def test_a_fade_from_both_sides_goes_no_further_than_what_is_given(new: int) -> None:
    a = torch.full((9, 32, 48, 3), 0.6)
    for line in (
        interpolate(a, a, new),
        edit(torch.cat([a] * 3), strengths(torch.cat([a] * 3), 1, first=9, last=8 + new)),
    ):
        out = line.restore(torch.full((len(line.canvas), 32, 48, 3), 0.5))
        assert float(out.max()) <= 0.6 + 1e-6 and float(out.min()) >= 0.5 - 1e-6


def test_a_frame_between_two_that_are_near_takes_no_more_than_their_colour() -> None:
    """Its shares of both add up to more than one."""
    image = torch.full((32, 48, 3), 0.6)
    out = empty(9, 32, 48).pin(image, 6).pin(image, 8).restore(torch.full((9, 32, 48, 3), 0.5))
    torch.testing.assert_close(out[7], image)


def test_fine_detail_is_not_led_over() -> None:
    rows, columns = torch.arange(32).view(-1, 1), torch.arange(48)
    board = (0.5 + 0.3 * (-1.0) ** (rows + columns))[..., None].expand(-1, -1, 3)
    line = extend(board.expand(9, -1, -1, -1), after=8)
    out = line.restore(torch.full((len(line.canvas), 32, 48, 3), 0.5))
    assert (out[9:] - 0.5).abs().max() < 1e-3


def test_a_latent_that_is_given_in_part_is_as_free_as_its_share_says() -> None:
    source = clip(24)
    for kept, strength in ((1, 0.875), (2, 0.75), (3, 0.625)):  # frames of the last of two latents
        line = edit(source, strengths(source, 1, first=5, last=12 - kept))
        made = line.encode(stand_in)[1].amax((0, 1, 3, 4))
        assert made[made > 0].tolist() == [1, strength]


def test_a_second_text_takes_over_evenly_across_what_is_made() -> None:
    line = interpolate(clip(9), clip(9, seed=1), 12)
    made = line.encode(stand_in)[1].amax((0, 1, 3, 4)) == 1
    assert int(made.sum()) == 3
    assert line.ramp()[made].tolist() == pytest.approx([0.25, 0.5, 0.75])
    before, after = line.ramp()[~made].unique().tolist()
    assert (before, after) == (0, 1)


@pytest.mark.parametrize("carry", [0.9, 1.0])
def test_what_leads_up_to_a_clip_is_not_made_forwards(carry: float) -> None:
    """Not even where it begins from the motion of the clip, which covers all of it: windows from the beginning on would
    never see where they lead."""
    scene = scene_of("circle", "red", "moves left", "sky", rng=np.random.default_rng(0))
    steady = render(scene, 21, 64, 64)
    before = extend(steady, before=12, overlap=12, carry=carry)
    assert (before.pieces == ((0, len(before.canvas)),)) == (carry < 1)
    assert not before.goes_forward and not replace(before, before=steady[:0]).goes_forward
    assert extend(steady, after=12, carry=carry).goes_forward and edit(steady, 0.7).goes_forward
    assert edit(steady, strengths(steady, 0.7, first=0, last=4)).goes_forward


def test_no_fade_begins_at_a_frame_whose_latent_was_made() -> None:
    source = torch.full((24, 32, 48, 3), 0.6)
    line = edit(source, strengths(source, 1, first=5, last=10))  # its last latent is made of two frames and keeps two
    out = line.restore(torch.full((len(line.canvas), 32, 48, 3), 0.5))
    assert out[10, 0, 0, 0] == 0.5 and out[11, 0, 0, 0] == source[11, 0, 0, 0]


def test_a_fade_leads_up_to_a_latent_that_may_move_a_little() -> None:
    """Where a clip begins again behind what is new, its first latent is at SOFT, and its colours are its own."""
    steady = render(scene_of("circle", "red", "moves left", "sky", rng=np.random.default_rng(0)), 21, 64, 64)
    line = extend(steady, before=12, overlap=12)
    assert (line.strength == torch.tensor(SOFT)).any()
    out = line.restore(torch.zeros(len(line.canvas), 64, 64, 3))
    assert (out[11, :8, :8] > 0.3).all() and (out[7, :8, :8] == 0).all()


def test_a_lead_in_is_better_than_none(pipeline: Pipeline) -> None:
    """Latents of a clip that stands late, encoded behind a lead-in, are nearer to those of the clip in its real past
    than latents of the clip encoded as if it began there."""
    frames = clip(1, 32, 32).expand(25, -1, -1, -1).clone()
    for t in range(25):
        frames[t, 8:16, t : t + 6] = 1.0
    real = pipeline.encode(frames)[:, :, 4:]  # frames 13..24
    late = frames[13:]
    line = extend(late, before=13, overlap=12)
    ours = line.encode(pipeline.encode)[0][:, :, 4:]
    naive = pipeline.encode(torch.cat([late, late[-1:]]))[:, :, : real.shape[2]]
    assert (ours - real).abs().mean() < 0.7 * (naive - real).abs().mean()


def test_inputs_are_left_alone(pipeline: Pipeline) -> None:
    source = clip(6)
    copy = source.clone()
    line = extend(source, after=4)
    line.encode(pipeline.encode)
    line.restore(torch.rand(len(line.canvas), 32, 48, 3))
    line.pin(source[0], 7)
    assert torch.equal(source, copy)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: extend(clip(5)), "at least one has to be above 0"),
        (lambda: extend(clip(5), after=-3), "at least one has to be above 0"),
        (lambda: extend(clip(5), after=3, overlap=0), "overlap 0"),
        (lambda: extend(clip(20), before=4, after=3), "the clip has 20 frames.*give an overlap of 10 or more"),
        (lambda: extend(torch.rand(5, 8, 8), after=3), "clips have \\(T, H, W, 3\\)"),
        (lambda: interpolate(clip(5), clip(5, 24, 24), 4), "clip a is 40x24 and clip b 24x24"),
        (lambda: interpolate(clip(5), clip(5), 0), "0 new frames"),
        (lambda: interpolate(clip(5), clip(9), 4, soften=1), "from 0 to 0, .* for more raise overlap"),
        (lambda: loop(clip(1), 4), "the clip has 1 frame: this takes at least 2"),
        (lambda: edit(clip(5), 1.5), "from 0 to 1"),
        (lambda: edit(clip(5), torch.ones(4)), "5 numbers"),
        (lambda: edit(clip(5), torch.ones(5, 8, 8)), "a map"),
        (lambda: strengths(clip(5), 1, first=3, last=5), "choose 0 to 4"),
        (lambda: strengths(clip(5), 1, first=3, last=-4), "frames 3 to -4 .* the first of them comes after the last"),
        (lambda: strengths(clip(5), 1, curve=","), "there is no point in it"),
        (lambda: strengths(clip(5), 1, curve="3:0, 2:1"), "frame 2 does not come after frame 3"),
        (lambda: strengths(clip(5), 1, curve="3:0, -2:1"), "frame -2 does not come after frame 3"),
        (lambda: strengths(clip(5), 1, curve="-6:0"), "frame -6 of a clip of 5"),
        (lambda: strengths(clip(5), 1, curve="0:0, 5:1"), "frame 5 of a clip of 5: the last is 4, or -1"),
        (lambda: empty(9, 24, 40).pin(clip(1)[0], 9), "frame 9 of a clip of 9"),
        (lambda: empty(9, 24, 40).pin(clip(1, 8, 8)[0], 0), "resize it first"),
        (lambda: extend(clip(5), after=4).restore(torch.rand(5, 24, 40, 3)), "decode the latents"),
    ],
)
def test_what_cannot_be_says_why(call: Callable, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


STEADY = ("circle", "red", "moves right", "sky")


@pytest.mark.parametrize(
    ("line", "seams"),
    [
        (extend(torch.rand(18, 16, 16, 3), after=7), [18]),
        (extend(torch.rand(18, 16, 16, 3), before=7), [7]),
        (extend(torch.rand(6, 16, 16, 3), before=3, after=5), [3, 9]),
        (interpolate(torch.rand(9, 16, 16, 3), torch.rand(11, 16, 16, 3), 6), [9, 15]),
        (interpolate(torch.rand(9, 16, 16, 3), torch.rand(9, 16, 16, 3), 8, overlap=9, soften=2), [7, 19]),
        (loop(torch.rand(13, 16, 16, 3), 8), [13]),
        (edit(torch.rand(17, 16, 16, 3), 0.5), []),
        (edit(torch.rand(40, 16, 16, 3), torch.tensor([0.0] * 20 + [0.7] * 9 + [0.0] * 11)), [20, 29]),
        (edit(torch.rand(9, 16, 16, 3), torch.tensor([0.0] * 5 + [0.003] * 4)), [5]),
        (extend(render(scene_of(*STEADY, rng=np.random.default_rng(1)), 17, 16, 16), after=8, carry=0), [17]),
        (empty(17, 16, 16).pin(torch.rand(16, 16, 3), 0).pin(torch.rand(16, 16, 3), -1), [1, 16]),
    ],
)
def test_a_timeline_tells_where_its_parts_meet(line: Timeline, seams: list[int]) -> None:
    assert line.seams == seams
    sources = [part for part in (line.before, line.after, line.canvas) if part is not None]
    clip = line.restore(torch.full_like(line.canvas, 0.5))
    given = [any((frame == part).flatten(1).all(1).any() for part in sources) for frame in clip]
    assert [t for t in range(1, len(given)) if given[t] != given[t - 1]] == seams
    _, strength = line.encode(lambda frames: torch.zeros(1, 1, (len(frames) - 1) // 4 + 1, 2, 2))
    spans = line.spans(strength)
    assert [value is None for count, value in spans for _ in range(count)] == given
    assert all(one[1] != other[1] and min(one[0], other[0]) > 0 for one, other in itertools.pairwise(spans))
    made = {round(float(value), 3) for value in strength.flatten()} | {None}
    assert {value for _, value in spans} <= made


def test_thin_strokes_of_a_large_mask_stay() -> None:
    """White is where the mask shows any, as everywhere else; a smaller one keeps its blocks."""
    frames, mask = torch.rand(5, 64, 48, 3), torch.zeros(1, 512, 512)
    mask[:, 100:102, :], mask[:, :, 300:302] = 1, 1
    found = strengths(frames, 0.8, mask=mask)
    expected = torch.zeros(64, 48)
    expected[100 * 64 // 512], expected[:, 300 * 48 // 512] = 0.8, 0.8
    assert torch.equal(found, expected.expand(5, -1, -1))
    blocks = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert torch.equal(
        strengths(frames, 1, mask=blocks)[0], blocks[0].repeat_interleave(32, 0).repeat_interleave(24, 1)
    )


def test_a_strength_is_checked_before_its_mask() -> None:
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="0 keeps, 1 makes anew"):
            strengths(torch.rand(5, 16, 16, 3), wrong, mask=torch.full((1, 16, 16), 0.5))


@pytest.mark.parametrize("strength", [0.05, 0.1, 0.2, 1.0])
def test_a_second_text_rises_over_all_that_may_change(strength: float) -> None:
    share = edit(clip(17), strength).ramp()
    assert share.tolist() == pytest.approx([(i + 1) / 6 for i in range(5)])


def test_a_mask_that_changes_nothing_is_refused() -> None:
    frames, black = torch.rand(5, 16, 16, 3), torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match="mask: it is black wherever the clip may change"):
        strengths(frames, 0.7, mask=black)
    assert not strengths(frames, 0.0, mask=black).any()
    assert strengths(frames, 0.7, mask=black + 0.1).amax() == pytest.approx(0.07)


def test_a_curve_counts_from_the_end_too() -> None:
    assert torch.equal(strengths(clip(9), 1, curve="0:0, -1:1"), strengths(clip(9), 1, curve="0:0, 8:1"))
    assert torch.equal(strengths(clip(9), 1, curve="-9:0.5, -5:1"), strengths(clip(9), 1, curve="0:0.5, 4:1"))
