"""Laws of training the transformer and its text encoder: they learn, and a kill changes nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from training import QUIET, lines, same, trainee

from sora_core.checkpoint import Model, load_checkpoint
from sora_core.config import PRESETS
from sora_core.pipeline import Pipeline, frames_to_video
from sora_core.text import tokenize, train_tokenizer
from sora_core.train import fast
from sora_core.train.__main__ import main, save_vae
from sora_core.train.dit import (
    DiTTraining,
    Trainee,
    deepened,
    train_dit,
    validation_loss,
    with_another,
)
from sora_core.train.latents import Bucket, fill_bucket, read_bucket, read_sources
from sora_core.train.muon import Muon, orthogonalise
from sora_core.train.run import Optimizers, Run, Training, clip_gradients, fit, learning_rate
from sora_core.train.text import train_text
from sora_core.vae import VAE
from sora_core.world import COLOURS, Scene, held_out_combination, is_visible, render, sample_scene
from sora_core.world.captions import canonical, corpus
from sora_core.world.prompts import _scene
from sora_core.world.scene import VERSION, check_words

SAID = ("shape", "colour", "motion", "size", "speed")  # of a thing, in its caption


@pytest.fixture(scope="module")
def cache(untrained: VAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    for split in ("train", "held_out"):
        fill_bucket(untrained, folder, Bucket(1, 32, 32), 1, split=split)
    return folder


def test_cached_latents_are_the_latents_of_their_scenes(untrained: VAE, cache: Path) -> None:
    latents, scenes = read_bucket(cache, Bucket(1, 32, 32))
    for i in (0, 100, 249):
        video = frames_to_video(render(scenes[i], 1, 32, 32))
        torch.testing.assert_close(latents[i].float(), untrained.encode(video)[0], atol=4e-3, rtol=4e-3)
    with pytest.raises(FileNotFoundError, match="no train latents of bucket 5x32x32"):
        read_bucket(cache, Bucket(5, 32, 32))
    with pytest.raises(ValueError, match="write frames, height and width"):
        Bucket.parse("17x64")


@pytest.mark.parametrize(("muon", "masks"), [(False, 0.0), (True, 0.1)])
def test_a_killed_run_goes_on_as_if_nothing_happened(
    tiny: Model, untrained: VAE, cache: Path, tmp_path: Path, muon: bool, masks: float
) -> None:
    """Weights, log and sheets: killed after a sheet, between two saves."""
    training = DiTTraining(
        steps=12,
        tokens=16,
        mix=(("1x32x32", 1.0),),
        muon=muon,
        masks=masks,
        save_every=5,
        log_every=4,
        validate_every=4,
        sheet_every=4,
    )
    whole = train_dit(tmp_path / "whole", cache, trainee(tiny, bool(masks)), training, untrained)
    killed = tmp_path / "killed"
    train_dit(killed, cache, trainee(tiny, bool(masks)), training, untrained, stop_at=9)  # the last state is of step 8
    again = train_dit(killed, cache, trainee(tiny, bool(masks)), training, untrained)
    assert same(again, whole) and not same(trainee(tiny, bool(masks)), whole)
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    sheets = [sorted(p.name for p in (tmp_path / name / "samples").iterdir()) for name in ("killed", "whole")]
    assert sheets[0] == sheets[1] == ["000004.png", "000008.png", "000012.png"]
    other = replace(trainee(tiny).dit.config, layers=1)
    network = Trainee(other, trainee(tiny).text.config, tiny.tokenizer, masks=bool(masks))
    with pytest.raises(ValueError, match="holds a run of another network"):
        train_dit(killed, cache, network, training)


def test_training_learns_to_read(tiny: Model, cache: Path, tmp_path: Path) -> None:
    """After a short run the right captions explain the clips better than swapped ones."""
    training = DiTTraining(
        steps=350, tokens=128, mix=(("1x32x32", 1.0),), conditioned=0, independent=0, average=0.9,
        log_every=50, save_every=QUIET, validate_every=QUIET, learning_rate=5e-3,
    )  # fmt: skip
    learned = train_dit(tmp_path, cache, trainee(tiny), training)
    latents, scenes = read_bucket(cache, Bucket(1, 32, 32), "held_out")
    captions = [canonical(scene) for scene in scenes]
    right = validation_loss(learned, latents.float(), captions)
    assert validation_loss(learned, latents.float(), captions[1:] + captions[:1]) > 1.1 * right
    assert {"colour_gain", "shape_gain", "motion_gain"} <= set(lines(tmp_path)[-1])


def test_wrong_captions_are_wrong_in_one_word() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(100)]
    for attribute in ("colour", "shape", "motion"):
        for scene, text in zip(scenes, with_another(scenes, attribute), strict=True):
            wrong = _scene(text, 0)
            (one, *others), (other, *same_others) = scene.things, wrong.things
            differ = [f.name for f in fields(one) if f.name in SAID and getattr(one, f.name) != getattr(other, f.name)]
            assert differ == [attribute], (canonical(scene), text)
            assert [canonical(replace(scene, things=(t,))) for t in others] == [
                canonical(replace(scene, things=(t,))) for t in same_others
            ]
            words = other.shape, other.colour, other.motion, wrong.background, wrong.style, other.size, other.speed
            check_words(*words, wrong.wall)


def test_the_encoder_learns_the_words_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    """After a short run it tells colours it has read, from any kind of caption; a longer one tells all."""
    config = PRESETS["tiny"].text
    assert config is not None
    tokenizer = train_tokenizer(corpus(2000, seed=0), config.vocab_size)
    training = Training(
        steps=200, learning_rate=3e-3, muon=False, average=0.9, save_every=50, log_every=50, validate_every=200
    )
    encoder = train_text(tmp_path / "whole", config, tokenizer, training, batch=48)
    found = lines(tmp_path / "whole")[-1]
    assert found["background"] > 0.5 and found["colour 1"] > 0.5 and found["motion 1"] > 0.4
    left, right = encoder(tokenize(tokenizer, ["a red circle moves left", "a red circle moves right"], 24))
    assert float(((left - right).norm() / left.norm()).detach()) > 0.1
    short = replace(training, steps=20, save_every=5, validate_every=QUIET)
    whole = train_text(tmp_path / "short", config, tokenizer, short, batch=4)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        calls = iter(range(100))
        patch.setattr("sora_core.train.text.sample_scene", lambda *a: _stop_at(next(calls), 40, *a))
        train_text(tmp_path / "killed", config, tokenizer, short, batch=4)
    assert same(train_text(tmp_path / "killed", config, tokenizer, short, batch=4), whole)


def _stop_at(call: int, last: int, *args: Any) -> Scene:
    if call == last:
        raise KeyboardInterrupt
    return sample_scene(*args)


def test_a_deeper_transformer_begins_as_the_one_it_was(tiny: Model) -> None:
    before = tiny.dit
    after = deepened(before, every=2)
    assert after.config.layers == before.config.layers * 3 // 2
    x, t, text = torch.randn(2, 4, 3, 4, 6), torch.tensor([100.0, 900.0]), torch.randn(2, 5, before.config.text_dim)
    with torch.no_grad():
        assert torch.equal(before(x, t, text), after(x, t, text))
    with pytest.raises(ValueError, match="the transformer has"):
        deepened(before, every=99)


def test_training_overfits_one_clip(tiny: Model) -> None:
    generator = torch.Generator().manual_seed(0)
    model = trainee(tiny)
    x0 = torch.randn(1, 4, 2, 4, 4, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = validation_loss(model, x0, ["a red circle"])
    for _ in range(400):
        noise, t = torch.randn(8, 4, 2, 4, 4, generator=generator), torch.rand(8, 1, 1, 1, 1, generator=generator)
        loss = model(x0.expand(8, -1, -1, -1, -1), noise, t.expand(8, 1, 2, 4, 4), ["a red circle"] * 8)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert validation_loss(model, x0, ["a red circle"]) < before / 4
    pipeline = Pipeline(Model(model.dit, tiny.vae, model.text, tiny.tokenizer, tiny.defaults))
    made = pipeline.sample(["a red circle"], (2, 4, 4), seeds=[1], cfg=1, steps=20)
    assert (made - x0).square().mean() < 0.2 * x0.var()


@pytest.mark.parametrize("split", ["styled", "recoloured", "plain"])
def test_edits_are_kept_with_what_they_are_edits_of(
    untrained: VAE, tmp_path: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other thing of the scene stays, and no held-out combination is shown."""
    monkeypatch.setattr("sora_core.train.latents.PART", 40)
    bucket = Bucket(1, 32, 32)
    fill_bucket(untrained, tmp_path, bucket, 1, split=split)
    latents, scenes = read_bucket(tmp_path, bucket, split)
    sources = read_sources(tmp_path, bucket, split)
    if split == "plain":
        assert sources is None
        return
    assert all(len(scene.things) == 1 and not scene.wall for scene in scenes) and latents.shape == sources.shape
    for scene, source in zip(scenes, sources, strict=True):
        thing = scene.things[0]
        before = [replace(scene, style="plain")]
        if split == "recoloured":
            colours = [c for c in COLOURS if c != thing.colour and is_visible(c, scene.background)]
            before = [replace(scene, things=(replace(thing, colour=colour),)) for colour in colours]
            before = [s for s in before if not held_out_combination(thing.shape, s.things[0].colour, thing.motion)]
        videos = torch.cat([frames_to_video(render(one, 1, 32, 32)) for one in before])
        apart = (untrained.encode(videos) - source.float()).abs().amax((1, 2, 3, 4))
        assert apart.min() < 4e-3
        assert (scene.style == "plain") == (split == "recoloured")


