"""Laws of the flow, the solvers, guidance and strength maps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sora_core.checkpoint import Model
from sora_core.denoiser import Denoiser
from sora_core.dit import DiT
from sora_core.flow import (
    StrengthMap,
    add_noise,
    denoise,
    flow_loss,
    noise_again,
    schedule,
    shift_for,
    training_levels,
    velocity,
)
from sora_core.patches import Grid
from sora_core.pipeline import Pipeline
from sora_core.samplers import SAMPLERS, draw_seed, solve, solve_again

SHAPE = (3, 4, 4)
PROMPT = ["a red circle moves left on a sky background"]


def test_denoising_with_the_true_velocity_gives_the_data(generator: torch.Generator) -> None:
    x0, noise = torch.randn(2, 2, 3, 4, generator=generator)
    for t in (0.0, 0.3, 1.0):
        torch.testing.assert_close(denoise(add_noise(x0, noise, t), velocity(x0, noise), t), x0)


def test_schedules_fall_from_start_to_zero() -> None:
    for steps, shift, start in [(1, 1.0, 1.0), (8, 3.0, 1.0), (5, 2.0, 0.4)]:
        levels = schedule(steps, shift, start)
        assert len(levels) == steps + 1 and levels[0] == torch.tensor(start) and levels[-1] == 0
        assert (levels.diff() < 0).all()
    torch.testing.assert_close(schedule(4), torch.tensor([1, 0.75, 0.5, 0.25, 0]))
    assert (schedule(4, 3.0)[1:-1] > schedule(4)[1:-1]).all()
    assert shift_for(80) == 1 and shift_for(320) == pytest.approx(2)


def test_schedule_refuses_what_cannot_be_sampled() -> None:
    with pytest.raises(ValueError, match="steps is 0"):
        schedule(0)
    with pytest.raises(ValueError, match="start is 0"):
        schedule(4, start=0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_solvers_are_exact_on_a_straight_flow(name: str, steps: int, generator: torch.Generator) -> None:
    """Where the velocity is the same all along the path, as rectified flow wants it, no solver errs."""
    x0, noise = torch.randn(2, 1, 2, 3, generator=generator)
    out = SAMPLERS[name](lambda x, sigma: x - sigma.view(-1, 1, 1) * (noise - x0), noise, schedule(steps), disable=True)
    torch.testing.assert_close(out, x0, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 1.5)])
def test_solvers_converge_at_their_order(name: str, order: float) -> None:
    """Data spread as N(0, s): the flow is known in closed form, x(0) = s * x(1). (DPM-Solver++ is of second order
    inside, but its first and last step are Euler's.)"""
    s = 0.5

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        t = sigma.double()
        return x * (1 - t) * s**2 / ((1 - t) ** 2 * s**2 + t**2)

    errors = []
    for steps in (40, 80):
        x = SAMPLERS[name](model, torch.ones(1, dtype=torch.float64), schedule(steps).double(), disable=True)
        errors.append(abs(float(x) - s))
    assert errors[0] / errors[1] > 2**order * 0.8


def test_solvers_report_every_step(generator: torch.Generator) -> None:
    for sampler in SAMPLERS.values():
        seen: list[dict[str, Any]] = []
        sampler(lambda x, sigma: x / 2, torch.ones(1, 2), schedule(3), callback=seen.append, disable=True)
        assert [s["i"] for s in seen] == [0, 1, 2]
        assert set(seen[0]) == {"x", "i", "sigma", "sigma_hat", "denoised"}


class Counting(DiT):
    """Counts the samples that pass through."""

    rows = 0

    def forward(self, x: Tensor, timestep: Tensor, text: Any) -> Tensor:
        self.rows += x.shape[0]
        return super().forward(x, timestep, text)


@pytest.fixture
def counting(tiny: Model) -> Counting:
    dit = Counting(tiny.dit.config)
    dit.load_state_dict(tiny.dit.state_dict())
    return dit


def test_cfg_of_one_calls_the_network_once(counting: Counting, generator: torch.Generator) -> None:
    text = counting.prepare_text(torch.randn(1, 3, 32, generator=generator))
    empty = counting.prepare_text(torch.zeros(1, 1, 32))
    x, sigma = torch.randn(1, 4, *SHAPE, generator=generator), torch.tensor([0.5])
    plain = Denoiser(counting, text)(x, sigma)
    assert counting.rows == 1
    assert torch.equal(Denoiser(counting, text, empty, cfg=1.0)(x, sigma), plain)
    assert counting.rows == 2
    guided = Denoiser(counting, text, empty, cfg=3.0)(x, sigma)
    assert counting.rows == 4 and not torch.allclose(guided, plain)
    assert torch.equal(Denoiser(counting, text, empty, cfg=3.0, interval=(0.6, 1))(x, sigma), plain)
    assert counting.rows == 5


def test_guidance_extrapolates_from_negative_to_positive(tiny: Model, generator: torch.Generator) -> None:
    a, b = (tiny.dit.prepare_text(torch.randn(1, 3, 32, generator=generator)) for _ in range(2))
    x, sigma = torch.randn(1, 4, *SHAPE, generator=generator), torch.tensor([0.5])
    positive, negative = Denoiser(tiny.dit, a)(x, sigma), Denoiser(tiny.dit, b)(x, sigma)
    guided = Denoiser(tiny.dit, a, b, cfg=3.0)(x, sigma)
    torch.testing.assert_close(guided, negative + 3 * (positive - negative), atol=1e-4, rtol=1e-4)


def test_guidance_is_less_right_before_what_is_given(tiny: Model, generator: torch.Generator) -> None:
    noise, sigma = torch.randn(1, tiny.dit.config.in_dim, *SHAPE, generator=generator), torch.tensor([0.6])
    a, b = (tiny.dit.prepare_text(torch.randn(1, 4, tiny.dit.config.text_dim, generator=generator)) for _ in range(2))

    def guided(strengths: list[float], cfg: float, before: float | None) -> Tensor:
        strength = torch.tensor(strengths).view(1, 1, -1, 1, 1).expand(1, 1, *SHAPE)
        task = StrengthMap(strength, noise, noise, schedule(4))
        return Denoiser(tiny.dit, a, b, cfg, strengths=task, cfg_before=before)(noise, sigma)

    for strengths, eased in (([1, 1, 0.1], 1), ([1, 0, 1], 0), ([0, 0.6, 0.1], 1)):
        out, full, less = guided(strengths, 4, 1.5), guided(strengths, 4, None), guided(strengths, 1.5, None)
        torch.testing.assert_close(out[:, :, eased], less[:, :, eased], atol=1e-5, rtol=1e-5)
        others = [t for t in range(3) if t != eased]
        assert torch.equal(out[:, :, others], full[:, :, others]) and not torch.allclose(out, full)
    assert torch.equal(guided([1, 1, 0.1], 1.5, 4), guided([1, 1, 0.1], 1.5, None))  # and never more
    for strengths in ([0, 1, 1], [0.1, 0.4, 0.1], [1, 0.6, 0.8]):  # nothing is made right before what is given
        assert torch.equal(guided(strengths, 4, 1.5), guided(strengths, 4, None))


def known(pipeline: Pipeline) -> Tensor:
    return torch.randn(1, 4, *SHAPE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("solver", SAMPLERS)
def test_strength_zero_is_identity_bit_for_bit(pipeline: Pipeline, solver: str) -> None:
    latents = known(pipeline)
    zero = torch.zeros(1, 1, *SHAPE)
    out = pipeline.sample(PROMPT, SHAPE, seeds=[0], known=latents, strength=zero, solver=solver)
    assert torch.equal(out, latents)


@pytest.mark.parametrize("solver", SAMPLERS)
def test_strength_one_is_text_to_video_bit_for_bit(pipeline: Pipeline, solver: str) -> None:
    one = torch.ones(1, 1, *SHAPE)
    out = pipeline.sample(PROMPT, SHAPE, seeds=[0], known=known(pipeline), strength=one, solver=solver)
    assert torch.equal(out, pipeline.sample(PROMPT, SHAPE, seeds=[0], solver=solver))


@pytest.mark.parametrize("solver", SAMPLERS)
def test_kept_places_come_back_bit_for_bit_and_the_rest_is_made(pipeline: Pipeline, solver: str) -> None:
    latents, strength = known(pipeline), torch.ones(1, 1, *SHAPE)
    strength[:, :, 0] = 0
    out = pipeline.sample(PROMPT, SHAPE, seeds=[0], known=latents, strength=strength, solver=solver)
    assert torch.equal(out[:, :, 0], latents[:, :, 0])
    assert (out - latents)[:, :, 1:].abs().amax(dim=1).min() > 1e-3
    other = pipeline.sample(PROMPT, SHAPE, seeds=[0], known=latents + 1, strength=strength, solver=solver)
    assert not torch.allclose(out[:, :, 1:], other[:, :, 1:])  # what is made sees what is kept


def test_the_way_from_the_known_latents_grows_with_strength(pipeline: Pipeline) -> None:
    latents = known(pipeline)
    distances = []
    for m in (0.1, 0.4, 0.7):
        out = pipeline.sample(PROMPT, SHAPE, seeds=[0], known=latents, strength=torch.full((1, 1, *SHAPE), m), steps=8)
        distances.append(float((out - latents).square().mean()))
    assert distances == sorted(distances)


def test_waiting_places_rest_at_their_own_level(generator: torch.Generator) -> None:
    x0, noise, x = torch.randn(3, 1, 2, 1, 2, 2, generator=generator)
    strength = torch.tensor([[0.0, 0.3], [0.6, 1.0]]).view(1, 1, 1, 2, 2)
    task = StrengthMap(strength, x0, noise, schedule(4))
    torch.testing.assert_close(task.level(0.5), strength.clamp(max=0.5))
    seen = task.enter(x, 0.5)
    assert torch.equal(seen[..., 0, 0], x0[..., 0, 0])
    torch.testing.assert_close(seen[..., 0, 1], add_noise(x0, noise, 0.3)[..., 0, 1])
    assert torch.equal(seen[..., 1, :], x[..., 1, :])


def along_the_map(
    strengths: Tensor, solver: str, steps: int, data: float = 0.7, per_token: bool = True
) -> tuple[Tensor, StrengthMap]:
    """Numbers, each with a strength of its own, on the exact flow to a normal distribution around 0 with a deviation
    of `data`. A place's estimate depends on its own value and level alone."""
    generator = torch.Generator().manual_seed(1)
    known, noise = torch.randn(2, *strengths.shape, generator=generator)
    task = StrengthMap(strengths, known, noise, schedule(steps, 3.0), per_token=per_token)

    def exact(x: Tensor, level: Tensor) -> Tensor:
        share = (1 - level) * data**2 / ((1 - level) ** 2 * data**2 + level**2)
        return share * x

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        now = float(sigma[0])
        seen, level = task.enter(x, now), task.level(now) if per_token else sigma[0]
        velocity = (seen - exact(seen, level)) / level.clamp(min=1e-9)
        return task.leave(seen, denoise(seen, velocity, now), now)

    out = SAMPLERS[solver](model, noise.clone(), task.levels, disable=True, waiting=task.waiting)
    return task.finish(out), task


MIXED = torch.tensor([[0.0, 0.02, 0.1, 0.2, 0.33, 0.5, 0.62, 0.75, 0.9, 1.0]]).repeat(200, 1)


@pytest.mark.parametrize("steps", [2, 6, 20])
def test_every_place_goes_its_own_way_from_its_own_strength(steps: int) -> None:
    """Euler's steps from every place's own level, whether the schedule has that level or not."""
    out, task = along_the_map(MIXED, "euler", steps)
    for i, m in enumerate(MIXED[0].tolist()):
        way = [m, *(float(level) for level in task.levels if float(level) < m)]
        x = add_noise(task.known[:, i], task.noise[:, i], m)
        for now, after in pairwise(way):
            estimate = (1 - now) * 0.49 / ((1 - now) ** 2 * 0.49 + now**2) * x
            x = estimate + (x - estimate) * (after / now)
        torch.testing.assert_close(out[:, i], x, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("steps", [2, 6, 20])
def test_with_one_level_for_all_a_place_begins_at_its_own_strength(steps: int) -> None:
    """What such a model makes of a place before its time comes moves it by the share that is left of its own noise."""
    out, task = along_the_map(MIXED, "euler", steps, per_token=False)
    levels = task.levels.tolist()
    for i, m in enumerate(MIXED[0].tolist()):
        x = add_noise(task.known[:, i], task.noise[:, i], m)
        for now, after in pairwise(levels):
            if after >= m:
                continue
            seen = x if now <= m else add_noise(task.known[:, i], task.noise[:, i], now)
            estimate = (1 - now) * 0.49 / ((1 - now) ** 2 * 0.49 + now**2) * seen
            if now > m:  # it is told more noise than the place has, and moves from where that is
                share = (1 - after / m) / (1 - after / now) * m / now
                estimate = torch.lerp(task.known[:, i], estimate, share)
                x = add_noise(task.known[:, i], task.noise[:, i], now)
            x = estimate + (x - estimate) * (after / now)
        torch.testing.assert_close(out[:, i], x, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("solver", SAMPLERS)
def test_mixed_strengths_end_where_a_fine_solver_does(solver: str) -> None:
    """No solver looks across the moment in which a place begins to move."""
    fine, _ = along_the_map(MIXED, "euler", 2000)
    error = (along_the_map(MIXED, solver, 20)[0] - fine).square().mean(0).sqrt()
    plain = (along_the_map(MIXED, "euler", 20)[0] - fine).square().mean(0).sqrt()
    assert (error <= 1.05 * plain + 1e-6).all() and (error[-1] < plain[-1] / 2 or solver == "euler")
    assert float(along_the_map(MIXED, solver, 20)[0][:, 0].sub(fine[:, 0]).abs().max()) == 0


@pytest.mark.parametrize("solver", SAMPLERS)
def test_small_strengths_move_a_little(pipeline: Pipeline, solver: str) -> None:
    """Also those below every level of the schedule, beside places that are made from noise."""
    latents, strength = known(pipeline), torch.ones(1, 1, *SHAPE)
    strength[:, :, 0], strength[:, :, 1, :2] = 0.02, 0.1
    out = pipeline.sample(PROMPT, SHAPE, seeds=[0], known=latents, strength=strength, steps=4, solver=solver)
    moved = (out - latents).square().mean(1).sqrt()[0]
    assert 0 < float(moved[0].max()) < float(moved[1, :2].mean()) < float(moved[2].mean())


def test_the_network_is_told_each_tokens_level(pipeline: Pipeline) -> None:
    timesteps: list[Tensor] = []
    dit = pipeline.model.dit
    handle = dit.register_forward_pre_hook(lambda _, args: timesteps.append(args[1]))
    strength = torch.ones(1, 1, *SHAPE)
    strength[:, :, 0], strength[:, :, 1] = 0, 0.4
    try:
        pipeline.sample(
            PROMPT, SHAPE, seeds=[0], known=known(pipeline), strength=strength, steps=4, cfg=1, solver="euler"
        )
    finally:
        handle.remove()
    grid = Grid.of(SHAPE, dit.config.patch)
    per_frame = torch.stack([t.view(grid.t, -1)[:, 0] for t in timesteps])
    assert (per_frame[:, 0] == 0).all()
    torch.testing.assert_close(per_frame[:, 1], per_frame[:, 2].clamp(max=400))


def test_inputs_and_the_global_generator_are_left_alone(pipeline: Pipeline) -> None:
    latents, strength = known(pipeline), torch.full((1, 1, *SHAPE), 0.5)
    copies = latents.clone(), strength.clone()
    state = torch.get_rng_state()
    pipeline.sample(PROMPT, SHAPE, seeds=[3], known=latents, strength=strength)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(latents, copies[0]) and torch.equal(strength, copies[1])


def test_a_clip_does_not_depend_on_its_batch(pipeline: Pipeline) -> None:
    both = pipeline.sample(PROMPT * 2, SHAPE, seeds=[1, 2])
    torch.testing.assert_close(both[1:], pipeline.sample(PROMPT, SHAPE, seeds=[2]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both[0], both[1])


def test_the_loss_counts_only_what_is_not_clean(generator: torch.Generator) -> None:
    x0, noise = torch.randn(2, 1, 2, 2, 2, 2, generator=generator)
    level = torch.tensor([0.0, 0.5]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 2)
    prediction = velocity(x0, noise)
    prediction[:, :, 0] += 100
    assert flow_loss(prediction, x0, noise, level) == 0
    prediction[:, :, 1] += 2
    torch.testing.assert_close(flow_loss(prediction, x0, noise, level), torch.tensor(4.0))


def test_training_levels_fill_the_range_and_shift_towards_noise(generator: torch.Generator) -> None:
    plain, shifted = training_levels(4000, generator), training_levels(4000, generator, shift=3.0)
    assert plain.min() >= 0 and plain.max() <= 1
    assert abs(float(plain.mean()) - 0.5) < 0.02 and shifted.mean() > 0.65


def test_errors_name_the_setting(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match="solver 'ddim' is not known; use one of euler, heun, dpmpp_2m"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], solver="ddim")
    with pytest.raises(ValueError, match="1 prompts need as many strength maps, not 3"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], known=known(pipeline), strength=torch.ones(3, 1, *SHAPE))
    with pytest.raises(ValueError, match="1 prompts need as many texts in every ramp, not 2"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], ramps=[(PROMPT * 2, torch.ones(3))])
    with pytest.raises(ValueError, match=r"ramp of shape \(4,\): expected \(3,\)"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], ramps=[(PROMPT, torch.ones(4))])
    for size in ({"width": 0}, {"height": 0}, {"frames": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(size))} 0|0 frames"):
            pipeline.generate(*PROMPT, **size)
    with pytest.raises(ValueError, match="1 prompts need as many seeds, not 2"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0, 1])
    with pytest.raises(ValueError, match="give both or neither"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], known=known(pipeline))
    with pytest.raises(ValueError, match="expected \\(B, 1, 3, 4, 4\\)"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], known=known(pipeline), strength=torch.ones(1, 1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"strength map must lie in 0..1"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], known=known(pipeline), strength=torch.full((1, 1, *SHAPE), 1.5))
    with pytest.raises(ValueError, match="seed -1: seeds run from 0"):
        pipeline.sample(PROMPT, SHAPE, seeds=[-1])
    with pytest.raises(ValueError, match="cfg is nan"):
        pipeline.sample(PROMPT, SHAPE, seeds=[0], cfg=float("nan"))
    with pytest.raises(ValueError, match="guidance needs a negative text"):
        Denoiser(pipeline.model.dit, pipeline.model.dit.prepare_text(torch.zeros(1, 1, 32)), cfg=2.0)


