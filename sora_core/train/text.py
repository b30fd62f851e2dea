"""Teaching the text encoder the words before it meets the transformer: from every caption of the world it has to tell
what the scene holds.

A transformer's loss hardly depends on the words for motion and shape at first, and an encoder that learns from it alone
forgets to tell them apart; then they are never learned. So it begins with features in which they are apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..config import TextConfig
from ..text import TextEncoder, tokenize
from ..world import BACKGROUNDS, COLOURS, MOTIONS, SCENES, SHAPES, SIZES, STYLES, Scene, sample_scene
from ..world.captions import draw_caption
from ..world.scene import SPEEDS
from .run import Run, Training, fit

WORDS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES, "colour": tuple(COLOURS), "motion": MOTIONS, "size": tuple(SIZES), "speed": tuple(SPEEDS),
}  # fmt: skip
QUESTIONS = {
    **{f"{name} {i}": (*words, "none") for i in (1, 2) for name, words in WORDS.items()},
    "background": (*BACKGROUNDS, *SCENES), "style": STYLES, "wall": ("no", "yes"),
}  # fmt: skip


def answers(scene: Scene) -> list[int]:
    """Index of the right answer to every question."""
    given = {"background": scene.background, "style": scene.style, "wall": "yes" if scene.wall else "no"}
    for i in (1, 2):
        thing = scene.things[i - 1] if i <= len(scene.things) else None
        given |= {f"{name} {i}": getattr(thing, name, "none") for name in WORDS}
    return [choices.index(given[question]) for question, choices in QUESTIONS.items()]


class Reader(nn.Module):
    """The encoder, and one attention over its features per question, as the transformer will read them."""

    def __init__(self, config: TextConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.text, self.tokenizer = TextEncoder(config), tokenizer
        self.queries = nn.Parameter(torch.empty(len(QUESTIONS), config.dim))
        self.key, self.value = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, config.dim)
        self.heads = nn.ModuleList(nn.Linear(config.dim, len(choices)) for choices in QUESTIONS.values())
        self.text.initialise(torch.Generator().manual_seed(0))
        nn.init.normal_(self.queries, generator=torch.Generator().manual_seed(1))

    def forward(self, captions: list[str]) -> list[Tensor]:
        """Logits (B, choices) for every question."""
        features = self.text(tokenize(self.tokenizer, captions, self.text.config.max_tokens))  # B S D
        asked = F.scaled_dot_product_attention(
            self.queries.expand(len(captions), -1, -1), self.key(features), self.value(features)
        )
        return [head(asked[:, i]) for i, head in enumerate(self.heads)]


def train_text(
    folder: Path | str, config: TextConfig, tokenizer: Tokenizer, training: Training, batch: int = 64
) -> TextEncoder:
    """Train, or go on with the run in `folder`; returns the encoder with averaged weights."""
    run = Run(folder, {"text": config.to_dict()}, training)
    with torch.random.fork_rng():
        torch.random.manual_seed(training.seed)
        reader = Reader(config, tokenizer)
    smooth = Reader(config, tokenizer)

    def draw(rng: np.random.Generator, count: int) -> tuple[list[str], Tensor]:
        scenes = [sample_scene(rng, 1.0) for _ in range(count)]
        captions = [draw_caption(scene, rng) for scene in scenes]
        told = [(caption, answers(scene)) for caption, scene in zip(captions, scenes, strict=True) if caption]
        return [caption for caption, _ in told], torch.tensor([row for _, row in told])

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        captions, right = draw(rng, batch)
        return torch.stack([F.cross_entropy(logits, right[:, i]) for i, logits in enumerate(reader(captions))]).mean()

    @torch.no_grad()
    def validate(step: int, average: dict[str, Tensor]) -> None:
        smooth.load_state_dict(average)
        captions, right = draw(np.random.default_rng(1), 500)
        shares = [float((logits.argmax(1) == right[:, i]).float().mean()) for i, logits in enumerate(smooth(captions))]
        run.log(step, **{question: round(share, 3) for question, share in zip(QUESTIONS, shares, strict=True)})

    fit(run, reader, loss_of, validate)
    return reader.text
