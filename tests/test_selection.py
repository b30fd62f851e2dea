"""Laws of choosing patches: by frames, by box, by mask; and of what a strength does to them."""

from __future__ import annotations

import pytest
import torch

from sora_core.patches import Grid, from_patches, to_patches
from sora_core.preview import draw_patches, latents_to_rgb
from sora_core.selection import (
    count_frames,
    latent_frame_of,
    mask_to_latents,
    mask_to_map,
    select,
    select_box,
    select_frames,
    set_strength,
)

PATCH = (1, 2, 2)


@pytest.mark.parametrize("latent_frames", [1, 2, 5, 9])
def test_every_video_frame_belongs_to_one_latent_frame(latent_frames: int) -> None:
    total = count_frames(latent_frames)
    owners = [latent_frame_of(frame) for frame in range(total)]
    assert owners == sorted(owners) and set(owners) == set(range(latent_frames))
    assert owners.count(0) == 1 and all(owners.count(i) == 4 for i in range(1, latent_frames))
    for frame in range(total):
        chosen = select_frames(latent_frames, frame, frame)
        assert chosen.nonzero().flatten().tolist() == [owners[frame]]


def test_negative_frames_count_from_the_end() -> None:
    assert torch.equal(select_frames(5, -4, -1), select_frames(5, 13, 16))
    assert torch.equal(select_frames(5, 0, -1), torch.ones(5))


@pytest.mark.parametrize(("first", "last"), [(3, 2), (0, 17), (-18, -1), (17, 17)])
def test_frames_outside_the_clip_are_named(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="of a clip of 17"):
        select_frames(5, first, last)


def test_a_box_and_its_rest_cover_the_frame() -> None:
    left, right = select_box(8, 8, 0, 0, 0.5, 1), select_box(8, 8, 0.5, 0, 1, 1)
    assert torch.equal(left + right, torch.ones(8, 8))
    assert select_box(8, 8, 0.49, 0.49, 0.51, 0.51).sum() == 4  # touches the four in the middle
    with pytest.raises(ValueError, match="left lies below right"):
        select_box(8, 8, 0.5, 0, 0.5, 1)


def test_a_mask_reaches_every_latent_it_touches() -> None:
    mask = torch.zeros(17, 64, 64)
    mask[6, 40, 9] = 1
    on_latents = mask_to_latents(mask, (5, 8, 8))
    assert on_latents.nonzero().tolist() == [[2, 5, 1]]
    one = mask_to_latents(mask[6:7], (5, 8, 8))
    assert one.nonzero().tolist() == [[t, 5, 1] for t in range(5)]
    assert torch.equal(mask_to_latents(torch.ones(1, 31, 77), (5, 8, 8)), torch.ones(5, 8, 8))
    assert torch.equal(mask_to_latents(mask[6], (5, 8, 8)), one)
    with pytest.raises(ValueError, match="one a frame"):
        mask_to_latents(torch.zeros(16, 64, 64), (5, 8, 8))


def test_patches_round_trip_with_their_strengths(generator: torch.Generator) -> None:
    latents = torch.randn(2, 16, 5, 8, 8, generator=generator)
    patches = to_patches(latents, 0.0, PATCH)
    patches = set_strength(patches, 0.7, select(patches.grid, 9, -1, (0, 0, 0.5, 1)))
    back, strength = from_patches(patches)
    assert torch.equal(back, latents) and strength.shape == (2, 1, 5, 8, 8)
    assert torch.equal(strength[:, :, 3:, :, :4], torch.full((2, 1, 2, 8, 4), 0.7))
    assert strength[:, :, :3].abs().max() == 0 and strength[..., 4:].abs().max() == 0
    again = to_patches(latents, strength, PATCH)
    assert torch.equal(again.strength, patches.strength) and torch.equal(again.tokens, patches.tokens)


@pytest.mark.parametrize(
    "shape",
    [(64, 64), (1, 64, 64), (1, 1, 64, 64), (17, 64, 64), (17, 1, 64, 64), (5, 1, 64, 64), (1, 1, 5, 8, 8),
     (1, 1, 1, 8, 8), (1, 1, 17, 64, 64), (2, 1, 5, 8, 8)],
)  # fmt: skip
def test_a_mask_of_any_kind_becomes_the_same_map(shape: tuple[int, ...]) -> None:
    """For the whole clip, a frame, a latent frame; in pixels or latents."""
    mask = torch.zeros(shape)
    mask[..., shape[-1] // 2 :] = 0.5
    found = mask_to_map(mask, 2, (5, 8, 8))
    assert found.shape[0] == (2 if shape[0] == 2 else 1)
    assert not found[..., :4].any() and torch.equal(found[..., 4:], torch.full_like(found[..., 4:], 0.5))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 1, 5, 1, 1), (1, 1, 5, 8, 1), (1, 1, 1, 1, 8)])
def test_sides_of_one_are_spread(shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mask_to_map(mask, 2, (5, 8, 8)), mask.expand(shape[0], 1, 5, 8, 8))


def test_masks_by_frame_and_by_latent_frame_are_told_apart() -> None:
    by_frame, by_latent = torch.zeros(17, 1, 8, 8), torch.zeros(5, 1, 8, 8)
    by_frame[4] = by_latent[4] = 1
    for mask, latent in ((by_frame, 1), (by_latent, 4)):
        assert mask_to_map(mask, 1, (5, 8, 8)).amax((3, 4)).flatten().nonzero().tolist() == [[latent]]


@pytest.mark.parametrize("shape", [(3, 1, 64, 64), (64,), (1, 16, 5, 8, 8), (3, 1, 5, 8, 8), (1, 3, 64, 64)])
def test_a_mask_that_fits_in_no_way_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one a latent frame \(5, H, W\) or one a frame \(17, H, W\)"):
        mask_to_map(torch.zeros(shape), 2, (5, 8, 8))


def test_a_gray_mask_blends_strengths() -> None:
    patches = to_patches(torch.zeros(1, 4, 2, 4, 4), 0.2, PATCH)
    chosen = select(patches.grid, mask=torch.full((1, 8, 8), 0.5))
    assert torch.allclose(set_strength(patches, 1.0, chosen).strength, torch.full((1, 8), 0.6))
    assert torch.equal(patches.strength, torch.full((1, 8), 0.2))  # the input is left alone
    with pytest.raises(ValueError, match=r"strength 1\.5"):
        set_strength(patches, 1.5, chosen)


def test_the_picture_shows_strength_by_colour() -> None:
    grid = Grid(2, 2, 2, PATCH)
    patches = to_patches(torch.zeros(1, 4, *grid.latent_shape), 0.0, PATCH)
    kept, made = draw_patches(patches), draw_patches(set_strength(patches, 1.0, select(grid, 1, 4)))
    assert kept.shape == made.shape and kept.min() >= 0 and kept.max() <= 1
    changed = (kept != made).any(-1).nonzero()
    assert changed[:, 1].min() > kept.shape[1] // 3  # only the second latent frame, which stands right of the first


def test_latents_to_rgb_is_the_linear_map(generator: torch.Generator) -> None:
    latents = torch.randn(3, 2, 4, 5, generator=generator) * 0.1
    identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    frames = latents_to_rgb(latents, identity)
    assert frames.shape == (2, 4, 5, 3)
    assert torch.allclose(frames, latents.permute(1, 2, 3, 0) / 2 + 0.5)