def test_a_ramp_goes_from_one_text_to_the_other(tiny: Model, generator: torch.Generator) -> None:
    """Shares of 0 and 1 are the texts themselves, with guidance and without, and every frame has its own share."""
    a, b, empty = (tiny.dit.prepare_text(torch.randn(1, 5, 32, generator=generator)) for _ in range(3))
    x, sigma = torch.randn(1, 4, 3, 4, 4, generator=generator), torch.tensor([0.7])
    for negative, cfg in ((None, 1.0), (empty, 3.0)):
        one, other = (Denoiser(tiny.dit, text, negative, cfg)(x, sigma) for text in (a, b))
        mixed = Denoiser(tiny.dit, a, negative, cfg, ramps=[(b, torch.tensor([0.0, 0.25, 1.0]))])(x, sigma)
        expected = torch.stack([one[:, :, 0], 0.75 * one[:, :, 1] + 0.25 * other[:, :, 1], other[:, :, 2]], dim=2)
        torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(name: str, tiny: Model, generator: torch.Generator) -> None:
    text = tiny.dit.prepare_text(torch.randn(1, 4, tiny.dit.config.text_dim, generator=generator))
    noise = torch.randn(1, tiny.dit.config.in_dim, *SHAPE, generator=generator)
    model, sigmas = Denoiser(tiny.dit, text), schedule(6, 2.0)
    whole = SAMPLERS[name](model, noise, sigmas, disable=True)
    seen: list[int] = []
    for stop in range(1, 6):
        half = solve(name, model, noise, sigmas, disable=True, stop=stop)
        rest = solve(
            name, model, noise, sigmas, disable=True, progress=half, callback=lambda info: seen.append(info["i"])
        )
        assert half.steps == stop and rest.steps == 6 and torch.equal(rest.x, whole)
        assert not torch.equal(half.denoised, half.x)
    assert seen == [i for stop in range(1, 6) for i in range(stop, 6)]
    with pytest.raises(ValueError, match="stop after step 2: this run has done 3 of 6"):
        solve(name, model, noise, sigmas, stop=2, progress=solve(name, model, noise, sigmas, disable=True, stop=3))