def test_muon_steps_are_orthogonal_and_as_large_as_adams(generator: torch.Generator) -> None:
    for shape in [(32, 32), (16, 64), (64, 16)]:
        singular = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape, generator=generator)))
        assert singular.min() > 0.4 and singular.max() < 1.4
    weight = torch.nn.Parameter(torch.zeros(32, 8, 3, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=generator)
    Muon([weight], lr=1.0).step()
    assert 0.1 < float(weight.detach().square().mean().sqrt()) < 0.3


def test_fast_layers_have_the_gradients_of_the_plain_ones(generator: torch.Generator) -> None:
    def gradients(layer: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        x = x.clone().requires_grad_()
        out = layer(x)
        out.square().sum().backward()
        return [out.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]

    video = torch.randn(2, 12, 5, 4, 6, generator=generator)
    for kind, arguments, x, tolerance in (
        ("Conv3d", {"in_channels": 12, "out_channels": 12, "kernel_size": 3, "padding": 1, "groups": 12}, video, 1e-5),
        ("Linear", {"in_features": 6, "out_features": 32}, video, 2e-2),  # bfloat16 keeps 8 bits
    ):
        plain, quick = getattr(torch.nn, kind)(**arguments), getattr(fast, kind)(**arguments)
        quick.load_state_dict(plain.state_dict())
        for expected, found in zip(gradients(plain, x), gradients(quick, x), strict=True):
            assert (found - expected).norm() <= tolerance * expected.norm()


def test_fast_attention_has_the_gradients_of_the_plain_one(generator: torch.Generator) -> None:
    q, k, v, weight = (torch.randn(2, 3, 20, 8, generator=generator) for _ in range(4))
    found = []
    for product in (torch.nn.functional.scaled_dot_product_attention, fast.attention):
        inputs = [x.clone().requires_grad_() for x in (q, k[:, :, :7], v[:, :, :7])]
        out = product(*inputs)
        (out * weight).sum().backward()
        found.append([out.detach(), *(x.grad for x in inputs)])
    for expected, quick in zip(*found, strict=True):
        assert (quick - expected).norm() <= 2e-2 * expected.norm()  # bfloat16 keeps 8 bits


def test_learning_rate_rises_holds_and_falls() -> None:
    rates = [learning_rate(step, 1000, decay=0.2) for step in range(1000)]
    assert rates[0] < 0.02 and rates[500] == 1 and rates[-1] < 0.01
    assert rates[99:800] == [1.0] * 701 and rates[800:] == sorted(rates[800:], reverse=True)


def test_a_kill_while_saving_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, {}, Training())
    run.save(step=1)

    def killed(state: dict, path: Path) -> None:
        path.write_bytes(b"half of a state")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save(step=2)
    state = Run(tmp_path, {}, Training()).load()
    assert state is not None and state["step"] == 1


def test_a_gradient_that_is_not_finite_is_reported() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.tensor([1.0, float("inf"), 0.0])
    history: list[float] = []
    assert not clip_gradients([weight], history) and not history
    weight.grad = torch.tensor([3.0, 0.0, 4.0])
    assert clip_gradients([weight], history)
    assert float(weight.grad.norm()) == pytest.approx(1.0)


def test_gradients_are_clipped_to_twice_what_they_mostly_are() -> None:
    weight, history = torch.nn.Parameter(torch.zeros(1)), [1.0] * 40 + [3.0] * 10
    for norm, clipped in ((1.5, 1.5), (9.0, 2.0)):
        weight.grad = torch.tensor([norm])
        assert clip_gradients([weight], history) and float(weight.grad) == pytest.approx(clipped, rel=1e-4)
    assert history[-2:] == [1.5, 4.0]  # one that is far off counts as twice the limit


def test_rates_are_those_of_their_kind(tiny: Model) -> None:
    """Muon has the matrices; inputs, outputs and single channels go at AdamW's share, the text at a tenth of that."""
    whole = trainee(tiny)
    parts = Optimizers(whole, 1e-2, slow="text.", adamw=0.2).parts
    rates = {id(p): group["peak"] for part in parts for group in part.param_groups for p in group["params"]}
    named = dict(whole.named_parameters())
    assert len(rates) == len(named)
    for name, rate in (
        ("dit.blocks.0.ffn.0.weight", 1e-2), ("dit.blocks.0.ffn.0.bias", 2e-3), ("dit.head.head.weight", 2e-3),
        ("dit.patch_embedding.weight", 2e-3), ("dit.blocks.0.modulation", 2e-3),
        (next(n for n in named if n.startswith("text.") and named[n].ndim == 2), 2e-4),
    ):  # fmt: skip
        assert rates[id(named[name])] == pytest.approx(rate), name
    assert {type(part).__name__ for part in parts} == {"AdamW", "Muon"}


def test_a_cache_belongs_to_one_vae(cache: Path, tiny: Model) -> None:
    with pytest.raises(ValueError, match="holds latents of another VAE"):
        fill_bucket(tiny.vae, cache, Bucket(1, 32, 32), 1)


def test_a_cache_is_of_one_seed(tmp_path: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sora_core.train.latents.PART", 2)
    for _ in range(2):  # what is there is not made again
        fill_bucket(tiny.vae, tmp_path, Bucket(1, 32, 32), 2, seed=5)
    with pytest.raises(ValueError, match="was drawn from seed 5, not 6"):
        fill_bucket(tiny.vae, tmp_path, Bucket(1, 32, 32), 2, seed=6)
    monkeypatch.setattr("sora_core.train.latents.VERSION", VERSION + 1)
    with pytest.raises(ValueError, match="holds scenes of an earlier version of the world"):
        fill_bucket(tiny.vae, tmp_path, Bucket(1, 32, 32), 2, seed=5)


def test_splits_of_one_seed_hold_other_scenes(tmp_path: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sora_core.train.latents.PART", 40)
    splits = ("train", "plain", "spinning", "styled", "recoloured")
    for split in splits:
        fill_bucket(tiny.vae, tmp_path, Bucket(1, 32, 32), 40, split=split)
    drawn = [scene for split in splits for scene in read_bucket(tmp_path, Bucket(1, 32, 32), split)[1]]
    places = [(s.things[0].x, s.things[0].y) for s in drawn if isinstance(s, Scene)]
    assert len(set(places)) == len(places) == 200


def test_a_run_that_goes_on_with_other_settings_says_so(cache: Path, tiny: Model, tmp_path: Path) -> None:
    training = DiTTraining(steps=4, mix=(("1x32x32", 1.0),), save_every=2, log_every=1, validate_every=QUIET)
    train_dit(tmp_path, cache, trainee(tiny), training, stop_at=2)
    train_dit(tmp_path, cache, trainee(tiny), replace(training, seed=7, steps=3))
    assert [line["changed"] for line in lines(tmp_path) if "changed" in line] == [{"steps": [4, 3], "seed": [0, 7]}]
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [1, 2, 3]


def test_a_damaged_run_is_named(cache: Path, tiny: Model, tmp_path: Path) -> None:
    training = DiTTraining(steps=2, mix=(("1x32x32", 1.0),), save_every=1, validate_every=QUIET)
    train_dit(tmp_path, cache, trainee(tiny), training, stop_at=1)
    state, settings = tmp_path / "state.pt", tmp_path / "settings.json"
    whole = state.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no state"):
        state.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state.pt is damaged: bring it back"):
            train_dit(tmp_path, cache, trainee(tiny), training)
    state.write_bytes(whole)
    settings.unlink()
    with pytest.raises(ValueError, match=r"settings.json is missing or damaged"):
        train_dit(tmp_path, cache, trainee(tiny), training)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("latents --vae V --cache C --bucket 1x32x32 --clips 0", "0: give a whole number, at least 1"),
        ("latents --vae V --cache C --bucket 1x32x32 --clips 2 --seed -1", "-1: give a whole number, at least 0"),
        ("vae --run R --steps 1.5", "1.5: give a whole number, at least 1"),
        ("dit --vae V --cache C --run R --device foo", "foo: write cpu or cuda"),
        ("dit --vae V --cache C --run R --windows 50", "50: give a number from 0 to 1"),
        ("dit --vae V --cache C --run R --masks -0.05", "-0.05: give a number of 0 or more"),
        ("dit --vae V --cache C --run R --focus nan", "nan: give a number of 0 or more"),
    ],
)
def test_options_that_cannot_be_are_named(
    arguments: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *arguments.split()])
    with pytest.raises(SystemExit):
        main()
    assert words in capsys.readouterr().err


