"""Laws of the causal VAE."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sora_core.checkpoint import Model
from sora_core.config import PRESETS, VAEConfig
from sora_core.pipeline import frames_to_video, psnr
from sora_core.tiling import tile_starts
from sora_core.vae import VAE
from sora_core.world import render, sample_scene

SMALL_WAN = {  # the public VAEs' structure at small widths
    "wan2.1": VAEConfig(
        z_dim=4, pixel_patch=1, widths=(8, 16, 32, 32), decoder_widths=(8, 16, 32, 32), space_down=(True, True, True),
        time_down=(False, True, True), encoder_blocks=2, decoder_blocks=3, shortcut=False, middle_attention=True,
        latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4,
    ),
    "wan2.2": VAEConfig(
        z_dim=4, pixel_patch=2, widths=(8, 16, 32, 32), decoder_widths=(8, 16, 32, 32), space_down=(True, True, True),
        time_down=(False, True, True), encoder_blocks=2, decoder_blocks=3, middle_attention=True,
        latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4,
    ),
    "mini": VAEConfig(
        z_dim=4, widths=(16, 32, 32), decoder_widths=(16, 32, 32), latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=SMALL_WAN)
def vae(request: pytest.FixtureRequest) -> VAE:
    torch.manual_seed(0)
    return VAE(SMALL_WAN[request.param]).eval()


def clip(vae: VAE, frames: int, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(2, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_latents_have_the_promised_shape(vae: VAE) -> None:
    for frames in (1, 5, 9):
        latents = vae.encode(clip(vae, frames))
        assert latents.shape == (2, 4, *vae.latent_shape(frames, 32, 48))
        assert vae.decode(latents).shape == (2, 3, frames, 32, 48)


@pytest.mark.parametrize("frame", [1, 4, 5, 8, 12])
def test_a_frame_leaves_earlier_latents_and_pixels_untouched(vae: VAE, frame: int) -> None:
    before = clip(vae, 13)
    after = before.clone()
    after[:, :, frame] = -after[:, :, frame]
    a, b = vae.encode(before, chunk=99), vae.encode(after, chunk=99)
    first = (frame - 1) // vae.config.time_factor + 1  # the latent frame that covers it
    assert torch.equal(a[:, :, :first], b[:, :, :first])
    assert not torch.allclose(a[:, :, first], b[:, :, first])

    changed = a.clone()
    changed[:, :, first] += 1
    x, y = vae.decode(a, chunk=99), vae.decode(changed, chunk=99)
    begin = (first - 1) * vae.config.time_factor + 1
    assert torch.equal(x[:, :, :begin], y[:, :, :begin])
    assert not torch.allclose(x[:, :, begin:], y[:, :, begin:])


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_streamed_in_pieces_equals_whole(vae: VAE, chunk: int) -> None:
    video = clip(vae, 17)
    latents = vae.encode(video, chunk=99)
    torch.testing.assert_close(vae.encode(video, chunk=chunk), latents, atol=1e-5, rtol=1e-5)
    whole = vae.decode(latents, chunk=99)
    torch.testing.assert_close(vae.decode(latents, chunk=chunk), whole, atol=1e-5, rtol=1e-5)


def test_image_is_the_first_frame_of_a_video(vae: VAE) -> None:
    video = clip(vae, 5)
    torch.testing.assert_close(vae.encode(video)[:, :, :1], vae.encode(video[:, :, :1]), atol=1e-5, rtol=1e-5)


def test_normalise_is_undone(vae: VAE) -> None:
    z = torch.randn(1, 4, 2, 3, 3)
    torch.testing.assert_close(vae.denormalise(vae.normalise(z)), z)


def test_inputs_are_left_alone(vae: VAE) -> None:
    video = clip(vae, 5)
    copy = video.clone()
    latents = vae.encode(video)
    kept = latents.clone()
    vae.decode(latents)
    assert torch.equal(video, copy) and torch.equal(latents, kept)


def test_working_memory_is_flat_in_the_number_of_frames() -> None:
    """Peak of live tensors, beyond input and output, does not grow with the clip."""
    torch.manual_seed(0)
    vae = VAE(SMALL_WAN["mini"]).eval()
    decoding, encoding = [], []
    for length in (12, 48):  # full pieces in both
        frames = 4 * length - 3
        latents, video = torch.randn(1, 4, length, 8, 8), torch.rand(1, 3, frames, 64, 64)
        decoding.append(_peak(lambda latents=latents: vae.decode(latents)) - 4 * 3 * frames * 64 * 64)
        encoding.append(_peak(lambda video=video: vae.encode(video)) - 4 * 4 * length * 8 * 8)
    assert decoding[1] < 1.1 * decoding[0]
    assert encoding[1] < 1.1 * encoding[0]


def _peak(run) -> int:
    """Most bytes of tensors alive at once during a run, from the profiler's record of allocations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert peak > 0
    return peak