# ---- taking steps again


def test_noising_again_stays_on_the_path(generator: torch.Generator) -> None:
    noise, fresh = torch.randn(2, 100_000, generator=generator)
    again = noise_again(add_noise(torch.tensor(2.0), noise, 0.3), fresh, 0.3, 0.7)
    assert float(again.mean()) == pytest.approx(0.3 * 2, abs=0.01) and float(again.std()) == pytest.approx(
        0.7, abs=0.01
    )


def test_steps_taken_again_draw_where_the_latents_are() -> None:
    """Noise is drawn on the CPU, latents lie where the model is; it is another one every time."""
    x, drawn = torch.zeros(1, 2, device="meta"), []

    def draw(number: int) -> Tensor:
        drawn.append(number)
        return torch.zeros(1, 2)

    out = solve_again(
        "euler", lambda x, sigma: torch.zeros_like(x), x, schedule(3, 2.0), disable=True, passes=2, draw=draw
    )
    assert out.x.device == x.device and len(drawn) == len(set(drawn)) == 4  # twice at every step but the first
    with pytest.raises(ValueError, match="stop after step 9: this run has done 0 of 3"):
        solve_again("euler", lambda x, sigma: x, x, schedule(3), passes=1, draw=lambda n: x, stop=9)


CORRELATION, KNOWN = 0.9, 1.5


