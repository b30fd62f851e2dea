"""Laws of telling a model that repeats its training, or falls into a habit, from one that makes clips of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sora_core.checkpoint import Model
from sora_core.pipeline import Pipeline
from sora_core.train.__main__ import main
from sora_core.train.latents import Bucket, fill_bucket
from sora_core.train.novelty import nearest, novelty
from sora_core.vae import VAE
from sora_core.world import Scene, canonical, render, sample_scene, scene_of

BUCKET = Bucket(5, 64, 64)


def test_a_training_clip_is_its_own_nearest(generator: torch.Generator) -> None:
    training = torch.randn(700, 2, 3, 4, 4, generator=generator)
    distance, index = nearest(training[[650, 3]] + 0.01, training)
    assert index.tolist() == [650, 3]
    assert torch.allclose(distance, torch.tensor([0.01, 0.01]), atol=1e-4)
    distance, _ = nearest(torch.randn(8, 2, 3, 4, 4, generator=generator), training)
    assert (distance > 0.5).all()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(5)
    return [sample_scene(rng, split="plain") for _ in range(6)]


def drawn(scenes: list[Scene], pipeline: Pipeline) -> torch.Tensor:
    clips = [render(scene, BUCKET.frames, BUCKET.height, BUCKET.width) for scene in scenes]
    return torch.cat([pipeline.encode(clip) for clip in clips])


def test_what_repeats_its_training_is_found_beside_it(bundled: Model, scenes: list[Scene]) -> None:
    """A training set that holds what the model makes in the words of its clips, and one that does not."""
    pipeline = Pipeline(bundled)
    training = drawn(scenes, pipeline)
    fresh, asked = novelty(pipeline, training, scenes, BUCKET, clips=4, steps=4)
    assert {prompt for prompt, *_ in asked} <= set(map(canonical, scenes))
    rows = np.random.default_rng(0).choice(len(scenes), 4, replace=False).tolist()
    assert [prompt for prompt, *_ in asked] == [canonical(scenes[row]) for row in rows]
    learnt = training.clone()
    for row, (_, clip, _) in zip(rows, asked, strict=True):
        learnt[row] = pipeline.encode(clip)[0]
    repeated, again = novelty(pipeline, learnt, scenes, BUCKET, clips=4, steps=4)
    assert [index for *_, index in again] == rows
    assert repeated["made"]["distance, median"] < 0.01 < 0.1 < repeated["world"]["distance, least"] < 2
    assert 0.1 < fresh["made"]["distance, least"] < 2


def test_seeds_spread_as_the_scenes_that_are_drawn(bundled: Model) -> None:
    words, clips = ("square", "blue", "moves left", "sky"), 5
    scene = scene_of(*words, rng=np.random.default_rng(5))
    pipeline = Pipeline(bundled)
    found, _ = novelty(pipeline, drawn([scene], pipeline), [scene], BUCKET, clips=clips, steps=1)
    rng = np.random.default_rng(0)
    rng.choice(1, 1, replace=False)
    _, *things = [scene_of(*words, rng=rng).things[0] for _ in range(1 + clips)]
    for measure, values in (("radius", [t.radius for t in things]), ("y", [t.y for t in things])):
        assert found["world"][f"spread of {measure}"] == pytest.approx(np.std(values, ddof=1), rel=0.2), measure


def test_clips_that_cannot_be_drawn_by_their_words_are_refused(pipeline: Pipeline, scenes: list[Scene]) -> None:
    with pytest.raises(ValueError, match="of 6 training clips none shows one plain thing"):
        novelty(pipeline, torch.zeros(6, 4, 2, 8, 8), [replace(scene, style="neon") for scene in scenes], BUCKET)


def test_novelty_is_measured_in_the_latents_of_its_model(
    untrained: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_bucket(untrained, tmp_path, Bucket(1, 32, 32), 1)
    arguments = ["novelty", "--cache", str(tmp_path), "--bucket", "1x32x32", "--out", str(tmp_path / "new.png")]
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit, match="holds latents of another VAE than the model's"):
        main()
