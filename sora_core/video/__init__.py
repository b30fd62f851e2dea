"""Video, image and animation files to frames and back.

Frames are float32 tensors (T, H, W, 3) in 0..1, as in ComfyUI's IMAGE. Videos go through PyAV, images and animations
through Pillow. No sound, no resizing, no colour grading here, and no choice of file names.

The same frames, settings and library versions give the same bytes. A file is written under a temporary name beside its
target and renamed when complete, so a crash leaves no half file.
"""

from .formats import frame_rate
from .read import Video, has_sound, out_of_step, pixel_aspect, read_metadata, read_video, stream_video
from .write import METADATA_SUFFIXES, check_frames, check_target, to_bytes, write_video

__all__ = [
    "METADATA_SUFFIXES",
    "Video",
    "check_frames",
    "check_target",
    "frame_rate",
    "has_sound",
    "out_of_step",
    "pixel_aspect",
    "read_metadata",
    "read_video",
    "stream_video",
    "to_bytes",
    "write_video",
]
