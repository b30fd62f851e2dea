"""Texts for parts of the frame: every place listens to its own, and parts fit together without a trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sora_core.checkpoint import Model, save_checkpoint
from sora_core.cli import main
from sora_core.denoiser import Denoiser
from sora_core.flow import StrengthMap, schedule
from sora_core.patches import Grid, tokens_to_map
from sora_core.pipeline import Pipeline
from sora_core.regions import Box, Composed, Window, cut_map, halves, placed
from sora_core.samplers import sample_euler
from sora_core.video import read_video
from sora_core.world import canonical, paraphrase, sample_scene
from sora_core.world.prompts import apart

ONE, OTHER, THIRD = "a red circle grows", "a blue square spins", "a green star stays still"
SHAPE = (2, 8, 8)  # latents
GRID = Grid.of(SHAPE, (1, 2, 2))
LEFT, RIGHT = Box(width=0.5), Box(left=0.5, width=0.5)


def made(pipeline: Pipeline, prompt: str, *regions: tuple[str, Box], **options: Tensor) -> Tensor:
    return pipeline.sample([prompt], SHAPE, seeds=[3], regions=[([text], box) for text, box in regions], **options)


def random_boxes(rng: np.random.Generator, count: int) -> list[Box]:
    begins, sizes = rng.uniform(0, 0.9, (count, 2)), rng.uniform(0.1, 1, (count, 2))
    return [Box(*b, *np.minimum(s, 1 - b)) for b, s in zip(begins, sizes, strict=True)]


def test_halves_cover_every_frame_and_overlap() -> None:
    for height in range(2, 20):
        for width in range(2, 20):
            grid = Grid(1, height, width, (1, 2, 2))
            windows = [box.window(grid) for box in halves(width, height)]
            seen = torch.zeros(2 * height, 2 * width)
            for window in windows:
                window.cut(seen).add_(1)
            assert seen.min() == 1 and (seen.max() == 2 or max(height, width) < 5)
            assert all(n % 2 == 0 for w in windows for n in (w.top, w.bottom, w.left, w.right))


def test_parts_of_one_model_are_that_model() -> None:
    """Wherever the windows lie, and whether or not they leave a rest."""
    rng, grid = np.random.default_rng(0), Grid(2, 6, 9, (1, 2, 2))
    x = torch.randn(2, 3, *grid.latent_shape, generator=torch.Generator().manual_seed(0))

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return 2 * x + sigma[0]

    for count in (1, 2, 5):
        parts = placed([("", box) for box in random_boxes(rng, count)], grid)
        out = Composed([(model, window, weight) for _, window, weight in parts])(x, torch.ones(2))
        torch.testing.assert_close(out, 2 * x + 1)


def test_parts_that_overlap_go_over_into_each_other() -> None:
    grid = Grid(1, 4, 12, (1, 2, 2))
    windows = [box.window(grid) for box in halves(3, 1)]  # 7 patches each, of which 2 are shared
    models = [lambda x, sigma, value=value: torch.full_like(x, value) for value in (0.0, 1.0)]
    parts = [(model, window, 1.0) for model, window in zip(models, windows, strict=True)]
    row = Composed(parts)(torch.zeros(1, 1, *grid.latent_shape), torch.ones(1))[0, 0, 0, 0]
    first, second = (window.weights(8, 24)[0] for window in windows)
    mixed = second[:4] / (first[-4:] + second[:4])
    torch.testing.assert_close(row, torch.cat([torch.zeros(10), mixed, torch.ones(10)]))
    assert (mixed.diff() > 0).all()


def test_a_region_over_the_whole_frame_is_its_text_alone(pipeline: Pipeline) -> None:
    assert torch.equal(made(pipeline, OTHER, (ONE, Box())), made(pipeline, ONE))


def test_a_place_listens_to_its_own_text_alone(pipeline: Pipeline) -> None:
    one, other = (made(pipeline, "", (ONE, LEFT), (text, RIGHT)) for text in (OTHER, THIRD))
    assert torch.equal(one[..., :4], other[..., :4])
    assert (one[..., 4:] - other[..., 4:]).abs().max() > 1e-3


def test_parts_that_do_not_overlap_are_their_clips_alone(tiny: Model, generator: torch.Generator) -> None:
    """Also under a map, which every part sees as its own."""
    known, noise = (torch.randn(1, 4, *SHAPE, generator=generator) for _ in range(2))
    strength = tokens_to_map(torch.rand(1, GRID.length, generator=generator), GRID)
    task = StrengthMap(strength, known, noise, schedule(4))
    texts = [tiny.dit.prepare_text(torch.randn(1, 4, tiny.dit.config.text_dim, generator=generator)) for _ in range(2)]
    windows = [box.window(GRID) for box in (LEFT, RIGHT)]
    parts = [
        Denoiser(tiny.dit, text, strengths=cut_map(task, window)) for text, window in zip(texts, windows, strict=True)
    ]
    whole = Composed([(part, window, 1.0) for part, window in zip(parts, windows, strict=True)])
    together = sample_euler(whole, noise, schedule(4), disable=True)
    for part, window in zip(parts, windows, strict=True):
        alone = sample_euler(part, window.cut(noise), schedule(4), disable=True)
        torch.testing.assert_close(window.cut(together), alone, atol=1e-5, rtol=1e-5)


def test_the_rest_is_read_where_regions_leave_one(pipeline: Pipeline) -> None:
    left, covered = [(ONE, LEFT)], [(ONE, LEFT), (OTHER, RIGHT)]
    assert not torch.equal(made(pipeline, OTHER, *left), made(pipeline, THIRD, *left))
    assert torch.equal(made(pipeline, OTHER, *covered), made(pipeline, THIRD, *covered))


def test_beside_a_region_the_text_of_the_rest_counts_a_tenth() -> None:
    """And where there is no region, alone; so no edge shows, and a region's own text is hardly mixed."""
    parts = placed([("", Box(width=0.5))], GRID)
    texts = [lambda x, sigma, of=float(text is not None): torch.full_like(x, of) for text, _, _ in parts]
    mixed = Composed([(of, *part[1:]) for of, part in zip(texts, parts, strict=True)])
    row = mixed(torch.zeros(1, 1, *SHAPE), torch.ones(1))[0, 0, 0, 0]
    assert row[0] == pytest.approx(1 / 1.1) and row[4:].tolist() == [0] * 4