def test_scenes_that_turn_need_a_middle(tmp_path: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sora_core.train.latents.PART", 2)
    fill_bucket(tiny.vae, tmp_path / "cache", Bucket(1, 32, 32), 2, split="turning")
    training = DiTTraining(steps=1, mix=(("1x32x32:turning", 1.0),))
    with pytest.raises(ValueError, match="mix: scenes of 1x32x32 that turn have no middle"):
        train_dit(tmp_path / "run", tmp_path / "cache", trainee(tiny), training)
    assert not (tmp_path / "run").exists()


def test_seeds_alone_decide_the_first_weights(tiny: Model) -> None:
    first = trainee(tiny, masks=True)
    torch.rand(7)
    assert same(first, trainee(tiny, masks=True))


def test_a_validation_that_was_killed_is_made_again(tmp_path: Path) -> None:
    """The state is saved before, so that the steps are not lost; the log ends as that of a run that was not killed."""
    killed = [True]

    def train(folder: Path, kill: bool) -> list[dict[str, Any]]:
        module = torch.nn.Linear(2, 2)
        training = Training(steps=12, log_every=5, save_every=100, validate_every=6)
        run = Run(folder, {}, training)

        def validate(step: int, average: dict[str, Any]) -> None:
            if kill and killed:
                killed.clear()
                raise KeyboardInterrupt
            run.log(step, validation=1.0)

        fit(run, module, lambda rng, generator: module(torch.ones(2)).square().sum(), validate)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        told = [line for line in lines if "changed" not in line]  # the run is looked at with other settings below
        return [{key: line[key] for key in line if key in ("step", "validation")} for line in told]

    whole = train(tmp_path / "whole", kill=False)
    assert [line["step"] for line in whole] == [5, 6, 10, 12]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", kill=True)
    state = Run(tmp_path / "killed", {}, Training()).load()
    assert state is not None and state["step"] == 6
    assert train(tmp_path / "killed", kill=True) == whole
    assert train(tmp_path / "killed", kill=True) == whole  # nothing is left to do


def test_a_run_without_its_state_is_not_begun_anew_over_its_log(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    training = Training(steps=4, log_every=1, save_every=100, validate_every=100)

    def train(folder: Path, last: int = 4) -> None:
        def loss_of(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
            return module(torch.ones(2)).square().sum()

        fit(Run(folder, {}, training), module, loss_of, lambda step, average: None, stop_at=last)

    train(tmp_path / "run", last=2)  # killed before the first save
    train(tmp_path / "run")
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4]
    (tmp_path / "run" / "state.pt").unlink()
    kept = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"run holds log\.jsonl of a run whose state\.pt is gone: bring that back"):
        train(tmp_path / "run")
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "vae.safetensors").touch()
    with pytest.raises(ValueError, match=r"done holds vae\.safetensors of a run"):
        train(tmp_path / "done")


