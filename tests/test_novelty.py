"""Laws of telling a model that repeats its training, or falls into a habit, from one that makes clips of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sora_core.checkpoint import Model
from sora_core.evaluate import clips_of
from sora_core.pipeline import Pipeline
from sora_core.train.__main__ import main
from sora_core.train.latents import Bucket, fill_bucket
from sora_core.train.novelty import nearest, novelty
from sora_core.vae import VAE
from sora_core.world import canonical, render, scene_of

BUCKET = Bucket(5, 64, 64)


def test_a_training_clip_is_its_own_nearest(generator: torch.Generator) -> None:
    training = torch.randn(700, 2, 3, 4, 4, generator=generator)
    distance, index = nearest(training[[650, 3]] + 0.01, training)
    assert index.tolist() == [650, 3]
    assert torch.allclose(distance, torch.tensor([0.01, 0.01]), atol=1e-4)
    distance, _ = nearest(torch.randn(8, 2, 3, 4, 4, generator=generator), training)
    assert (distance > 0.5).all()


@pytest.fixture(scope="module")
def found(bundled: Model) -> tuple[dict, list[int]]:
    """Novelty of four clips, where the training set holds the last two of them among others."""
    pipeline, rng = Pipeline(bundled), np.random.default_rng(5)
    scene = scene_of("circle", "red", "moves left", "sky", rng=rng)
    shape = bundled.vae.latent_shape(BUCKET.frames, BUCKET.height, BUCKET.width)
    made = list(clips_of(pipeline, [(canonical(scene), seed) for seed in range(4)], shape, 4, steps=4))
    others = [
        render(scene_of("square", "green", "grows", "mint", rng=rng), BUCKET.frames, BUCKET.height, BUCKET.width)
        for _ in range(3)
    ]
    training = torch.cat([pipeline.encode(clip) for clip in [*others, made[3], made[2]]])
    measures, pairs = novelty(pipeline, scene, training, BUCKET, seeds=4, steps=4)
    assert all(torch.equal(clip, before) for (clip, _), before in zip(pairs, made, strict=True))
    return measures, [index for _, index in pairs]


def test_what_repeats_a_training_clip_is_found_beside_it(found: tuple[dict, list[int]]) -> None:
    measures, indices = found
    assert indices[2:] == [4, 3]
    assert measures["made"]["distance, least"] < 0.01 < 0.1 < measures["world"]["distance, least"]


def test_seeds_spread_as_the_scenes_that_were_drawn(found: tuple[dict, list[int]]) -> None:
    rng = np.random.default_rng(0)
    things = [scene_of("circle", "red", "moves left", "sky", rng=rng).things[0] for _ in range(4)]
    for measure, values in (("radius", [t.radius for t in things]), ("y", [t.y for t in things])):
        assert found[0]["world"][f"spread of {measure}"] == pytest.approx(np.std(values, ddof=1), rel=0.2), measure


def test_novelty_is_measured_in_the_latents_of_its_model(
    untrained: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_bucket(untrained, tmp_path, Bucket(1, 32, 32), 1)
    arguments = ["novelty", "--cache", str(tmp_path), "--bucket", "1x32x32", "--out", str(tmp_path / "new.png")]
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit, match="holds latents of another VAE than the model's"):
        main()
