"""Training the diffusion transformer on cached latents, together with a text encoder that knows the words already.

Rectified flow; every sample draws a task: make everything, or keep some patches (a prefix, a suffix, both ends, random
frames, a block of space) at level 0, or give every latent frame a level of its own (diffusion forcing, arXiv
2407.01392), or edit another clip (SDEdit's way from that one to this). The loss counts only what is not clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..checkpoint import Model
from ..config import DiTConfig, TextConfig
from ..dit import Attention, DiT
from ..flow import TIMESTEPS, add_noise, flow_loss, shift_for, training_levels
from ..patches import Grid, map_to_tokens
from ..pipeline import Pipeline
from ..sheet import contact_sheet
from ..text import TextEncoder, tokenize
from ..timeline import SOFT
from ..vae import VAE
from ..video import write_video
from ..world import Scene
from ..world.captions import canonical
from ..world.scene import Thing, check_words
from .latents import (
    HELD_OUT_VIDEOS,
    VIDEOS,
    Bucket,
    Subject,
    cache_of,
    canonical_of,
    caption_of,
    near_things,
    read_bucket,
    read_sources,
)
from .run import Run, Training, fit, rank
from .text import WORDS

PROMPTS = (
    "a red circle moves left on a sky background",
    "a blue square moves up on a sand background",
    "a yellow star spins on a night background",
    "a large purple triangle stays still on a mint background",
    "a green ring bounces on a pink background",
    "a white cross circles around on a gray background",
    "an orange circle grows over the sea",
    "a black square moves right and a red star moves down on a sky background",
)


@dataclass(frozen=True)
class DiTTraining(Training):
    learning_rate: float = 2.5e-3
    adamw: float = 0.2
    save_every: int = 250
    validate_every: int = 250
    sheet_every: int = 2000
    tokens: int = 1280  # a batch is as many clips of its bucket as give about this many tokens
    mix: tuple[tuple[str, float], ...] = (("17x64x64", 1.0),)  # buckets[:split] and how often each is drawn
    shift: float = 5.0  # at 80 tokens
    conditioned: float = 0.25  # share of samples with kept patches
    cued: float = 0.5  # share of turning scenes that go from their beginning to where the caption says
    independent: float = 0.1  # share of samples with a level per frame
    edited: float = 0.5  # share of styled scenes that begin from the same in plain style
    focus: float = 0.0  # how much more the loss counts near things of the world; see `focused`


EDIT_STRENGTHS = (0.7, 0.98)  # from which edits are learnt
KEPT = {"prefix": 0.25, "suffix": 0.25, "ends": 0.2, "frames": 0.1, "block": 0.2}  # what is kept, and how often


def draw_strengths(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A strength map (T, H, W) of a random kind: zeros (kept), ones (made), and half of the time, where what is kept
    stands behind what is made, `SOFT` at its first latent, as the tasks have it. Something is always made. Blocks of
    space are aligned to patches of 2x2."""
    frames, height, width = shape
    made = torch.ones(shape)
    kinds = {"block": 1.0} if frames == 1 else KEPT
    kind = rng.choice(list(kinds), p=list(kinds.values()))
    if kind == "prefix":
        made[: rng.integers(1, frames)] = 0
    elif kind == "suffix" or (kind == "ends" and frames < 3):
        first = int(rng.integers(1, frames))
        made[first:] = 0
        made[first] = SOFT * rng.integers(2)
    elif kind == "ends":
        made = draw_gap(rng, shape)
    elif kind == "frames":
        made[torch.from_numpy(rng.permutation(frames)[: rng.integers(1, frames)])] = 0
    else:
        top, left = (2 * int(rng.integers(0, size // 4 + 1)) for size in (height, width))
        inside = slice(top, top + max(2, height // 4 * 2)), slice(left, left + max(2, width // 4 * 2))
        block = torch.zeros(shape, dtype=torch.bool)
        block[:, *inside] = True
        made[block if rng.random() < 0.5 and not block.all() else ~block] = 0
        if not made.any():
            made[:] = 1
    return made


def draw_gap(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A strength map (T, H, W) that keeps both ends and makes what lies between, at most four fifths."""
    frames = shape[0]
    if frames < 3:
        raise ValueError(
            f"clips of {frames} latent frames have no gap between two ends; take buckets of 9 frames or more"
        )
    made = torch.zeros(shape)
    begin = int(rng.integers(max(1, frames // 5), max(2, frames * 2 // 5 + 1)))
    end = max(begin + 1, frames - int(rng.integers(1, max(2, frames // 5 + 1))))
    made[begin:end] = 1
    if end < frames:
        made[end] = SOFT * rng.integers(2)
    return made


def draw_turn(rng: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A strength map (T, H, W) that keeps the beginning alone, all but two frames at most: the first scene, before it
    turns or while it does, as the windows of a long clip see it where its text has changed."""
    made = torch.ones(shape)
    made[: int(rng.integers(1, max(2, shape[0] - 1)))] = 0
    return made


def draw_level_map(
    rng: np.random.Generator, generator: torch.Generator, training: DiTTraining, shape: tuple[int, int, int],
    shift: float,
) -> Tensor:  # fmt: skip
    """Level (1, T, H, W) of every latent of one sample."""
    kind = rng.random()
    if kind < training.independent:
        return training_levels(shape[0], generator, shift).view(1, -1, 1, 1).expand(1, *shape)
    level = training_levels(1, generator, shift).view(1, 1, 1, 1).expand(1, *shape)
    if kind < training.independent + training.conditioned:
        return level.minimum(draw_strengths(rng, shape))
    return level


def edit_noise(rng: np.random.Generator, x0: Tensor, source: Tensor, noise: Tensor, level: float) -> Tensor:
    """The noise of the way that an edit goes (SDEdit): from its source noised to the strength, drawn from
    `EDIT_STRENGTHS` but not below this level, straight to the clip x0 that is asked for. The way's point at the
    strength is the former, and at every lower level what a perfect edit has come to."""
    low, high = EDIT_STRENGTHS
    strength = float(rng.uniform(max(low, level), high)) if level < high else level
    return noise + (1 - strength) / strength * (source - x0)


def focused(level: Tensor, near: Tensor, focus: float) -> Tensor:
    """Weights of the loss: 1, and `focus` more near things, where these are few among much background. Only below the
    levels at which places are open: a weight by what the noise still hides would make things larger than they are."""
    return 1 + focus * near * ((0.9 - level) / 0.3).clamp(0, 1)


class Trainee(nn.Module):
    """The transformer and its text encoder, trained as one."""

    def __init__(
        self, dit: DiTConfig, text: TextConfig, tokenizer: Tokenizer, seed: int = 0, operations: Any = nn
    ) -> None:
        super().__init__()
        self.dit, self.text, self.tokenizer = DiT(dit, operations), TextEncoder(text), tokenizer
        if operations is not nn:
            for module in self.dit.modules():
                if isinstance(module, Attention):
                    module.product = operations.attention
        generator = torch.Generator().manual_seed(seed)
        self.dit.initialise(generator)
        self.text.initialise(generator)

    def forward(
        self, x0: Tensor, noise: Tensor, level: Tensor, captions: Sequence[str], weight: float | Tensor = 1.0
    ) -> Tensor:
        """Loss on latents x0 (B, C, T, H, W) noised to level (B, 1, T, H, W). weight: of every place, broadcastable."""
        context = self.text(tokenize(self.tokenizer, captions, self.text.config.max_tokens, warn=False).to(x0.device))
        tokens = map_to_tokens(level, Grid.of(tuple(x0.shape[2:]), self.dit.config.patch))
        if (tokens == tokens[:, :1]).all():
            tokens = tokens[:, 0]  # one level a sample costs less than one a token
        prediction = self.dit(add_noise(x0, noise, level), tokens * TIMESTEPS, context)
        return flow_loss(prediction, x0, noise, level, weight)


def deepened(dit: DiT, every: int) -> DiT:
    """With a copy behind every so many blocks whose last projections are zero: it adds nothing until it is trained."""
    if not 1 <= every <= dit.config.layers:
        raise ValueError(f"a copy behind every {every} blocks: the transformer has {dit.config.layers}")
    order = [n for n in range(dit.config.layers) for _ in range(2 if (n + 1) % every == 0 else 1)]
    deeper = DiT(replace(dit.config, layers=len(order)))
    beside_blocks = {name: weight for name, weight in dit.state_dict().items() if not name.startswith("blocks.")}
    deeper.load_state_dict(beside_blocks, strict=False)
    for place, number in enumerate(order):
        block = deeper.blocks[place]
        block.load_state_dict(dit.blocks[number].state_dict())
        if place and order[place - 1] == number:
            for last in (block.self_attn.o, block.cross_attn.o, block.ffn[2]):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
    return deeper


LEVELS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # of the validation


@torch.no_grad()
def validation_loss(trainee: Trainee, latents: Tensor, captions: Sequence[str]) -> float:
    """Loss at fixed levels, on the same noise every time."""
    generator = torch.Generator().manual_seed(0)
    losses = []
    for level in torch.tensor(LEVELS):
        noise = torch.randn(latents.shape, generator=generator)
        full = level.expand(latents.shape[0], 1, *latents.shape[2:])
        losses.append(float(trainee(latents, noise.to(latents), full.to(latents), captions)))
    return float(np.mean(losses))


def with_another(scenes: Sequence[Scene], attribute: str, seed: int = 0) -> list[str]:
    """Canonical captions of the world that are wrong in one attribute of the first thing."""
    rng = np.random.default_rng(seed)
    captions = []
    for scene in scenes:
        thing = scene.things[0]
        others = [replace(thing, **{attribute: w}) for w in WORDS[attribute] if w != getattr(thing, attribute)]
        others = [other for other in others if _is_of_the_world(scene, other)]
        captions.append(canonical(replace(scene, things=(others[rng.integers(len(others))], *scene.things[1:]))))
    return captions


def _is_of_the_world(scene: Scene, thing: Thing) -> bool:
    words = thing.shape, thing.colour, thing.motion, scene.background, scene.style, thing.size, thing.speed
    try:
        check_words(*words, scene.wall)
    except ValueError:
        return False
    return True


def held_out_of(cache: Path | str, bucket: Bucket, split: str, most: int = 32) -> tuple[Tensor, list[Subject]]:
    """At most so many latents (N, C, T, H, W) that training in this split never sees, from all over what there is, and
    what they show. Of very few videos none is held out; then those it is trained on, which the printed line says."""
    if split == VIDEOS:
        try:
            latents, subjects = read_bucket(cache, bucket, HELD_OUT_VIDEOS)
        except FileNotFoundError:
            print(f"no video of {bucket} is held out: validation is on those of the training")
            latents, subjects = read_bucket(cache, bucket, VIDEOS)
    else:
        latents, subjects = read_bucket(cache, bucket, "held_out")
    rows = torch.linspace(0, len(latents) - 1, min(most, len(latents))).round().long()
    return latents[rows], [subjects[row] for row in rows]


def wrong_captions(subjects: Sequence[Subject]) -> dict[str, list[str]]:
    """Captions that are wrong in one word each, by word; of videos, the next one's that differs, if any does."""
    scenes = [subject for subject in subjects if isinstance(subject, Scene)]
    if len(scenes) == len(subjects):
        return {attribute: with_another(scenes, attribute) for attribute in ("colour", "shape", "motion")}
    captions = [canonical_of(subject) for subject in subjects]
    different = list(dict.fromkeys(captions))
    if len(different) == 1:
        return {}
    following = dict(zip(different, different[1:] + different[:1], strict=True))
    return {"text": [following[caption] for caption in captions]}


def train_dit(
    folder: Path | str,
    cache: Path | str,
    trainee: Trainee,
    training: DiTTraining,
    vae: VAE | None = None,
    stop_at: int | None = None,
) -> Trainee:
    """Train, or go on with the run in `folder`; returns the trainee with averaged weights.

    cache: a latent cache with the buckets of `training.mix` and, for validation, held-out latents of the first.
    vae: draws sample sheets where given. stop_at: leave after this step, as a kill would.
    """
    latents_of = cache_of(cache)
    names, weights = zip(*training.mix, strict=True)
    shares = np.array(weights) / sum(weights)
    parts = [(Bucket.parse(size), split or "train") for size, _, split in (name.partition(":") for name in names)]
    buckets = [(*read_bucket(cache, bucket, split), read_sources(cache, bucket, split)) for bucket, split in parts]
    for bucket, (latents, subjects, _) in zip((bucket for bucket, _ in parts), buckets, strict=True):
        if latents.shape[2] < 3 and any(isinstance(one, Scene) and one.then is not None for one in subjects):
            raise ValueError(f"mix: scenes of {bucket} that turn have no middle; take them of 9 frames or more")
    device = next(trainee.parameters()).device
    if vae is not None and latents_of not in ("", vae.fingerprint()):
        raise ValueError(f"{cache} holds latents of another VAE than the one that draws the sheets; give that one")
    held_latents, held = held_out_of(cache, *parts[0])
    held_latents, captions = held_latents.float().to(device), [canonical_of(subject) for subject in held]
    smooth = Trainee(trainee.dit.config, trainee.text.config, trainee.tokenizer).to(device)
    _say_what_is_cut(trainee, [subject for _, subjects, _ in buckets for subject in subjects])
    networks = {"dit": trainee.dit.config.to_dict(), "text": trainee.text.config.to_dict(), "vae": latents_of}
    run = Run(folder, networks, training)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        bucket = buckets[rng.choice(len(buckets), p=shares)]
        *tensors, texts = draw_batch(rng, generator, training, *bucket, trainee.dit.config.patch)
        x0, noise, level, near = (tensor.to(device) for tensor in tensors)
        return trainee(x0, noise, level, texts, focused(level, near, training.focus))

    def validate(step: int, average: dict[str, Tensor]) -> None:
        smooth.load_state_dict(average)
        right = validation_loss(smooth, held_latents, captions)
        gains = {
            f"{name}_gain": validation_loss(smooth, held_latents, wrong) - right
            for name, wrong in wrong_captions(held).items()
        }
        if vae is not None and (step % training.sheet_every == 0 or step == training.steps):
            prompts = PROMPTS if parts[0][1] != VIDEOS else list(dict.fromkeys(captions))[: len(PROMPTS)]
            draw_sheet(smooth.cpu(), vae, parts[0][0], run.samples / f"{step:06d}.png", prompts)
            smooth.to(device)
        # Last, as it marks the validation as done. A model that does not read a word gains nothing from it.
        run.log(step, validation=right, **gains)

    fit(run, trainee, loss_of, validate, slow="text.", stop_at=stop_at)
    return trainee


def _say_what_is_cut(trainee: Trainee, subjects: Sequence[Subject]) -> None:
    captions = {caption for subject in subjects if not isinstance(subject, Scene) for caption in subject}
    most = trainee.text.config.max_tokens
    cut = sorted(c for c in captions if len(trainee.tokenizer.encode(c).ids) > most)
    if cut and rank() == 0:
        print(f"{len(cut)} of {len(captions)} captions are longer than the {most - 1} tokens that are read: {cut[0]}")


def draw_batch(
    rng: np.random.Generator,
    generator: torch.Generator,
    training: DiTTraining,
    latents: Tensor,
    subjects: Sequence[Subject],
    sources: Tensor | None,
    patch: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str]]:
    """Latents, noise, levels, places near things (B, 1, T, H, W) and captions of one batch of a bucket's latents.
    sources: what these were before they were edited, if anything."""
    shape = tuple(latents.shape[2:])
    length = Grid.of(shape, patch).length
    shift = shift_for(length, training.shift)
    rows = rng.integers(len(latents), size=max(1, round(training.tokens / length)))
    x0 = latents[torch.from_numpy(rows)].float()
    noise = torch.randn(x0.shape, generator=generator)
    levels, captions = [], []
    near = torch.stack([near_things(subjects[row], shape) for row in rows])[:, None]
    for i, row in enumerate(rows):
        subject = subjects[row]
        if sources is not None and rng.random() < training.edited:
            level = training_levels(1, generator, shift).view(1, 1, 1, 1)
            noise[i] = edit_noise(rng, x0[i], sources[row].float(), noise[i], float(level))
            levels.append(level.expand(1, *shape))
            captions.append(canonical_of(subject))  # short ones do not tell what the edit is
            continue
        if not isinstance(subject, Scene) or subject.then is None:
            levels.append(draw_level_map(rng, generator, training, shape, shift))
        else:  # a caption tells one scene of the two: both ends are kept, or the beginning where it tells the other
            over = rng.random() < training.cued
            made = draw_turn(rng, shape) if over else draw_gap(rng, shape)
            levels.append(training_levels(1, generator, shift).view(1, 1, 1, 1).minimum(made))
            subject = subject.then if over or rng.random() < 0.5 else replace(subject, then=None)
        captions.append(caption_of(subject, rng))
    return x0, noise, torch.stack(levels), near, captions


def draw_sheet(trainee: Trainee, vae: VAE, bucket: Bucket, path: Path, prompts: Sequence[str] = PROMPTS) -> None:
    """Clips of fixed prompts as a contact sheet."""
    pipeline = Pipeline(Model(trainee.dit, vae, trainee.text, trainee.tokenizer))
    shape = vae.latent_shape(bucket.frames, bucket.height, bucket.width)
    latents = pipeline.sample(list(prompts), shape, seeds=list(range(len(prompts))))
    sheet = contact_sheet([pipeline.decode(z[None]) for z in latents], prompts)
    write_video(path, sheet, 1, overwrite=True)