def draw_pairs(solver: str, passes: int, stop: int = 12) -> Tensor:
    """Pairs (B, 2) of correlated numbers, the first of which is known; by replacement, on the exact denoiser."""
    covariance = torch.tensor([[1, CORRELATION], [CORRELATION, 1]])

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        t = float(sigma[0])
        return x @ ((1 - t) * covariance @ torch.linalg.inv((1 - t) ** 2 * covariance + t * t * torch.eye(2))).T

    def normal(seed: int) -> Tensor:
        return torch.randn(4000, 2, generator=torch.Generator().manual_seed(seed))

    known, noise = torch.full((4000, 2), KNOWN), normal(0)
    task = StrengthMap(torch.tensor([[0.0, 1.0]]).expand(4000, 2), known, noise, schedule(12, 3.0), per_token=False)

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        seen = task.enter(x, sigma[0])
        return task.leave(seen, exact(seen, sigma), sigma[0])

    half = solve_again(
        solver, model, noise, schedule(12, 3.0), disable=True, passes=passes, draw=lambda n: normal(n + 1), stop=stop
    )
    if stop == 12:
        return half.x
    return solve_again(
        solver,
        model,
        noise,
        schedule(12, 3.0),
        disable=True,
        passes=passes,
        draw=lambda n: normal(n + 1),
        progress=half,
    ).x


