"""What reading and writing share: exact rates, colours, and the texts of a file."""

from __future__ import annotations

from fractions import Fraction
from numbers import Rational

SCALING = 0x4 | 0x2000 | 0x40000  # swscale flags: bicubic, full chroma when going to RGB, accurate rounding
BT709 = 1  # ITU-T H.273 code point of the BT.709 primaries, transfer and matrix alike
MUXER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # written by containers, not by us


def frame_rate(fps: float | Rational) -> Fraction:
    """Exact rate of `fps`, in frames per second; 23.976, 29.97 and their like become n * 1000/1001.

    Raises ValueError outside 0 < fps <= 1000.
    """
    if not 0 < fps <= 1000:
        raise ValueError(f"fps is {fps}; it must lie above 0 and be at most 1000 frames per second")
    if isinstance(fps, Rational):
        return Fraction(fps)
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    exact = ntsc if abs(fps - ntsc) < 2e-4 * fps else Fraction(float(fps)).limit_denominator(1001)
    if not exact:
        raise ValueError(f"fps is {fps}; rates begin at 1 frame in 1001 seconds")
    return exact
