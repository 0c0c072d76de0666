"""Philox4x32-10, and unit normals from it that are the same on every machine.

The generator is Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3"): a keyed bijection of a 128-bit
counter, so that any draw can be had without the ones before it.

The normals use nothing but additions, multiplications, divisions and square roots of IEEE doubles, one array operation
each, all of which have one correctly rounded answer. The libraries' own `log` and `cos` do not: their last bit differs
between SIMD levels and versions, and no amount of rounding to float32 hides that always.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Doubles = NDArray[np.float64]

_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_SQRT_HALF: Final = math.sqrt(0.5)
# pi/2 as a sum whose first term has room for exact multiples
_RIGHT_ANGLE: Final = (1.5707963267341256, 6.077100506506192e-11)
_ATANH: Final = tuple(1 / (2 * k + 1) for k in range(12))
_SINE: Final = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(10))
_COSINE: Final = tuple((-1) ** k / math.factorial(2 * k) for k in range(10))


def philox(key: int, counter: tuple[Words | int, Words | int, Words | int, Words | int]) -> tuple[Words, ...]:
    """Ten rounds over counters of four 32-bit words (arrays of one shape, or numbers); `key` is taken modulo 2^64.

    Returns the four output words, each a uint64 array of values below 2^32.
    """
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in counter))
    for _ in range(10):
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (b >> _HALF) ^ c1 ^ np.uint64(k0), b & _LOW
        c2, c3 = (a >> _HALF) ^ c3 ^ np.uint64(k1), a & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normals(key: int, stream: tuple[int, int, int], count: int) -> NDArray[np.float32]:
    """`count` unit normals of the stream named by three 32-bit numbers: Box and Muller on 52-bit uniforms.

    Element 2i and 2i+1 are the cosine and the sine of counter (i, *stream).
    """
    pairs = np.arange((count + 1) // 2, dtype=np.uint64)
    w0, w1, w2, w3 = philox(key, (pairs, *stream))
    radius = np.sqrt(-2.0 * log((_mantissa(w0, w1) + 0.5) * 2.0**-52))
    turns = _mantissa(w2, w3) * 2.0**-52
    quarter = np.rint(turns * 4)
    sine, cosine = _rotate(quarter, (turns - quarter / 4) * (2 * math.pi))
    return np.stack([radius * cosine, radius * sine], axis=-1).reshape(-1)[:count].astype(np.float32)


def cuda_normals(key: int, offset: int, count: int) -> NDArray[np.float32]:
    """What torch.randn of `count` elements is on a CUDA device in its call number `offset` after manual_seed(key).

    One element a thread, as for every tensor of a latent's size; only the sine of each pair is used.
    """
    w0, w1, _, _ = philox(key, (offset, 0, np.arange(count, dtype=np.uint64), 0))
    step = np.float64(np.float32(2.3283064e-10))
    turn = np.float64(np.float32(2.3283064e-10 * 6.2831855))
    radius = np.sqrt(-2.0 * log(w0 * step + step / 2))
    angle = w1 * turn + turn / 2
    quarter = np.rint(angle * (2 / math.pi))
    sine, _ = _rotate(quarter, angle - quarter * _RIGHT_ANGLE[0] - quarter * _RIGHT_ANGLE[1])
    return (radius * sine).astype(np.float32)


def log(u: Doubles) -> Doubles:
    """Natural logarithm of u > 0, to about an ulp: ln m = 2 artanh((m - 1) / (m + 1)), m in [0.707, 1.414)."""
    mantissa, exponent = np.frexp(u)
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, mantissa * 2, mantissa)
    s = (mantissa - 1) / (mantissa + 1)
    return (exponent - small) * math.log(2) + 2 * s * _polynomial(_ATANH, s * s)


def _rotate(quarter: Doubles, rest: Doubles) -> tuple[Doubles, Doubles]:
    """Sine and cosine of `quarter` right angles and a rest within 45 degrees, in radians."""
    square = rest * rest
    sine, cosine = rest * _polynomial(_SINE, square), _polynomial(_COSINE, square)
    index = quarter.astype(np.int64)
    turned = (index & 1).astype(np.bool_)
    sine_sign, cosine_sign = (1 - (index & 2)).astype(np.float64), (1 - (index + 1 & 2)).astype(np.float64)
    return np.where(turned, cosine, sine) * sine_sign, np.where(turned, sine, cosine) * cosine_sign


def _polynomial(coefficients: tuple[float, ...], x: Doubles) -> Doubles:
    result = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        result *= x
        result += c
    return result


def _mantissa(high: Words, low: Words) -> Doubles:
    """52 random bits as a whole number, from two 32-bit words."""
    return ((high << np.uint64(20)) | (low >> np.uint64(12))).astype(np.float64)