def test_a_run_keeps_its_tokenizer(tiny: Model, cache: Path, tmp_path: Path) -> None:
    training = DiTTraining(steps=1, tokens=16, mix=(("1x32x32", 1.0),))
    train_dit(tmp_path, cache, trainee(tiny), training)
    kept = (tmp_path / "tokenizer.json").read_bytes()
    assert Tokenizer.from_str(kept.decode()).to_str() == tiny.tokenizer.to_str()
    other = trainee(replace(tiny, tokenizer=train_tokenizer(["quite another text, with other words"], 300)))
    with pytest.raises(ValueError, match="holds a run with another tokenizer"):
        train_dit(tmp_path, cache, other, replace(training, steps=2))
    assert (tmp_path / "tokenizer.json").read_bytes() == kept


def test_a_run_with_masks_goes_on_with_them(tiny: Model, cache: Path, tmp_path: Path) -> None:
    training = DiTTraining(steps=1, tokens=16, mix=(("1x32x32", 1.0),), masks=0.1)
    train_dit(tmp_path, cache, trainee(tiny, masks=True), training)
    with pytest.raises(ValueError, match="give --masks as it was"):
        train_dit(tmp_path, cache, trainee(tiny), replace(training, steps=2, masks=0))
    with pytest.raises(ValueError, match="masks: a trainee has the head for them where"):
        train_dit(tmp_path, cache, trainee(tiny), replace(training, steps=2))


