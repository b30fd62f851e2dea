"""Training the causal VAE on clips of the procedural world, or on any source of clips.

Loss: L1 + MSE + a small KL. Crops of several lengths, some single images: where a clip is longer than any crop was, its
colours drift. Muon on the kernels: with AdamW the same network needs three to four times the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..config import VAEConfig
from ..vae import VAE
from ..video import contact_sheet
from ..world import render, sample_scene
from .run import Average, Optimizers, Run, clip_gradients, learning_rate


@dataclass(frozen=True)
class VAETraining:
    steps: int = 6000
    crop: int = 64  # side of the square crops, pixels
    lengths: tuple[tuple[int, float], ...] = ((17, 0.4), (9, 0.4), (1, 0.2))  # frames of a crop, how often
    batch_frames: int = 40  # a batch is as many crops as give about this many frames
    learning_rate: float = 1e-3
    kl_weight: float = 1e-6
    average: float = 0.998
    seed: int = 0
    log_every: int = 100
    save_every: int = 200
    validate_every: int = 500


def to_video(frames: Tensor) -> Tensor:
    """Frames (T, H, W, 3) in 0..1 to video (3, T, H, W) in -1..1."""
    return rearrange(frames, "t h w c -> c t h w") * 2 - 1


def random_crop(rng: np.random.Generator, frames: int, crop: int) -> Tensor:
    """A crop (3, frames, crop, crop) of a world clip. Of two places the livelier one is kept: flat background teaches
    nothing."""
    side = int(rng.choice([1.0, 1.5, 2.0, 3.0], p=[0.3, 0.2, 0.35, 0.15]) * crop)
    length = frames if frames == 1 else int(rng.choice([frames, 2 * frames - 1]))
    clip = render(sample_scene(rng), length, side, side)
    begin = int(rng.integers(length - frames + 1))
    clip = clip[begin : begin + frames]
    places = [rng.integers(side - crop + 1, size=2) for _ in range(2)]
    crops = [clip[:, y : y + crop, x : x + crop] for y, x in places]
    return to_video(max(crops, key=lambda c: float(c[frames // 2].std())))


def psnr(a: Tensor, b: Tensor) -> float:
    """PSNR in dB of two videos in -1..1."""
    return float(-10 * torch.log10(((a - b) / 2).square().mean()))


@torch.no_grad()
def validate(vae: VAE, clips: list[Tensor]) -> tuple[float, list[Tensor]]:
    """Mean PSNR over clips (3, T, H, W), and their reconstructions."""
    out = [vae.decode(vae.encode(clip[None]))[0] for clip in clips]
    return float(np.mean([psnr(a, b) for a, b in zip(clips, out, strict=True)])), out


@torch.no_grad()
def measure_latents(vae: VAE, clips: list[Tensor]) -> VAEConfig:
    """Config with the per-channel mean and deviation of the clips' latents."""
    z = torch.cat([rearrange(vae.moments(clip[None])[0], "b c t h w -> c (b t h w)") for clip in clips], dim=1)
    return replace(vae.cfg, latent_mean=tuple(z.mean(1).tolist()), latent_std=tuple(z.std(1).tolist()))


def train_vae(
    folder: Path | str,
    config: VAEConfig,
    training: VAETraining,
    source: Callable[[np.random.Generator, int, int], Tensor] = random_crop,
    stop_at: int | None = None,
) -> VAE:
    """Train, or go on with the run in `folder`; returns the averaged VAE with its latent statistics measured.

    source(rng, frames, crop) gives one clip (3, T, H, W). stop_at: leave after this step, as a kill would.
    """
    run = Run(folder, {"vae": config.to_dict(), "training": asdict(training)}, training.seed)
    torch_rng = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng():
        torch.random.manual_seed(training.seed)
        vae = VAE(config)
    torch.nn.init.constant_(vae.quant.bias[config.z_dim :], -4.0)  # little noise on the latents at first
    parameters = list(vae.parameters())
    optimizer = Optimizers(vae, training.learning_rate)
    average, step, norms = Average(vae, training.average), 0, []
    if state := run.load():
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.values, step, norms = state["average"], state["step"], state["norms"]

    held_out = np.random.default_rng(1)
    clips = [to_video(render(sample_scene(held_out, split="held_out"), 17, 128, 128)) for _ in range(8)]
    losses: list[float] = []
    while step < training.steps:
        rng = run.generator(step)
        torch_rng.manual_seed(int(rng.integers(2**62)))
        lengths, weights = zip(*training.lengths, strict=True)
        frames = int(rng.choice(lengths, p=weights))
        batch = max(1, training.batch_frames // (frames + 1))
        video = torch.stack([source(rng, frames, training.crop) for _ in range(batch)])
        video = video.contiguous(memory_format=torch.channels_last_3d)

        mean, logvar = vae.moments(video)
        z = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=torch_rng)
        error = vae.reconstruct(z) - video
        kl = (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean() / 2
        loss = error.abs().mean() + error.square().mean() + training.kl_weight * kl
        optimizer.zero_grad()
        loss.backward()
        if clip_gradients(parameters, norms):
            optimizer.step(learning_rate(step, training.steps))
            average.update(vae, step)
        losses.append(float(error.detach().square().mean()))
        step += 1

        if step % training.log_every == 0:
            run.log(step, mse=float(np.mean(losses)), kl=float(kl.detach()))
            losses.clear()
        if step % training.validate_every == 0 or step == training.steps:
            smooth = VAE(config)
            smooth.load_state_dict(average.values)
            quality, out = validate(smooth, clips)
            run.log(step, psnr_128=quality)
            rows = [rearrange((v + 1) / 2, "c t h w -> t h w c") for pair in zip(clips, out, strict=True) for v in pair]
            contact_sheet(rows, run.folder / "samples" / f"{step:06d}.png", overwrite=True)
        if step % training.save_every == 0 or step == training.steps:
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "average": average.values}
            run.save(**state, step=step, norms=norms)
        if step == stop_at:
            break

    vae.load_state_dict(average.values)
    rng = np.random.default_rng(2)
    result = VAE(measure_latents(vae, [source(rng, training.lengths[0][0], training.crop) for _ in range(200)]))
    result.load_state_dict(vae.state_dict())
    return result