def test_tiles_blend_without_a_seam(bundled: Model) -> None:
    """On the bundled VAE and a frame of many things, tiled and whole differ by far less than its own error."""
    vae = bundled.vae
    rng = np.random.default_rng(0)
    rows = [torch.cat([render(sample_scene(rng), 5, 96, 96) for _ in range(3)], dim=2) for _ in range(2)]
    video = frames_to_video(torch.cat(rows, dim=1))  # 1 3 5 192 288
    whole = vae.encode(video)
    assert psnr(vae.decode(vae.encode(video, tile=128)), vae.decode(whole)) > 55
    assert psnr(vae.decode(whole, tile=128), vae.decode(whole)) > 55


@pytest.mark.parametrize(("tile", "width"), [(256, 448), (384, 704)])
@pytest.mark.parametrize("name", ["wan2.1", "wan2.2"])
def test_tiles_see_the_whole_frame_where_the_whole_frame_counts(
    name: str, tile: int, width: int, generator: torch.Generator
) -> None:
    """The public VAEs attend to whole frames in the middle, so that part is not cut. Random weights look further than
    trained ones. Three tiles side by side."""
    vae = VAE(SMALL_WAN[name]).eval()
    for key, parameter in vae.named_parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.05
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + float("norm" in key)
    video = frames_to_video(render(sample_scene(np.random.default_rng(2)), 5, 288, width))
    whole = vae.encode(video)
    decoded = vae.decode(whole)
    assert psnr(vae.decode(vae.encode(video, tile=tile)), decoded) > 45
    assert psnr(vae.decode(whole, tile=tile), decoded) > 45


@pytest.mark.parametrize(("size", "tile", "overlap", "multiple"), [(100, 40, 8, 1), (64, 64, 16, 8), (200, 64, 16, 8)])
def test_tiles_cover_everything(size: int, tile: int, overlap: int, multiple: int) -> None:
    starts = tile_starts(size, tile, overlap, multiple)
    covered = torch.zeros(size)
    for start in starts:
        covered[start : start + tile] += 1
        assert start % multiple == 0 or start == size - tile
    assert covered.min() >= 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 64, 64), "6 frames.*use 5"),
        ((5, 60, 64), "height 60.*multiples of 8.*use 64"),
        ((5, 64, 100), "width 100.*use 104"),
    ],
)
def test_sizes_that_do_not_fit_are_named(tiny: Model, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.vae.encode(torch.zeros(1, 3, *shape))


def test_latents_of_another_model_are_refused(tiny: Model) -> None:
    with pytest.raises(ValueError, match=r"this VAE decodes \(B, 4, T, H, W\)"):
        tiny.vae.decode(torch.zeros(1, 16, 2, 8, 8))


@pytest.mark.parametrize(("preset", "millions"), [("wan2.1-1.3b", 126.89), ("wan2.2-5b", 704.69)])
def test_public_presets_have_the_public_size(preset: str, millions: float) -> None:
    with torch.device("meta"):
        vae = VAE(PRESETS[preset].vae)
    assert sum(p.numel() for p in vae.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_clip_decoded_in_parts_is_the_clip(vae: VAE, generator: torch.Generator) -> None:
    latents = torch.randn(1, 4, 7, 4, 6, generator=generator)
    stream: dict = {}
    parts = [vae.decode(latents[:, :, a:b], stream=stream) for a, b in ((0, 1), (1, 4), (4, 7))]
    assert [part.shape[2] for part in parts] == [1, 12, 12]
    torch.testing.assert_close(torch.cat(parts, dim=2), vae.decode(latents), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="decode in tiles without one"):
        vae.decode(latents, tile=32, stream={})
