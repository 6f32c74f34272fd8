"""The sum over the window of `volume.smooth_volume`, in the order of the published convolution, compiled.

Importing this module imports numba.
"""

from __future__ import annotations

import numba


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def add_up(job, padded_MCHW, weights_HWC, out_MCHW):  # type: ignore[no-untyped-def]
    """Add to rows job[1] to job[2] of moment job[0] their windows of the padded moment, product by product."""
    m = job[0]
    taps, width = len(weights_HWC), out_MCHW.shape[3]
    for h in range(job[1], job[2]):
        for c in range(out_MCHW.shape[1]):
            for i in range(taps):
                for j in range(taps):
                    for k in range(taps):
                        weight = weights_HWC[i, j, k]
                        for w in range(width):
                            out_MCHW[m, c, h, w] += weight * padded_MCHW[m, c + k, h + i, j + w]
