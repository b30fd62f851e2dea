"""Writes the shipped workflows, UI format here and API format under `api/`, from one description each.

python workflows/build.py        write all (tests check that what is in the folder is what this writes)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from basics import (  # noqa: E402
    draft_continue,
    expand_prompt,
    patches,
    regions,
    stock_sampler,
    text_to_image,
    text_to_video,
    vae_roundtrip,
)
from graph import Workflow  # noqa: E402
from long_clips import long_edit, long_video, your_video  # noqa: E402
from tasks import (  # noqa: E402
    describe,
    draft_refine,
    extend,
    extend_backward,
    inpaint,
    keyframes,
    loop,
    outpaint,
    reroll,
    sdedit,
    transition,
)
from wan import wan_experts, wan_extend, wan_image_to_video, wan_text_to_video  # noqa: E402

WORKFLOWS: tuple[Callable[[], Workflow], ...] = (
    text_to_video, expand_prompt, regions, text_to_image, vae_roundtrip, patches, stock_sampler,
    extend, extend_backward, describe, transition, loop, keyframes, sdedit, reroll, inpaint, outpaint, draft_refine,
    draft_continue,
    long_video, long_edit, your_video, wan_text_to_video, wan_experts, wan_image_to_video, wan_extend,
)  # fmt: skip


def write(folder: Path = HERE) -> list[Path]:
    """Write every workflow in both formats; returns the files."""
    files = []
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for make in WORKFLOWS:
        workflow = make()
        for path, content in (
            (folder / f"{workflow.name}.json", workflow.ui()),
            (folder / "api" / f"{workflow.name}.json", workflow.api()),
        ):
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            files.append(path)
    return files


if __name__ == "__main__":
    for path in write():
        print(path)