@pytest.mark.parametrize("solver", SAMPLERS)
def test_what_is_made_settles_with_what_is_known(solver: str) -> None:
    """Replacement alone does not draw from the true conditional distribution; with more passes it comes nearer."""
    errors = [abs(float(draw_pairs(solver, n)[:, 1].mean()) - CORRELATION * KNOWN) for n in (0, 2, 8)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < errors[0] / 3
    assert torch.equal(draw_pairs(solver, 2), draw_pairs(solver, 2, stop=5))


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 8, 16)])
def test_the_schedule_is_shifted_by_the_size_of_the_clip(pipeline: Pipeline, shape: tuple[int, int, int]) -> None:
    seen: list[float] = []
    pipeline.sample(PROMPT, shape, seeds=[0], steps=3, solver="euler", callback=lambda info: seen.append(info["sigma"]))
    tokens = Grid.of(shape, pipeline.model.dit.config.patch).length
    expected = schedule(3, shift_for(tokens, pipeline.model.defaults.shift))
    assert seen == expected[:-1].tolist()


def test_further_draws_share_no_noise_with_what_counts_seeds_up() -> None:
    seeds = {(7 + window) % 2**63 for window in range(200)}
    draws = [draw_seed(7 + window, number) for window in range(20) for number in range(1, 50)]
    assert len(set(draws)) == len(draws) and not seeds & set(draws) and all(0 <= seed < 2**63 for seed in draws)
