"""`texture` for Triton: the same functions under the same names.

The hashes multiply away the leading digits, so they agree with `texture` only where no product is fused into a sum:
launch with ``enable_fp_fusion=False``.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, import-not-found"
# Triton has no stubs and may be absent. It compiles the jit functions from their source, where an annotation other than
# tl.constexpr would mean something else.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def saturate(x):
    """Clamp to [0, 1]."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def mix(a, b, share):
    """``a`` at share 0, ``b`` at share 1."""
    return a + (b - a) * share


@triton.jit
def fract(x):
    """See `texture.fract`."""
    return x - tl.floor(x)


@triton.jit
def hash2(x, y):
    """See `texture.hash2`."""
    a, b = fract(x * 0.1031), fract(y * 0.1031)
    dot = a * (b + 33.33) + b * (a + 33.33) + a * (a + 33.33)
    a, b = a + dot, b + dot
    return fract((a + b) * a)


@triton.jit
def value_noise(x, y):
    """See `texture.value_noise`."""
    ix, iy = tl.floor(x), tl.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    top = mix(hash2(ix, iy), hash2(ix + 1, iy), fx)
    bottom = mix(hash2(ix, iy + 1), hash2(ix + 1, iy + 1), fx)
    return mix(top, bottom, fy) * 2 - 1


@triton.jit
def fade(width):
    """See `texture.fade`."""
    return saturate((0.5 - width) * 4)


@triton.jit
def bars(x, share, width):
    """See `texture.bars`."""
    width = tl.maximum(width, 1e-3)
    low = x + 0.5 * share - 0.5 * width
    high = low + width
    integral_high = tl.floor(high) * share + tl.minimum(fract(high), share)
    integral_low = tl.floor(low) * share + tl.minimum(fract(low), share)
    return saturate((integral_high - integral_low) / width)


@triton.jit
def smoothstep(low: tl.constexpr, high: tl.constexpr, x):
    """See `texture.smoothstep`."""
    s = saturate((x - low) / (high - low))
    return s * s * (3 - 2 * s)


@triton.jit
def acos(x):
    """Arc cosine to 2e-8 (Abramowitz and Stegun 4.4.46); Triton has none that runs everywhere."""
    t = tl.abs(x)
    p = -0.0012624911
    p = p * t + 0.0066700901
    p = p * t - 0.0170881256
    p = p * t + 0.0308918810
    p = p * t - 0.0501743046
    p = p * t + 0.0889789874
    p = p * t - 0.2145988016
    p = (p * t + 1.5707963050) * tl.sqrt(1 - t)
    return tl.where(x < 0, 3.14159265 - p, p)
