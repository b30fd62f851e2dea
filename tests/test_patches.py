"""Laws of spacetime patches."""

from __future__ import annotations

import pytest
import torch

from sora_core.patches import Grid, map_to_tokens, patchify, tokens_to_map, unpatchify

SHAPES = [(1, 2, 2), (5, 8, 8), (3, 4, 10), (9, 14, 6)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patch", [(1, 2, 2), (1, 1, 1), (1, 2, 1)])
def test_patchify_is_undone_exactly(shape: tuple[int, int, int], patch: tuple[int, int, int]) -> None:
    latents = torch.randn(2, 4, *shape)
    tokens, grid = patchify(latents, patch)
    assert tokens.shape == (2, grid.length, 4 * patch[0] * patch[1] * patch[2])
    assert grid.latent_shape == shape
    assert torch.equal(unpatchify(tokens, grid), latents)


def test_tokens_are_in_time_major_order() -> None:
    latents = torch.zeros(1, 1, 3, 4, 4)
    latents[:, :, 1, 2:, :2] = 1
    tokens, grid = patchify(latents, (1, 2, 2))
    assert tokens.sum(-1).nonzero()[:, 1].tolist() == [1 * grid.h * grid.w + 1 * grid.w + 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_strengths_survive_the_way_to_tokens_and_back(shape: tuple[int, int, int]) -> None:
    grid = Grid.of(shape, (1, 2, 2))
    strength = torch.rand(2, grid.length)
    assert torch.equal(map_to_tokens(tokens_to_map(strength, grid), grid), strength)


def test_a_patch_that_is_made_in_part_is_made() -> None:
    grid = Grid.of((1, 4, 4), (1, 2, 2))
    strength = torch.zeros(1, 1, 1, 4, 4)
    strength[..., 3, 0] = 0.7
    assert map_to_tokens(strength, grid).tolist() == [[0, 0, pytest.approx(0.7), 0]]


def test_errors_name_the_axis_and_the_cure() -> None:
    with pytest.raises(ValueError, match="latent height 7 does not divide into patches of 2; use 8"):
        Grid.of((5, 7, 8), (1, 2, 2))
    with pytest.raises(ValueError, match=r"strength map of shape \(1, 1, 5, 4, 4\): expected \(B, 1, 5, 8, 8\)"):
        map_to_tokens(torch.ones(1, 1, 5, 4, 4), Grid.of((5, 8, 8), (1, 2, 2)))
    with pytest.raises(ValueError, match="7 tokens do not fill a grid of 1 x 2 x 2"):
        unpatchify(torch.ones(1, 7, 4), Grid.of((1, 4, 4), (1, 2, 2)))