def test_regions_keep_what_a_map_keeps(pipeline: Pipeline) -> None:
    known = torch.randn(1, 4, *SHAPE, generator=torch.Generator().manual_seed(5))
    strength = torch.ones(1, 1, *SHAPE)
    strength[..., 2:6] = 0
    strength[:, :, 1, :4] = 0.5
    out = made(pipeline, "", (ONE, LEFT), (OTHER, RIGHT), known=known, strength=strength)
    kept = (strength == 0).expand_as(out)
    assert torch.equal(out[kept], known[kept]) and (out - known)[~kept].abs().min() > 0


def test_clips_of_a_batch_have_their_own_regions(pipeline: Pipeline) -> None:
    both = pipeline.sample(["", ""], SHAPE, seeds=[3, 4], regions=[([ONE, THIRD], LEFT), ([OTHER, ONE], RIGHT)])
    torch.testing.assert_close(both[:1], made(pipeline, "", (ONE, LEFT), (OTHER, RIGHT)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("box", [(0.6, 0, 0.5, 1), (0, -0.1, 1, 1), (0, 0, 0, 1), (0, 0.5, 1, 0.6)])
def test_a_box_outside_the_frame_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ends inside the frame"):
        Box(*box)


def test_regions_and_ramps_are_not_mixed(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match="ramps and regions"):
        pipeline.sample([ONE], SHAPE, seeds=[0], ramps=[([OTHER], torch.ones(2))], regions=[([ONE], LEFT)])


def test_edges_inside_the_frame_fade_and_others_do_not() -> None:
    weights = Window(0, 8, 4, 20).weights(16, 20)
    assert weights[0, -1] == 1 and (weights > 0).all()
    assert torch.equal(weights[0, :4], torch.tensor([0.25, 0.5, 0.75, 1])) and weights[-1, -1] == 0.5


# ---- two things of one text


def test_two_things_are_told_apart_however_they_are_said() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = sample_scene(rng, split="pairs")
        alone = [canonical(replace(scene, things=(thing,))) for thing in scene.things]
        expected = alone if len(alone) == 2 else []
        assert apart(canonical(scene)) == expected
        if scene.things[0].size == scene.things[-1].size == "medium":
            assert apart(paraphrase(scene, rng)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "a red circle behind a wall",
        "two horses run",
        "red and blue",
        "a red star, a blue ring and a green cross",
        "a red circle without a blue star",
        "a red circle, not a blue square",
        "a red circle turns into a blue square",
        "a red dot on a blue square",
        "a red star in a blue ring",
        "a red circle on the right and a blue square on the left",
        "a red circle above a blue square",
        "a red circle moves left; the circle is small",
        "a red circle and a blue square both move left",
        "a red circle and a blue square that spins",
    ],
)
def test_what_is_not_two_things_stays_whole(text: str) -> None:
    assert apart(text) == []


def test_what_two_things_leave_open_is_drawn_once() -> None:
    one, other = apart("a white star and a blue ring")
    assert one.partition(" on ")[2] == other.partition(" on ")[2] and "white star" in one and "blue ring" in other
    assert apart("a white star and a blue ring") == [one, other]


def test_the_command_line_makes_each_in_its_half(tiny: Model, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, out = tmp_path / "apart.safetensors", tmp_path / "clip.png"
    save_checkpoint(path, replace(tiny, defaults=replace(tiny.defaults, apart=True)), torch.float32)
    text = "a red circle grows and a blue square spins on a sky background"
    words = ["generate", text, "--model", str(path), "--out", str(out), "--frames", "1", "--size"]
    assert main([*words, "64x112"]) == 0
    said = capsys.readouterr().out
    assert "above: a red circle grows on a sky background" in said and "below: a blue square spins" in said
    regions = list(zip(apart(text), halves(64, 112), strict=True))
    size = {"width": 64, "height": 112, "frames": 1}
    expected = Pipeline(tiny).generate(text, **size, regions=regions)
    assert torch.equal(Pipeline.load(path).generate(text, **size), expected)
    assert (read_video(out).frames - expected).abs().max() < 1 / 255
    assert main([*words, "64x96", "--overwrite"]) == 0  # no half would be as high as the model makes
    assert "above" not in capsys.readouterr().out
