"""Laws of the scoring."""

from __future__ import annotations

import numpy as np
import pytest

from sora_core.evaluate import evaluate, interval, judge
from sora_core.pipeline import Pipeline
from sora_core.world import render, scene_of


def test_judge_tells_right_from_wrong() -> None:
    rng = np.random.default_rng(0)
    scene = scene_of("square", "blue", "moves up", "sand", rng=rng)
    frames = render(scene, 17, 128, 128)
    assert all(judge(frames, scene, "single").values())
    wrong = judge(frames.flip(0), scene_of("square", "red", "moves up", "sand", rng=rng), "single")
    assert wrong == {"colour": False, "shape": True, "motion": False, "background": True, "all": False}


def test_interval_holds_the_share() -> None:
    low, high = interval(90, 100)
    assert low == pytest.approx(0.826, abs=1e-3) and high == pytest.approx(0.945, abs=1e-3)


def test_evaluate_counts_every_clip(pipeline: Pipeline) -> None:
    kinds = ("single", "paraphrase", "two", "wall")
    scores = evaluate(pipeline, clips=2, kinds=kinds, quiet=True, steps=1, cfg=1)
    assert set(scores) == set(kinds)
    assert {split: s["all"]["total"] for split, s in scores["single"].items()} == {"seen": 1, "held out": 1}
    assert scores["two"]["any"]["both"]["total"] == 2 and scores["wall"]["any"]["same"]["total"] == 2
    with pytest.raises(ValueError, match="kind 'many' is not known"):
        evaluate(pipeline, kinds=("many",))
    with pytest.raises(ValueError, match="clips is 1: it has to be at least 2"):
        evaluate(pipeline, clips=1)
    with pytest.raises(ValueError, match="batch is 0"):
        evaluate(pipeline, batch=0)
