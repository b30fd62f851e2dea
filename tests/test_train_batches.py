"""Laws of the batches that the transformer is trained on: tasks, windows, and what is known of their scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training import trainee

from sora_core.checkpoint import Model
from sora_core.dit import DiT, fourier_positions
from sora_core.flow import add_noise
from sora_core.timeline import SOFT
from sora_core.train.batches import (
    EDIT_STRENGTHS,
    Batch,
    Clips,
    DiTTraining,
    draw_batch,
    draw_gap,
    draw_level_map,
    draw_strengths,
    draw_turn,
    edit_noise,
    focused,
)
from sora_core.train.latents import near_things
from sora_core.train.masks import UNKNOWN, covered_by
from sora_core.world import render, sample_scene
from sora_core.world.captions import canonical
from sora_core.world.scene import COLOURS


def test_scenes_that_turn_are_told_as_the_one_or_the_other_alike(generator: torch.Generator) -> None:
    """Where both ends are kept; behind a beginning that is kept alone the caption says what follows."""
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, split="turning") for _ in range(40)]
    one = {canonical(replace(scene, then=None)) for scene in scenes}
    other = {canonical(scene.then) for scene in scenes if scene.then is not None}
    z = torch.randn(40, 2, 5, 4, 4, generator=generator)
    for cued, low, high in ((0.0, 0.4, 0.6), (1.0, 0.0, 0.05)):
        training = DiTTraining(tokens=20 * 400, cued=cued)
        batch = draw_batch(rng, generator, training, Clips(z, scenes), (1, 2, 2))
        told = [text for text in batch.captions if (text in one) != (text in other)]
        assert len(told) > 120 and low <= sum(text in one for text in told) / len(told) <= high
        assert (batch.level[:, :, 0] == 0).all() and (batch.level.amax((1, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize("split", ["plain", "pairs", "turning", "train"])
@pytest.mark.parametrize(("frames", "height", "width"), [(17, 128, 128), (1, 192, 192), (9, 128, 256)])
def test_things_stand_where_the_loss_is_told_they_do(split: str, frames: int, height: int, width: int) -> None:
    """All that a frame shows beside its background lies near things, in the latent that covers the frame."""
    rng = np.random.default_rng(3)
    scenes = [scene for scene in (sample_scene(rng, width / height, split) for _ in range(20)) if scene.style != "neon"]
    latents, shares = (frames - 1) // 4 + 1, []
    for scene in scenes[:8]:
        near = near_things(scene, (latents, height // 8, width // 8))
        shares.append(float(near.float().mean()))
        seen = render(scene, frames, height, width)
        ends = [scene.background] if scene.then is None else [scene.background, scene.then.background]
        if len(set(ends)) > 1:
            continue  # its background changes, too
        empty = render(replace(scene, things=(), then=None), frames, height, width)
        shown = ((seen - empty).abs().amax(-1) > 0.1).unfold(1, 8, 8).unfold(2, 8, 8).flatten(3).any(-1)
        for frame in range(frames):
            assert not bool((shown[frame] & ~near[-(-frame // 4)]).any()), (scene, frame)
    assert np.mean(shares) < 0.45


def test_the_loss_is_focused_only_where_places_are_known() -> None:
    near = torch.tensor([True, False]).view(1, 1, 1, 1, 2)
    weights = torch.stack([focused(torch.tensor(level), near, 4.0) for level in (0.2, 0.6, 0.75, 0.9, 1.0)]).flatten(1)
    torch.testing.assert_close(weights, torch.tensor([[5.0, 1], [5, 1], [3, 1], [1, 1], [1, 1]]))


def test_strength_maps_keep_something_and_make_something() -> None:
    rng = np.random.default_rng(0)
    for shape in [(1, 8, 8), (2, 4, 8), (5, 8, 8), (9, 16, 8)]:
        maps = [draw_strengths(rng, shape) for _ in range(200)]
        levels = torch.tensor([0.0, SOFT, 1.0]).tolist()
        assert all(m.shape == shape and (m == 1).any() and set(m.unique().tolist()) <= set(levels) for m in maps)
        assert np.mean([bool(m.min() <= SOFT) for m in maps]) > 0.9
        folded = [m.unfold(1, 2, 2).unfold(2, 2, 2) for m in maps]
        assert all((f.amax((-1, -2)) == f.amin((-1, -2))).all() for f in folded)  # whole patches


def test_levels_are_drawn_as_often_in_each_way_as_is_asked(generator: torch.Generator) -> None:
    """One for the whole clip; one for each of its frames; or one beside patches that are kept."""
    rng = np.random.default_rng(0)
    for conditioned, independent in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.25)):
        training = DiTTraining(conditioned=conditioned, independent=independent)
        maps = [draw_level_map(rng, generator, training, (5, 4, 4), 2.0)[0] for _ in range(400)]
        flat = [bool((one == one[:, :1, :1]).all()) for one in maps]
        kept = [bool((one <= SOFT).any() and (one > SOFT).any()) for one in maps]
        whole = [bool((one == one.flatten()[0]).all()) for one in maps]
        frames = [f and not w and len(one[:, 0, 0].unique()) == 5 for f, w, one in zip(flat, whole, maps, strict=True)]
        assert np.mean(whole) == pytest.approx(1 - conditioned - independent, abs=0.08)
        assert np.mean(frames) == pytest.approx(independent, abs=0.08)
        assert np.mean(kept) >= 0.8 * conditioned


def test_gaps_keep_both_ends_whole() -> None:
    rng = np.random.default_rng(0)
    for shape in [(3, 4, 4), (5, 8, 8), (9, 16, 8)]:
        maps = [draw_gap(rng, shape) for _ in range(200)]
        made = [m == 1 for m in maps]
        assert all(not m[0].any() and not m[-1].any() and m.any() for m in made)
        assert all(m.float().amax((1, 2)).diff().abs().sum() == 2 for m in made)  # one gap
        assert max(float(m.float().mean()) for m in made) <= 0.8
        assert len({tuple(m[:, 0, 0].tolist()) for m in made}) >= min(2, shape[0] - 2)
        soft = [(m == SOFT).nonzero()[:, 0].unique().tolist() for m in maps]
        ends = [[int(m.nonzero()[:, 0].max()) + 1] for m in made]  # the first latent behind the gap, as in the tasks
        assert {tuple(s) for s in soft} > {()} and all(s in ([], end) for s, end in zip(soft, ends, strict=True))


def test_turns_keep_the_beginning_alone() -> None:
    rng = np.random.default_rng(0)
    for shape in [(2, 4, 4), (5, 8, 8), (9, 16, 8)]:
        maps = [draw_turn(rng, shape) for _ in range(200)]
        kept = [int((m.amax((1, 2)) == 0).sum()) for m in maps]
        assert all((m[:count] == 0).all() and (m[count:] == 1).all() for m, count in zip(maps, kept, strict=True))
        assert set(kept) == set(range(1, max(2, shape[0] - 1)))


def test_edits_go_from_their_source_straight_to_what_is_asked_for(generator: torch.Generator) -> None:
    """At its strength an edit is its source noised, as SDEdit begins; on the way it is never at a level above."""
    rng = np.random.default_rng(0)
    x0, source, noise = torch.randn(3, 4, 2, 4, 4, generator=generator)
    for level in (0.0, 0.3, 0.8, EDIT_STRENGTHS[1], 0.99, 1.0):
        moved = edit_noise(rng, x0, source, noise, level) - noise
        share = float((moved / (source - x0)).median())
        strength = 1 / (1 + share)
        assert max(level, EDIT_STRENGTHS[0]) - 1e-5 <= strength <= max(level, EDIT_STRENGTHS[1]) + 1e-5
        begin = add_noise(x0, noise + moved, strength)
        torch.testing.assert_close(begin, add_noise(source, noise, strength), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("edited", [0.0, 0.5, 1.0])
def test_a_share_of_what_has_a_source_is_an_edit_of_it(generator: torch.Generator, edited: float) -> None:
    latents, sources = torch.randn(2, 64, 4, 2, 4, 4, generator=generator)
    scenes = [sample_scene(np.random.default_rng(i), split="styled") for i in range(64)]
    training = DiTTraining(edited=edited, tokens=64 * 8)

    def batch(sources: torch.Tensor | None) -> Batch:
        rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
        return draw_batch(rng, generator, training, Clips(latents, scenes, sources), (1, 2, 2))

    one, plain = batch(sources), batch(None).noise
    x0, noise, level, captions = one.x0, one.noise, one.level, one.captions
    moved = [float((one - other).abs().max()) > 0 for one, other in zip(noise, plain, strict=True)]
    assert abs(np.mean(moved) - edited) < 0.2 and len(captions) == 64
    every = {canonical(scene) for scene in scenes}
    for i in np.flatnonzero(moved):
        source = sources[(latents == x0[i]).flatten(1).all(1)][0]
        share = (noise[i] - plain[i]) / (source - x0[i])
        assert share.std() < 1e-2 * share.mean() + 1e-4 and level[i].unique().numel() == 1 and captions[i] in every


def _scenes(count: int, split: str = "plain", seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, split=split) for _ in range(count)]


@pytest.mark.parametrize(("share", "split"), [(0.0, "plain"), (0.5, "plain"), (1.0, "plain"), (1.0, "turning")])
def test_windows_show_all_that_their_scenes_do(generator: torch.Generator, share: float, split: str) -> None:
    """Cut from the clips as they are, tokens where they were, as often as is asked; in each something is made."""
    scenes = _scenes(150, split)
    # Channels tell the clip and the place, so that every window says where it is from.
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    places = torch.stack([y, x]).unsqueeze(1).expand(2, 5, 24, 24)
    latents = torch.stack([torch.cat([torch.full((1, 5, 24, 24), float(i)), places]) for i in range(150)])
    clips = Clips(latents, scenes).with_windows((1, 2, 2))
    whole = fourier_positions((5, 12, 12), torch.device("cpu")).view(5, 12, 12, 24)
    training = DiTTraining(tokens=2880, windows=share, masks=0.1, conditioned=0.9)
    rng, sizes = np.random.default_rng(1), []
    for _ in range(40):
        batch = draw_batch(rng, generator, training, clips, (1, 2, 2))
        assert len(batch.x0) == len(batch.captions) and (batch.level.amax((1, 2, 3, 4)) > 0).all()
        h, w = batch.x0.shape[3:]
        assert batch.covered is not None and batch.covered.shape[2:] == (20, 2 * h, 2 * w)
        assert 0.85 <= len(batch.x0) * 5 * h * w / 4 / 2880 <= 1.15
        if batch.places is None:
            assert (h, w) == (24, 24)
            continue
        sizes.append((h, w))
        for i, z in enumerate(batch.x0):
            scene, top, left = scenes[int(z[0, 0, 0, 0])], int(z[1, 0, 0, 0]), int(z[2, 0, 0, 0])
            part = slice(top, top + h), slice(left, left + w)
            assert torch.equal(z, latents[int(z[0, 0, 0, 0])][:, :, *part])
            near = near_things(scene, (5, 24, 24))
            assert torch.equal(batch.near[i, 0], near[:, *part]) and batch.near[i].sum() == near.sum()
            tokens = whole[:, top // 2 : (top + h) // 2, left // 2 : (left + w) // 2]
            assert torch.equal(batch.places[i], tokens.flatten(0, 2))
            twice = slice(2 * top, 2 * (top + h)), slice(2 * left, 2 * (left + w))
            assert torch.equal(batch.covered[i], covered_by(scene, (5, 24, 24))[:, :, *twice])
    assert len(sizes) / 40 == pytest.approx(share, abs=0.25) and (
        len(set(sizes)) >= (5 if split == "plain" else 3) or share == 0
    )


def test_videos_stay_whole_and_so_does_what_is_small() -> None:
    for scenes, size in (([("a cat",)] * 60, 24), (_scenes(60), 8)):
        windows = Clips(torch.zeros(60, 1, 5, size, size), scenes).with_windows((1, 2, 2)).windows
        assert windows is not None and windows.draw_size(np.random.default_rng(0)) is None


def test_a_transformer_is_told_the_places_of_a_whole_frame_alike(tiny: Model, generator: torch.Generator) -> None:
    config = replace(tiny.dit.config, absolute=True)
    dit = DiT(config)
    dit.initialise(generator)
    torch.nn.init.normal_(dit.head.head.weight, generator=generator)
    x, text = torch.randn(2, config.in_dim, 3, 4, 6, generator=generator), torch.randn(2, 5, config.text_dim)
    places = fourier_positions((3, 2, 3), x.device).expand(2, -1, -1)
    with torch.no_grad():
        whole = dit(x, torch.tensor([300.0, 900.0]), text)
        assert torch.equal(dit(x, torch.tensor([300.0, 900.0]), text, places), whole)
        assert not torch.allclose(dit(x, torch.tensor([300.0, 900.0]), text, places.flip(1)), whole)
    with pytest.raises(ValueError, match="places: this model has no absolute positions"):
        DiT(replace(config, absolute=False))(x, torch.tensor([300.0, 900.0]), text, places)


@pytest.mark.parametrize("split", ["plain", "pairs"])
def test_covered_cells_are_those_that_show_a_thing(split: str) -> None:
    for scene in (scene for scene in _scenes(30, split) if not scene.wall):
        covered = covered_by(scene, (3, 16, 16))[0]
        assert torch.equal(covered[:3], covered[3:4].expand(3, -1, -1))
        seen = render(scene, 9, 32, 32)
        empty = render(replace(scene, things=()), 9, 32, 32)
        assert torch.equal((seen - empty).abs().amax(-1) > 0, covered[3:] > 0)
        full = seen[covered[3:] == 1]
        colours = torch.tensor([COLOURS[thing.colour] for thing in scene.things])
        assert len(full) and (full[:, None] - colours).abs().amax(-1).amin(1).max() < 1e-5
    assert (covered_by(("a cat",), (3, 8, 8)) == UNKNOWN).all()


def test_a_head_learns_what_is_covered_and_what_is_unknown_teaches_nothing(tiny: Model) -> None:
    """From tokens of latents in which it can be seen; the head alone learns here."""
    model = trainee(tiny, masks=True)
    head, scenes = model.mask_head, _scenes(4)
    assert head is not None
    covered = torch.stack([covered_by(scene, (2, 8, 8)) for scene in scenes])
    near = torch.stack([near_things(scene, (2, 8, 8)) for scene in scenes])[:, None]
    cells = covered.unflatten(2, (2, 4)).unflatten(4, (8, 2)).unflatten(6, (8, 2))  # B 1 T 4 H 2 W 2
    x0 = cells.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)[:, [0, 5, 10, 15]]
    head.read[-1].weight.data.zero_()
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        model(x0, torch.zeros_like(x0), torch.full((4, 1, 2, 8, 8), 0.1), [canonical(scene) for scene in scenes])
        loss = head(covered, near)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(np.log(2), rel=1e-4) and losses[-1] < 0.5 * losses[0]
    model(x0, torch.zeros_like(x0), torch.full((4, 1, 2, 8, 8), 0.1), [""] * 4)
    optimizer.zero_grad(set_to_none=False)
    nothing = head(torch.full_like(covered, UNKNOWN), near)
    nothing.backward()
    assert float(nothing.detach()) == 0 and not any(parameter.grad.any() for parameter in head.parameters())
