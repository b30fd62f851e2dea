"""Laws of the diffusion transformer."""

from __future__ import annotations

import pytest
import torch

from sora_core.checkpoint import Model
from sora_core.config import PRESETS
from sora_core.dit import DiT, fourier_positions, rotary_table, rotate


@pytest.fixture
def x(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(2, 4, 3, 4, 6, generator=generator)  # 3 * 2 * 3 = 18 tokens


@pytest.fixture
def text(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(2, 7, 32, generator=generator)


def test_per_token_timesteps_equal_the_scalar_where_all_agree(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    t = torch.tensor([250.0, 800.0])
    torch.testing.assert_close(tiny.dit(x, t[:, None].expand(2, 18), text), tiny.dit(x, t, text), atol=1e-5, rtol=1e-5)


def test_a_tokens_timestep_matters(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    t = torch.full((2, 18), 500.0)
    changed = t.clone()
    changed[:, 4] = 0
    assert not torch.allclose(tiny.dit(x, t, text), tiny.dit(x, changed, text), atol=1e-4)


def test_prepared_text_equals_text(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    t = torch.full((2,), 500.0)
    assert torch.equal(tiny.dit(x, t, tiny.dit.prepare_text(text)), tiny.dit(x, t, text))


def test_text_is_padded_with_zeros_before_its_projection(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    t = torch.full((2,), 500.0)
    padded = torch.cat([text, torch.zeros(2, 5, 32)], dim=1)
    torch.testing.assert_close(tiny.dit(x, t, padded), tiny.dit(x, t, text))


def test_samples_of_a_batch_do_not_meet(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    t = torch.tensor([300.0, 700.0])
    both = tiny.dit(x, t, text)
    torch.testing.assert_close(both[1:], tiny.dit(x[1:], t[1:], text[1:]), atol=1e-5, rtol=1e-5)


def test_every_token_sees_every_other_and_the_text(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    t = torch.full((2,), 500.0)
    before = tiny.dit(x, t, text)
    moved = x.clone()
    moved[:, :, -1, -1, -1] += 1
    assert ((tiny.dit(moved, t, text) - before).abs().amax(dim=(1, 3, 4)) > 0).all()
    assert not torch.allclose(tiny.dit(x, t, text.roll(1, 0)), before, atol=1e-4)


def test_rotary_positions_are_relative(generator: torch.Generator) -> None:
    """The product of a rotated query and key depends on their distance alone, and rotation keeps lengths."""
    table = rotary_table((4, 4, 4), 24, torch.device("cpu")).view(4, 4, 4, -1)
    q, k = torch.randn(2, 1, 1, 1, 24, generator=generator)
    at = lambda v, i: rotate(v, table[i][None])  # noqa: E731
    near = (at(q, (0, 0, 0)) * at(k, (1, 2, 1))).sum()
    torch.testing.assert_close((at(q, (2, 1, 2)) * at(k, (3, 3, 3))).sum(), near)
    torch.testing.assert_close(at(q, (3, 2, 1)).norm(), q.norm())
    assert torch.equal(at(q, (0, 0, 0)), q)


def test_rotary_axes_share_the_width_as_wan_does() -> None:
    """At head width 128: 44 numbers for time, 42 for height, 42 for width."""
    table = rotary_table((2, 2, 2), 128, torch.device("cpu")).view(2, 2, 2, 64)
    turned = lambda *i: (table[i] != 1).nonzero().flatten()  # noqa: E731
    assert turned(1, 0, 0).tolist() == list(range(22))
    assert turned(0, 1, 0).tolist() == list(range(22, 43))
    assert turned(0, 0, 1).tolist() == list(range(43, 64))


def test_absolute_positions_are_fractions_of_the_frame_and_the_clip() -> None:
    """A token's place reads the same at any size: the mean of the places of the tokens it splits into, to within what
    a sine bends; and the middle of the frame is zero, whatever the aspect."""
    device = torch.device("cpu")
    coarse = fourier_positions((3, 4, 6), device).unflatten(0, (3, 4, 6))
    fine = fourier_positions((6, 8, 12), device).unflatten(0, (3, 2, 4, 2, 6, 2)).mean((1, 3, 5))
    slow = [0, 4, 8, 12, 16, 20]  # the lowest frequency of each axis, sines and cosines
    assert torch.allclose(coarse[..., slow], fine[..., slow], atol=0.08)
    middle = fourier_positions((1, 3, 5), device).unflatten(0, (1, 3, 5))[0, 1, 2]
    assert torch.allclose(middle, torch.cat([torch.zeros(12), torch.ones(12)]), atol=1e-6)


def test_names_and_size_are_the_public_ones() -> None:
    with torch.device("meta"):
        dit = DiT(PRESETS["wan2.1-1.3b"].dit)
    names = dict(dit.named_parameters())
    assert sum(p.numel() for p in names.values()) == 1_418_996_800
    expected = {"patch_embedding", "text_embedding", "time_embedding", "time_projection", "blocks", "head"}
    assert {name.partition(".")[0] for name in names} == expected
    block = {name.removeprefix("blocks.0.") for name in names if name.startswith("blocks.0.")}
    attention = {f"{a}.{n}" for a in ("self_attn", "cross_attn") for n in ("norm_q.weight", "norm_k.weight")}
    attention |= {f"{a}.{n}.{p}" for a in ("self_attn", "cross_attn") for n in "qkvo" for p in ("weight", "bias")}
    assert block == attention | {
        "modulation", "norm3.weight", "norm3.bias", "ffn.0.weight", "ffn.0.bias", "ffn.2.weight", "ffn.2.bias",
    }  # fmt: skip
    assert names["text_embedding.2.weight"].shape == (1536, 1536)
    assert names["time_projection.1.weight"].shape == (6 * 1536, 1536)
    assert names["head.modulation"].shape == (1, 2, 1536)


def test_errors_name_the_input(tiny: Model, x: torch.Tensor, text: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"timestep of shape \(2, 5\): expected \(B,\) or \(B, 18\)"):
        tiny.dit(x, torch.zeros(2, 5), text)
    with pytest.raises(ValueError, match=r"this model reads \(B, S, 32\)"):
        tiny.dit.prepare_text(torch.zeros(1, 3, 64))
    with pytest.raises(ValueError, match="text of 99 tokens: this model reads at most 24"):
        tiny.dit.prepare_text(torch.zeros(1, 99, 32))
