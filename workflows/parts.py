"""What the workflows share: loader, texts, sampler, material, and how a clip is saved."""

from __future__ import annotations

from graph import Node, Workflow

FPS = 12.0
SIDE = 192  # pixels: what sora-mini makes best
BUNDLED = "sora-mini (bundled)"
PROMPT = "a red circle moves left on a sky background"


def loader(w: Workflow) -> tuple[Node, tuple[Node, int]]:
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    return model, model["VAE"]


def texts(w: Workflow, model: Node, prompt: str | tuple[Node, int]) -> tuple[Node, Node]:
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=prompt)
    return positive, w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")


def sample(
    w: Workflow, model: Node, positive: Node, negative: Node, latent: tuple[Node, int], steps: int = 10,
    title: str = "", stop_after: int = 0,
) -> Node:  # fmt: skip
    return w.add(
        "SoraSampler", title, model=model["MODEL"], positive=positive["CONDITIONING"],
        negative=negative["CONDITIONING"], latent=latent, seed=0, steps=steps, cfg=4.0, solver="dpmpp_2m",
        stop_after=stop_after, resample=0,
    )  # fmt: skip


def material(w: Workflow, colour: str, shape: str, motion: str, background: str, frames: int = 17) -> Node:
    return w.add(
        "SoraWorldClip", "Material", shape=shape, colour=colour, motion=motion, background=background, size="medium",
        style="plain", width=SIDE, height=SIDE, frames=frames, seed=0,
    )  # fmt: skip


def finish(
    w: Workflow, model: Node, task: Node, prompt: str | tuple[Node, int], name: str, *given: Node, loop: bool = False,
    source: Node | None = None, source_at: int = 0,
) -> None:  # fmt: skip
    """The part that all tasks share: texts, sampler, decoder, report, video."""
    positive, negative = texts(w, model, prompt)
    sampler = sample(w, model, positive, negative, task["LATENT"])
    tail = output(w, model, sampler, name, seams=task["seams"], loop=loop, source=source, source_at=source_at)
    for title, *column in (
        ("Material", *given), ("Model, task", model, task), ("Text", positive, negative), ("Sample", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)


def output(
    w: Workflow, model: Node, sampler: Node, name: str, *, seams: str | tuple[Node, int] = "", loop: bool = False,
    source: Node | None = None, source_at: int = 0,
) -> list[tuple]:  # fmt: skip
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"sora/{name}", format="auto", codec="auto")
    given = {} if source is None else {"source": source["IMAGE"]}
    figures = w.add("SoraClipReport", images=frames["IMAGE"], **given, seams=seams, loop=loop, source_at=source_at)
    plot = w.add("SaveImage", "The report", images=figures["plot"], filename_prefix=f"sora/{name}_report")
    return [("Decode", frames, video, figures), ("Save", save, plot)]


def save_video(w: Workflow, images: tuple[Node, int], prefix: str, *columns: tuple[Node, ...]) -> None:
    video = w.add("CreateVideo", images=images, fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=prefix, format="auto", codec="auto")
    in_columns(w, *columns[:-1], (*columns[-1], video), (save,))


def in_columns(w: Workflow, *columns: tuple[Node, ...]) -> None:
    for title, column in zip(("Model", "Text and canvas", "Sample", "Decode", "Save"), columns, strict=True):
        w.column(title, *column)
