"""The SSD by the Triton kernels of mamba-ssm, whose layout is ours.

Shapes: B batch, L tokens, H heads, P channels of a head, G groups, N states.
"""

from __future__ import annotations

from torch import Tensor

from dehaze_bench.ops import vendor


def status() -> str:
    """Return "ok" or why not."""
    return vendor.status("ssd")


def scan(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    D: Tensor | None,
    z_BLHP: Tensor | None,
    dt_bias_H: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    initial_BHPN: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Return y in x's dtype and the last state in float32, both differentiable; the tokens are in visiting order.

    The kernels multiply tiles of at least 16 x 16, so shorter chunks become 16, and others the next power of 2.
    """
    size = max(16, 1 << (chunk - 1).bit_length())
    y_BLHP, last_BHPN = vendor.load_ssd().mamba_chunk_scan_combined(
        x_BLHP,
        dt_BLH,
        A_H,
        B_BLGN.to(x_BLHP.dtype),
        C_BLGN.to(x_BLHP.dtype),
        size,
        D=D,
        z=None if z_BLHP is None else z_BLHP.to(x_BLHP.dtype),
        dt_bias=dt_bias_H,
        initial_states=initial_BHPN,
        dt_softplus=dt_softplus,
        dt_limit=dt_limit,
        return_final_states=True,
    )
    return y_BLHP, last_BHPN.float()
