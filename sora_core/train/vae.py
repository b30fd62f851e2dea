"""Training the causal VAE on clips of the procedural world, or on any source of clips.

Loss: L1 + MSE + a small KL. Crops of several lengths, some single images: where a clip is longer than any crop was, its
colours drift. Halved latents must decode to the halved clip, which keeps fine detail from ruling the latents: a
transformer learns such latents in fewer steps (arXiv 2502.09509, 2502.14831). Muon on the kernels: with AdamW the same
network needs three to four times the steps.

A VAE that has a transformer already can go on in two ways. The decoder alone: what was trained on the latents, and
every latent that was saved, stays as good as it was; with noise on the latents it learns to look through what a
transformer gets wrong. Or all of it, with the world's latents held near those they were, which the decoder goes on to
read as well: what the encoder moves by a few hundredths of a deviation brings more than the decoder alone, and the
transformer need not follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import VAEConfig
from ..pipeline import frames_to_video, psnr, video_to_frames
from ..sheet import contact_sheet
from ..vae import VAE
from ..video import write_video
from ..world import STYLES, Scene, is_visible, render, sample_scene
from ..world.textures import texture_clip
from .run import Run, Training, fit

FOLLOWS = 0.2  # deviations by which latents may be off what a transformer was trained on


@dataclass(frozen=True)
class VAETraining(Training):
    learning_rate: float = 1.5e-3
    average: float = 0.998
    crop: int = 64  # side of the square crops, pixels
    lengths: tuple[tuple[int, float], ...] = ((17, 0.4), (9, 0.4), (1, 0.2))  # frames of a crop, how often
    batch_frames: int = 40  # a batch is as many crops as give about this many frames
    kl_weight: float = 1e-6
    equivariance: float = 0.5  # weight of: halved latents decode to the halved clip
    squared: float = 1.0  # weight of the squared error beside the absolute one
    textures: float = 0.0  # share of batches of moving textures instead of the world
    styles: tuple[tuple[str, float], ...] = ()  # how often each style is drawn, where not as the world does
    latent_noise: float = 0.0  # most noise, in deviations, that a decoder trained alone learns to look through
    nearness: float = 0.2  # weight of: latents of the world stay as they were, in units of their deviation
    former: float = 0.35  # share of batches that are decoded from the latents as they were, where these stay near


def _deeper(config: VAEConfig, blocks: int) -> VAEConfig:
    return replace(config, encoder_blocks=config.encoder_blocks + blocks, decoder_blocks=config.decoder_blocks + blocks)


def deepened(vae: VAE, blocks: int) -> VAE:
    """With so many more blocks in each level of encoder and decoder whose last kernels are zero: they add nothing until
    they are trained."""
    deeper = VAE(_deeper(vae.config, blocks))
    deeper.load_state_dict(vae.state_dict(), strict=False)
    for level in (*deeper.encoder.levels, *deeper.decoder.levels):
        for block in level.blocks[len(level.blocks) - blocks :]:
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
    return deeper


def draw_scene(rng: np.random.Generator, styles: Sequence[tuple[str, float]] = ()) -> Scene:
    """A scene of the world, in a style that is drawn by these weights where there are any."""
    if not styles:
        return sample_scene(rng)
    names, weights = zip(*styles, strict=True)
    style = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    while True:
        scene = replace(sample_scene(rng), style=style)
        if all(is_visible(thing.colour, scene.background, style) for thing in scene.things):
            return scene


def random_crop(rng: np.random.Generator, frames: int, crop: int, styles: Sequence[tuple[str, float]] = ()) -> Tensor:
    """A crop (3, frames, crop, crop) of a world clip. Of two places the livelier one is kept: flat background teaches
    nothing. styles: as in `draw_scene`."""
    side = int(rng.choice([1.0, 1.5, 2.0, 3.0], p=[0.3, 0.2, 0.35, 0.15]) * crop)
    length = frames if frames == 1 else int(rng.choice([frames, 2 * frames - 1]))
    clip = render(draw_scene(rng, styles), length, side, side)
    begin = int(rng.integers(length - frames + 1))
    clip = clip[begin : begin + frames]
    places = [rng.integers(side - crop + 1, size=2) for _ in range(2)]
    crops = [clip[:, y : y + crop, x : x + crop] for y, x in places]
    return frames_to_video(max(crops, key=lambda c: float(c[frames // 2].std())))[0]


def _distance(video: Tensor, target: Tensor, squared: float) -> Tensor:
    error = video - target
    return error.abs().mean() + squared * error.square().mean()


@torch.no_grad()
def measure_latents(vae: VAE, clips: list[Tensor]) -> VAEConfig:
    """Config with what is measured on the clips' latents: the mean per channel, one deviation for all, and the linear
    map that comes nearest to the pixels, for previews. With a deviation per channel, those that hold fine detail would
    weigh as much as those that hold shapes and colours."""
    z = torch.cat([rearrange(vae.moments(clip[None])[0], "b c t h w -> (b t h w) c") for clip in clips])
    mean, std = z.mean(0), z.var(0).mean().sqrt().expand(z.shape[1])
    colours = torch.cat([_mean_colours(clip, vae.config) for clip in clips])
    inputs = torch.cat([(z - mean) / std, torch.ones(len(z), 1)], dim=1)
    rgb = torch.linalg.lstsq(inputs.double(), colours.double()).solution
    table = tuple(tuple(round(x, 4) for x in row) for row in rgb.tolist())
    return replace(vae.config, latent_mean=tuple(mean.tolist()), latent_std=tuple(std.tolist()), latent_rgb=table)


@torch.no_grad()
def latents_apart(one: VAE, other: VAE) -> float:
    """How far the latents of two VAEs lie from each other, in deviations: root mean square over a clip of every style.
    Infinite where they differ in shape."""
    rng, squares = np.random.default_rng(3), []
    for style in STYLES:
        clip = frames_to_video(render(draw_scene(rng, ((style, 1.0),)), 9, 128, 128))
        a, b = one.encode(clip), other.encode(clip)
        if a.shape != b.shape:
            return float("inf")
        squares.append(float((a - b).square().mean()))
    return float(np.mean(squares)) ** 0.5


def _mean_colours(clip: Tensor, config: VAEConfig) -> Tensor:
    """Mean colour (T * H * W, 3) of the pixels that each latent of a clip (3, T, H, W) stands for."""
    small = F.avg_pool2d(clip.transpose(0, 1), config.space_factor)
    later = small[1:].unflatten(0, (-1, config.time_factor)).mean(1) if len(small) > 1 else small[1:]
    return rearrange(torch.cat([small[:1], later]), "t c h w -> (t h w) c")


def train_vae(
    folder: Path | str,
    config: VAEConfig,
    training: VAETraining,
    source: Callable[[np.random.Generator, int, int], Tensor] | None = None,
    stop_at: int | None = None,
    decoder_of: VAE | None = None,
    near: VAE | None = None,
    blocks: int = 0,
) -> VAE:
    """Train, or go on with the run in `folder`; returns the averaged VAE with its latent statistics measured.

    source(rng, frames, crop) gives one clip (3, T, H, W); without one, the world does. stop_at: leave after this step,
    as a kill would. decoder_of: a trained VAE whose decoder alone is trained further; its encoder and its statistics
    stay. near: a trained VAE to begin from, whose statistics stay and near whose latents of `source` the new ones stay.
    """
    if decoder_of is not None and near is not None:
        raise ValueError("either the decoder alone goes on, or all of it near to what it was: not both")
    if unknown := sorted({style for style, _ in training.styles} - set(STYLES)):
        raise ValueError(f"style {unknown[0]!r} is not of the world; use {', '.join(STYLES)}")
    if blocks and near is None:
        raise ValueError("more blocks are for a VAE that goes on near to what it was: name that one")
    multiple = 2 * config.space_factor
    if training.crop < 1 or training.crop % multiple:
        raise ValueError(f"crop {training.crop}: its side has to be a multiple of {multiple} pixels, above 0")
    begun = decoder_of or near
    config = config if begun is None else _deeper(begun.config, blocks)
    from_other = {name: one.fingerprint() for name, one in (("decoder of", decoder_of), ("near", near)) if one}
    run = Run(folder, {"vae": config.to_dict(), **from_other}, training)
    source = source or partial(random_crop, styles=training.styles)
    with torch.random.fork_rng():
        torch.random.manual_seed(training.seed)
        vae = VAE(config) if begun is None else deepened(begun, blocks)
    if begun is None:
        nn.init.constant_(vae.quant.bias[config.z_dim :], -4.0)  # little noise on the latents at first
    if decoder_of is not None:
        vae.encoder.requires_grad_(False)
        vae.quant.requires_grad_(False)
    held_out = np.random.default_rng(1)
    clips = [frames_to_video(render(sample_scene(held_out, split="held_out"), 17, 128, 128)) for _ in range(8)]
    lengths, weights = zip(*training.lengths, strict=True)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        frames = int(rng.choice(lengths, p=weights))
        batch = max(1, training.batch_frames // (frames + 1))
        textured = rng.random() < training.textures
        draw = texture_clip if textured else source
        video = torch.stack([draw(rng, frames, training.crop) for _ in range(batch)])
        if near is not None:
            with torch.no_grad():
                former = near.moments(video)[0]
            if rng.random() < training.former:
                return _distance(vae.reconstruct(former), video, training.squared)
        mean, logvar = vae.moments(video)
        z = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=generator)
        kl = (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean() / 2
        if decoder_of is not None and training.latent_noise:
            spread = torch.rand(batch, 1, 1, 1, 1, generator=generator) * training.latent_noise
            z = z + spread * torch.randn(z.shape, generator=generator) * config.latent_std[0]
        loss = _distance(vae.reconstruct(z), video, training.squared) + training.kl_weight * kl
        if near is not None and not textured:
            loss = loss + training.nearness * (near.normalise(mean) - near.normalise(former)).square().mean()
        if training.equivariance and decoder_of is None:
            small, target = F.avg_pool3d(z, (1, 2, 2)), F.avg_pool3d(video, (1, 2, 2))
            loss = loss + training.equivariance * _distance(vae.reconstruct(small), target, training.squared)
        return loss

    def validate(step: int, average: dict[str, Tensor]) -> None:
        smooth = VAE(config)
        smooth.load_state_dict(average)
        pairs = [(clip, smooth.decode(smooth.encode(clip))) for clip in clips]
        sheet = contact_sheet([video_to_frames(v) for pair in pairs for v in pair])
        write_video(run.samples / f"{step:06d}.png", sheet, 1, overwrite=True)
        run.log(step, psnr_128=float(np.mean([psnr(*pair) for pair in pairs])))  # last: it marks this as done

    fit(run, vae, loss_of, validate, stop_at=stop_at)
    if begun is not None:
        return vae.eval()
    rng = np.random.default_rng(2)
    measured = measure_latents(vae, [source(rng, lengths[0], training.crop) for _ in range(200)])
    result = VAE(measured)
    result.load_state_dict(vae.state_dict())
    return result.eval()
