"""The sampler that honours the strength map."""

from __future__ import annotations

from ..sora_core.config import SamplingDefaults
from ..sora_core.samplers import SAMPLERS
from . import host
from .host import io

DEFAULTS = SamplingDefaults()


class SoraSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SoraSampler",
            display_name="Sora Sampler",
            category="Sora/sampling",
            description="Denoises latents along their strength map: what is to be kept stays, what is to be made is "
            "made from noise, and what is to be edited begins at its own level. The schedule follows the clip's size.",
            inputs=[
                io.Model.Input("model", tooltip="A rectified-flow video model; sora-mini or any other of the host."),
                io.Conditioning.Input("positive", tooltip="What the clip shows."),
                io.Conditioning.Input("negative", tooltip="What it is steered away from; the empty text as a rule."),
                io.Latent.Input(
                    "latent", tooltip="An empty video, or latents with a strength map; without a map all is made anew."
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**63 - 1, control_after_generate=True,
                    tooltip="Draws the noise. Same seed, same machine, same clip.",
                ),
                io.Int.Input(
                    "steps", default=DEFAULTS.steps, min=1, max=1000,
                    tooltip="Steps of the solver: 10 do for sora-mini, Wan takes 20 to 50.",
                ),
                io.Float.Input(
                    "cfg", default=DEFAULTS.cfg, min=0.0, max=100.0, step=0.1,
                    tooltip="How strongly the positive text is followed; 1 is no guidance and takes half the time.",
                ),
                io.Combo.Input(
                    "solver", options=list(SAMPLERS), default=DEFAULTS.solver,
                    tooltip="dpmpp_2m needs the fewest steps; heun runs the model twice a step; euler is plain.",
                ),
                io.Int.Input(
                    "stop_after", default=0, min=0, max=1000, optional=True,
                    tooltip="Steps after which the run stops on its way; 0 runs to the end. The latents then hold the "
                    "model's current estimate of the clip. Another Sora Sampler with the same seed, steps and solver "
                    "goes on from there, also from a file (Sora Save Draft), and ends as if there had been no stop.",
                ),
                io.Int.Input(
                    "resample", default=0, min=0, max=20, optional=True,
                    tooltip="How often each step is taken again from its result, noised anew. With a strength map and "
                    "a model that is told one timestep for the whole clip (Wan 2.1 and most others) what is made then "
                    "fits better to what is kept; every pass takes the time of the whole run. sora-mini needs none.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The finished latents.")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, solver: str | None = None) -> bool | str:
        if solver is None or solver in SAMPLERS:
            return True
        return f"solver {solver!r} is not known; use one of {', '.join(SAMPLERS)}"

    @classmethod
    def execute(
        cls,
        model: object,
        positive: list,
        negative: list,
        latent: dict,
        seed: int,
        steps: int,
        cfg: float,
        solver: str,
        stop_after: int = 0,
        resample: int = 0,
    ) -> io.NodeOutput:
        out = host.sample(
            model, positive, negative, latent, seed=seed, steps=steps, cfg=cfg, solver=solver, stop=stop_after,
            passes=resample, node_id=cls.hidden.unique_id,
        )  # fmt: skip
        size = out["samples"].shape[2:]
        notes = host.without_strength(latent), host.strange(latent, model), host.beyond(model, size)
        return io.NodeOutput(out, ui=host.noted(*notes))
