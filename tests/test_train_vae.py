"""Laws of training the VAE: it learns, alone or near to what it was, and a kill changes nothing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training import QUIET, same

from sora_core.checkpoint import Model, load_checkpoint, save_checkpoint
from sora_core.config import PRESETS
from sora_core.pipeline import psnr
from sora_core.train.__main__ import load_vae, main, save_vae
from sora_core.train.vae import VAETraining, deepened, draw_scene, latents_apart, random_crop, train_vae
from sora_core.vae import VAE
from sora_core.world import is_visible
from sora_core.world.textures import texture_clip


def test_vae_learns_one_clip_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    clip = random_crop(np.random.default_rng(0), 5, 32)
    training = VAETraining(
        steps=150,
        batch_frames=6,
        crop=32,
        lengths=((5, 1.0),),
        average=0.9,
        learning_rate=5e-3,
        save_every=20,
        validate_every=QUIET,
    )
    source = lambda rng, frames, crop: clip[:, :frames]  # noqa: E731
    config = PRESETS["tiny"].vae
    whole = train_vae(tmp_path / "whole", config, training, source)
    assert psnr(whole.decode(whole.encode(clip[None])), clip[None]) > psnr(torch.zeros(1), clip) + 6
    latents = whole.encode(clip[None, :])
    assert abs(float(latents.mean())) < 0.5 and 0.5 < float(latents.std()) < 2

    train_vae(tmp_path / "killed", config, training, source, stop_at=33)  # the last state is of step 20
    assert same(train_vae(tmp_path / "killed", config, training, source), whole)


@pytest.mark.parametrize("crop", [0, 60])
def test_crops_that_do_not_divide_are_refused_before_a_run_begins(tmp_path: Path, crop: int) -> None:
    with pytest.raises(ValueError, match=f"crop {crop}: its side has to be a multiple of 16 pixels"):
        train_vae(tmp_path / "run", PRESETS["tiny"].vae, VAETraining(crop=crop))
    assert not (tmp_path / "run").exists()


def test_a_run_that_began_near_another_goes_on_so_or_not_at_all(untrained: VAE, tmp_path: Path) -> None:
    training = VAETraining(steps=2, batch_frames=2, crop=32, lengths=((1, 1.0),), save_every=1, validate_every=QUIET)
    train_vae(tmp_path, untrained.config, training, near=untrained, stop_at=1)
    with pytest.raises(ValueError, match="or one that began from another"):
        train_vae(tmp_path, untrained.config, training)


def test_a_decoder_goes_on_alone_and_latents_stay(untrained: VAE, tmp_path: Path) -> None:
    clip = random_crop(np.random.default_rng(0), 5, 32)
    training = VAETraining(
        steps=40, batch_frames=6, crop=32, lengths=((5, 1.0),), average=0.9, learning_rate=5e-3, validate_every=QUIET
    )
    source = lambda rng, frames, crop: clip[:, :frames]  # noqa: E731
    better = train_vae(tmp_path, PRESETS["tiny"].vae, training, source, decoder_of=untrained)
    latents = untrained.encode(clip[None])
    assert torch.equal(better.encode(clip[None]), latents) and better.config == untrained.config
    assert psnr(better.decode(latents), clip[None]) > psnr(untrained.decode(latents), clip[None]) + 3


def test_a_vae_stays_near_to_what_it_was_while_it_learns(untrained: VAE, tmp_path: Path) -> None:
    clip = random_crop(np.random.default_rng(0), 5, 32)
    source = lambda rng, frames, crop: clip[:, :frames]  # noqa: E731
    moved, gained = {}, {}
    for nearness in (0.0, 10.0):
        training = VAETraining(
            steps=40, batch_frames=6, crop=32, lengths=((5, 1.0),), average=0.9, learning_rate=5e-3, nearness=nearness,
            validate_every=QUIET,
        )  # fmt: skip
        vae = train_vae(tmp_path / str(nearness), PRESETS["tiny"].vae, training, source, near=untrained)
        assert vae.config == untrained.config
        old, new = untrained.encode(clip[None]), vae.encode(clip[None])
        moved[nearness] = float((new - old).square().mean())
        gained[nearness] = psnr(vae.decode(new), clip[None]) - psnr(untrained.decode(old), clip[None])
        assert psnr(vae.decode(old), clip[None]) > psnr(untrained.decode(old), clip[None]) + 1  # read as well
    assert moved[10.0] < moved[0.0] / 4 and min(gained.values()) > 2
    with pytest.raises(ValueError, match="not both"):
        train_vae(tmp_path, PRESETS["tiny"].vae, training, source, near=untrained, decoder_of=untrained)


def test_more_blocks_add_nothing_until_they_have_learnt(untrained: VAE, tmp_path: Path) -> None:
    clip = random_crop(np.random.default_rng(0), 9, 32)[None]
    deeper = deepened(untrained, 2)
    assert torch.equal(deeper.encode(clip), untrained.encode(clip))
    latents = untrained.encode(clip)
    assert torch.equal(deeper.decode(latents), untrained.decode(latents))
    training = VAETraining(
        steps=6, batch_frames=2, crop=32, lengths=((5, 1.0),), average=0.5, save_every=2, validate_every=QUIET
    )
    whole = train_vae(tmp_path / "whole", untrained.config, training, near=untrained, blocks=2)
    for level in (*whole.encoder.levels, *whole.decoder.levels):
        assert all(block.conv2.weight.any() for block in level.blocks)
    train_vae(tmp_path / "killed", untrained.config, training, near=untrained, blocks=2, stop_at=3)
    assert same(train_vae(tmp_path / "killed", untrained.config, training, near=untrained, blocks=2), whole)
    save_vae(tmp_path / "vae.safetensors", whole)
    assert same(load_vae(tmp_path / "vae.safetensors"), whole)
    with pytest.raises(ValueError, match="more blocks are for a VAE that goes on near"):
        train_vae(tmp_path / "alone", untrained.config, training, decoder_of=untrained, blocks=1)


def test_a_checkpoint_takes_a_vae_that_is_near_its_own(
    tmp_path: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = deepcopy(tiny.vae), deepcopy(tiny.vae)
    with torch.no_grad():
        near.quant.bias[: near.config.z_dim] += 0.05 * near.config.latent_std[0]
        far.quant.bias[: far.config.z_dim] += near.config.latent_std[0]
    assert latents_apart(tiny.vae, tiny.vae) == 0
    assert latents_apart(tiny.vae, near) == pytest.approx(0.05, rel=0.01)
    save_checkpoint(tmp_path / "model.safetensors", replace(tiny, scores={"single": 1}), torch.float32)

    def pack(vae: VAE, name: str) -> None:
        save_vae(tmp_path / f"{name}-vae.safetensors", vae)
        paths = {"vae": f"{name}-vae.safetensors", "run": "model.safetensors", "out": f"{name}.safetensors"}
        options = [part for option, path in paths.items() for part in (f"--{option}", str(tmp_path / path))]
        monkeypatch.setattr("sys.argv", ["train", "pack", *options])
        main()

    with pytest.raises(SystemExit, match="deviations from those that the transformer"):
        pack(far, "far")
    assert not (tmp_path / "far.safetensors").exists()
    pack(near, "near")
    packed = load_checkpoint(tmp_path / "near.safetensors", None)
    assert packed.defaults == tiny.defaults and packed.provenance == tiny.provenance and packed.scores == {}
    for name, network in {**tiny.networks(), "vae": near}.items():
        stored = packed.networks()[name].state_dict()
        assert all(torch.equal(stored[key], value.bfloat16()) for key, value in network.state_dict().items())


def test_styles_are_drawn_as_asked() -> None:
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, (("outline", 3.0), ("neon", 1.0))) for _ in range(200)]
    drawn = [scene.style for scene in scenes]
    assert set(drawn) == {"outline", "neon"} and 120 < drawn.count("outline") < 180
    assert all(is_visible(t.colour, scene.background, scene.style) for scene in scenes for t in scene.things)


def test_styles_of_another_world_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="style 'oil' is not of the world"):
        train_vae(tmp_path / "run", PRESETS["tiny"].vae, VAETraining(styles=(("oil", 1.0),)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["outline", "outline=much", "outline=0", "outline=inf"])
def test_weights_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr("sys.argv", ["train", "vae", "--run", str(tmp_path / "run"), "--styles", part])
    with pytest.raises(SystemExit, match=f"error: --styles {part}"):
        main()
    assert not (tmp_path / "run").exists()


def test_textures_move_in_range_and_are_drawn_by_their_seed() -> None:
    clips = [texture_clip(np.random.default_rng(seed), 5, 32) for seed in range(8)]
    assert all(clip.shape == (3, 5, 32, 32) and clip.min() >= -1 and clip.max() <= 1 for clip in clips)
    assert torch.equal(clips[3], texture_clip(np.random.default_rng(3), 5, 32))
    assert float(torch.stack(clips).std()) > 0.2 and all(clip.std() > 0.01 for clip in clips)
    assert sum(bool((clip[:, 0] - clip[:, -1]).abs().mean() > 0.02) for clip in clips) >= 4


@pytest.mark.parametrize(
    ("option", "other"), [("--nearness", "--near"), ("--blocks", "--near"), ("--latent-noise", "--decoder-of")]
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, other: str
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "vae", "--run", str(tmp_path / "run"), option, "1"])
    with pytest.raises(SystemExit, match=f"error: {option} does nothing without {other}"):
        main()
    assert not (tmp_path / "run").exists()


def test_what_is_no_vae_says_what_it_is(tmp_path: Path, tiny: Model) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="is no VAE that was trained here"):
        load_vae(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        load_vae(tmp_path / "missing.safetensors")
    save_vae(tmp_path / "vae.safetensors", tiny.vae)
    assert same(load_vae(tmp_path / "vae.safetensors"), tiny.vae)


def test_latents_are_told_by_their_encoder_alone(untrained: VAE) -> None:
    """A decoder that was trained further, or weights in bfloat16, as checkpoints keep them, decode the same latents."""
    other = deepcopy(untrained)
    for parameter in other.decoder.parameters():
        parameter.data += 0.01
    rounded = deepcopy(untrained)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.bfloat16().float()
    assert other.fingerprint() == rounded.fingerprint() == untrained.fingerprint()
    encoding = [name for name, _ in untrained.named_parameters() if name.startswith(("encoder", "quant"))]
    for name in encoding:
        other = deepcopy(untrained)
        other.get_parameter(name).data += 0.01
        assert other.fingerprint() != untrained.fingerprint(), name