def test_windows_that_would_do_nothing_are_refused(tiny: Model, cache: Path, tmp_path: Path) -> None:
    training = DiTTraining(steps=1, mix=(("1x32x32", 1.0),), windows=0.5)
    with pytest.raises(ValueError, match="windows: no bucket of the mix can be cut"):
        train_dit(tmp_path, cache, trainee(tiny), training)
    assert not any(tmp_path.iterdir())


def test_a_run_in_windows_is_told_their_places(
    tiny: Model, untrained: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sora_core.train.latents.PART", 24)
    monkeypatch.setattr("sora_core.train.windows.FEWEST", 2)
    for split in ("plain", "held_out"):
        fill_bucket(untrained, tmp_path / "cache", Bucket(1, 192, 192), 24, split=split)
    training = DiTTraining(steps=6, tokens=300, mix=(("1x192x192:plain", 1.0),), windows=0.5, validate_every=QUIET)
    model, told = trainee(tiny), []
    assert model.dit.config.absolute
    model.dit.register_forward_pre_hook(lambda _, given: told.append((given[0].shape[3:], given[3])))
    train_dit(tmp_path / "run", tmp_path / "cache", model, training, stop_at=5)
    whole = [places is None for _, places in told]
    assert any(whole) and not all(whole)
    for size, places in told:
        assert (places is None) == (tuple(size) == max(tuple(size) for size, _ in told))


def test_sheets_are_not_drawn_by_the_vae_of_other_latents(cache: Path, tiny: Model, tmp_path: Path) -> None:
    training = DiTTraining(steps=1, tokens=64, mix=(("1x32x32", 1.0),))
    with pytest.raises(ValueError, match="holds latents of another VAE than the one that draws the sheets"):
        train_dit(tmp_path, cache, trainee(tiny), training, tiny.vae)
    assert not any(tmp_path.iterdir())  # what failed to begin leaves nothing behind


def test_a_sheet_that_was_killed_is_drawn_again(
    tiny: Model, untrained: VAE, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = DiTTraining(steps=2, tokens=16, mix=(("1x32x32", 1.0),))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pipeline, "decode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train_dit(tmp_path, cache, trainee(tiny), training, untrained)
    assert not any((tmp_path / "samples").iterdir())
    train_dit(tmp_path, cache, trainee(tiny), training, untrained)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000002.png"]
    assert [line["step"] for line in lines(tmp_path)] == [2]


def test_a_run_is_packed_with_the_vae_of_its_latents(
    tiny: Model,
    untrained: VAE,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    training = DiTTraining(steps=1, tokens=16, mix=(("1x32x32", 1.0),), masks=0.1)
    trained = train_dit(tmp_path / "run", cache, trainee(tiny, masks=True), training)
    for name, vae in (("own", untrained), ("other", tiny.vae)):
        save_vae(tmp_path / f"{name}.safetensors", vae)

    def pack(vae: str) -> None:
        names = {"vae": f"{vae}.safetensors", "run": "run", "out": "model.safetensors"}
        options = [part for name, path in names.items() for part in (f"--{name}", str(tmp_path / path))]
        monkeypatch.setattr(sys, "argv", ["train", "pack", *options])
        main()

    with pytest.raises(SystemExit, match="was trained on latents of another VAE"):
        pack("other")
    assert not (tmp_path / "model.safetensors").exists()
    with pytest.raises(SystemExit, match="is no run of `dit`"):
        (tmp_path / "run" / "tokenizer.json").rename(tmp_path / "kept.json")
        pack("own")
    (tmp_path / "kept.json").rename(tmp_path / "run" / "tokenizer.json")
    pack("own")
    packed = load_checkpoint(tmp_path / "model.safetensors")
    for part, other in ((packed.dit, trained.dit), (packed.text, trained.text)):
        for weight, kept in zip(part.state_dict().values(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(weight, kept.bfloat16().float(), atol=0, rtol=0)
    assert packed.vae.fingerprint() == untrained.fingerprint() and packed.dit.config == trainee(tiny).dit.config
