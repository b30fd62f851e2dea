"""The pack's nodes, listed one by one. They unpack sockets, make one call into `sora_core`, and pack sockets."""

from __future__ import annotations

from .draft import SoraLoadDraft, SoraSaveDraft
from .empty import SoraEmptyVideo
from .extend import SoraExtend
from .host import ComfyExtension, io
from .interpolate import SoraInterpolate, SoraLoop, SoraPromptRamp
from .keyframes import SoraKeyframes
from .load import SoraJoinExperts, SoraLoadDiT, SoraLoadModel, SoraLoadVAE
from .long import SoraLongVideo
from .patches import SoraPatchify, SoraPatchStrength, SoraUnpatchify, SoraViewPatches
from .regions import SoraRegion
from .report import SoraClipReport
from .sampler import SoraSampler
from .sdedit import SoraSDEdit
from .text import SoraDescribeClip, SoraExpandPrompt, SoraTextEncode
from .vae import SoraVAEDecode, SoraVAEEncode
from .world import SoraWorldClip

NODES: list[type[io.ComfyNode]] = [
    SoraLoadModel,
    SoraLoadDiT,
    SoraLoadVAE,
    SoraJoinExperts,
    SoraTextEncode,
    SoraRegion,
    SoraExpandPrompt,
    SoraDescribeClip,
    SoraEmptyVideo,
    SoraSampler,
    SoraVAEEncode,
    SoraVAEDecode,
    SoraSaveDraft,
    SoraLoadDraft,
    SoraPatchify,
    SoraUnpatchify,
    SoraPatchStrength,
    SoraViewPatches,
    SoraExtend,
    SoraInterpolate,
    SoraLoop,
    SoraKeyframes,
    SoraSDEdit,
    SoraPromptRamp,
    SoraLongVideo,
    SoraClipReport,
    SoraWorldClip,
]


class SoraExtension(ComfyExtension):
    """What the host loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
