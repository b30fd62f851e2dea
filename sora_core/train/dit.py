"""Training the diffusion transformer on cached latents, together with a text encoder that knows the words already.

Rectified flow on the batches that `batches` draws; the loss counts only what is not clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..checkpoint import Model
from ..config import DiTConfig, TextConfig
from ..dit import Attention, DiT
from ..files import replacing
from ..flow import TIMESTEPS, add_noise, flow_loss
from ..patches import Grid, map_to_tokens
from ..pipeline import Pipeline
from ..sheet import contact_sheet
from ..text import TextEncoder, tokenize
from ..vae import VAE
from ..video import write_video
from ..world import Scene
from ..world.captions import canonical
from ..world.scene import Thing, check_words
from .batches import Clips, DiTTraining, draw_batch, focused
from .latents import HELD_OUT_VIDEOS, VIDEOS, Bucket, Subject, cache_of, canonical_of, read_bucket
from .masks import MaskHead
from .run import Run, fit, rank
from .text import WORDS
from .windows import FEWEST, SMALLEST

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


class Trainee(nn.Module):
    """The transformer and its text encoder, trained as one. masks: and a head that tells from the former's tokens what
    things cover."""

    def __init__(
        self,
        dit: DiTConfig,
        text: TextConfig,
        tokenizer: Tokenizer,
        seed: int = 0,
        operations: Any = nn,
        masks: bool = False,
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
        self.mask_head = MaskHead(self.dit) if masks else None
        if self.mask_head is not None:
            self.mask_head.initialise(generator)

    def forward(
        self,
        x0: Tensor,
        noise: Tensor,
        level: Tensor,
        captions: Sequence[str],
        weight: float | Tensor = 1.0,
        places: Tensor | None = None,
    ) -> Tensor:
        """Loss on latents x0 (B, C, T, H, W) noised to level (B, 1, T, H, W). weight: of every place, broadcastable.
        places: of the tokens of windows, see `Batch`."""
        context = self.text(tokenize(self.tokenizer, captions, self.text.config.max_tokens, warn=False).to(x0.device))
        tokens = map_to_tokens(level, Grid.of(tuple(x0.shape[2:]), self.dit.config.patch))
        if (tokens == tokens[:, :1]).all():
            tokens = tokens[:, 0]  # one level a sample costs less than one a token
        prediction = self.dit(add_noise(x0, noise, level), tokens * TIMESTEPS, context, places)
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
    buckets = [Clips.read(cache, bucket, split) for bucket, split in parts]
    for (bucket, _), clips in zip(parts, buckets, strict=True):
        turns = any(isinstance(one, Scene) and one.then is not None for one in clips.subjects)
        if clips.latents.shape[2] < 3 and turns:
            raise ValueError(f"mix: scenes of {bucket} that turn have no middle; take them of 9 frames or more")
    device = next(trainee.parameters()).device
    if vae is not None and latents_of not in ("", vae.fingerprint()):
        raise ValueError(f"{cache} holds latents of another VAE than the one that draws the sheets; give that one")
    held_latents, held = held_out_of(cache, *parts[0])
    held_latents, captions = held_latents.float().to(device), [canonical_of(subject) for subject in held]
    patch, masks = trainee.dit.config.patch, trainee.mask_head is not None
    if masks != bool(training.masks):
        raise ValueError("masks: a trainee has the head for them where their weight is above 0, and only there")
    if training.windows:
        buckets = [clips.with_windows(patch) for clips in buckets]
        _check_windows(trainee, names, buckets)
    check_tokenizer(Path(folder), trainee.tokenizer)
    smooth = Trainee(trainee.dit.config, trainee.text.config, trainee.tokenizer, masks=masks).to(device)
    _say_what_is_cut(trainee, [subject for clips in buckets for subject in clips.subjects])
    networks = {"dit": trainee.dit.config.to_dict(), "text": trainee.text.config.to_dict(), "vae": latents_of}
    networks |= {"masks": True} if masks else {}
    run = Run(folder, networks, training)
    if rank() == 0:
        with replacing(run.folder / "tokenizer.json") as partial:
            trainee.tokenizer.save(str(partial))

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        clips = buckets[rng.choice(len(buckets), p=shares)]
        batch = draw_batch(rng, generator, training, clips, patch).to(device)
        weight = focused(batch.level, batch.near, training.focus)
        loss = trainee(batch.x0, batch.noise, batch.level, batch.captions, weight, batch.places)
        if trainee.mask_head is not None:
            loss = loss + training.masks * trainee.mask_head(batch.covered, batch.near)
        return loss

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


def check_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Raises ValueError where the run in a folder has learnt with another."""
    path = folder / "tokenizer.json"
    if (
        path.exists()
        and (folder / "state.pt").exists()
        and Tokenizer.from_file(str(path)).to_str() != tokenizer.to_str()
    ):
        raise ValueError(f"{folder} holds a run with another tokenizer; choose another folder")


def _check_windows(trainee: Trainee, names: Sequence[str], buckets: list[Clips]) -> None:
    """Print which buckets have no windows. Raises ValueError where none has, or where the model would not know them."""
    whole = [name for name, clips in zip(names, buckets, strict=True) if clips.windows and not clips.windows.sizes]
    if len(whole) == len(buckets):
        raise ValueError(
            f"windows: no bucket of the mix can be cut: it takes sides of about {2 * SMALLEST} tokens (192 pixels of "
            f"sora-mini's) and {FEWEST} scenes that fit; leave --windows out, or take larger ones"
        )
    if not trainee.dit.config.absolute:
        raise ValueError("windows: this transformer has no absolute positions, so it cannot be told of windows")
    if whole and rank() == 0:
        print(f"not cut to windows, for their size or for what they show: {', '.join(dict.fromkeys(whole))}")


def _say_what_is_cut(trainee: Trainee, subjects: Sequence[Subject]) -> None:
    captions = {caption for subject in subjects if not isinstance(subject, Scene) for caption in subject}
    most = trainee.text.config.max_tokens
    cut = sorted(c for c in captions if len(trainee.tokenizer.encode(c).ids) > most)
    if cut and rank() == 0:
        print(f"{len(cut)} of {len(captions)} captions are longer than the {most - 1} tokens that are read: {cut[0]}")


def draw_sheet(trainee: Trainee, vae: VAE, bucket: Bucket, path: Path, prompts: Sequence[str] = PROMPTS) -> None:
    """Clips of fixed prompts as a contact sheet."""
    pipeline = Pipeline(Model(trainee.dit, vae, trainee.text, trainee.tokenizer))
    shape = vae.latent_shape(bucket.frames, bucket.height, bucket.width)
    latents = pipeline.sample(list(prompts), shape, seeds=list(range(len(prompts))))
    sheet = contact_sheet([pipeline.decode(z[None]) for z in latents], prompts)
    write_video(path, sheet, 1, overwrite=True)
