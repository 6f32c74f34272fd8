"""Gradients of the chunked form: the same products again, from the saved states, in the reverse direction.

Shapes as in `chunked`. The gradient of a step's logarithm sums over all pairs (i, j) of an output and an earlier input
with that step between them. Such pairs within a chunk are found as a difference, in float64, of sums over the same
products: what should cancel does, so a step that decays everything gets no rounding error for a gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dehaze_bench.ops.ssd.chunked import (
    Run,
    add_within,
    by_group,
    by_head,
    cut,
    cut_one,
    from_before,
    heads_first,
    join,
    state_by_group,
    weigh,
)
from dehaze_bench.ops.ssd.reference import per_channel, step_sizes, through_gate, through_steps


class _Found(NamedTuple):
    """Gradients of a run: of dt x, of B and C, and of the logarithms of the decays."""

    ddrive_MTHP: Tensor
    dB_MTGN: Tensor
    dC_MTGN: Tensor
    decays_MTH: Tensor


def scan_backward(
    dy_BLHP: Tensor,
    dlast_BHPN: Tensor,
    states_BSHPN: Tensor,
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
    order_L: Tensor | None,
    chunk: int,
) -> dict[str, Tensor]:
    """Return the gradients by name, as `reference.scan_backward` does; `states_BSHPN` are those of `chunked.scan`."""
    raw_BLH, dt_BLH = dt_BLH, step_sizes(dt_BLH, dt_bias_H, dt_softplus, dt_limit)
    chunks = cut(x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, order_L, chunk)
    dy_BSTHP = cut_one(dy_BLHP, order_L, chunk)
    z_BSTHP = None if z_BLHP is None else cut_one(z_BLHP, order_L, chunk)
    gated_BSTHP, dz_BSTHP = dy_BSTHP, dy_BSTHP
    if z_BSTHP is not None:
        gated_BSTHP, dz_BSTHP = torch.empty_like(z_BSTHP), torch.empty_like(z_BSTHP)
    found_BST = _Found(*(torch.empty_like(v) for v in (chunks[0], chunks[2], chunks[3], chunks[1])))
    dstate_BHPN = dlast_BHPN.clone()
    for items, parts in chunks.runs():
        for part in reversed(parts):
            run = chunks.run(items, part)
            before_MHPN = states_BSHPN[items, part].flatten(0, 1)
            past_MTHP = from_before(run, before_MHPN)
            dy_MTHP = dy_BSTHP[items, part].flatten(0, 1)
            count = items.stop - items.start
            if z_BSTHP is not None:
                y_MTHP = add_within(run, past_MTHP.clone())
                if D is not None:
                    y_MTHP.addcmul_(run.x_MTHP, per_channel(D))
                dz_MTHP, dy_MTHP = through_gate(dy_MTHP, y_MTHP, z_BSTHP[items, part].flatten(0, 1))
                dz_BSTHP[items, part] = dz_MTHP.unflatten(0, (count, -1))
                gated_BSTHP[items, part] = dy_MTHP.unflatten(0, (count, -1))
            found, dstate_BHPN[items] = _run_backward(run, dy_MTHP, past_MTHP, before_MHPN, dstate_BHPN[items])
            for whole_BST, part_MT in zip(found_BST, found, strict=True):
                whole_BST[items, part] = part_MT.unflatten(0, (count, -1))

    num_tokens = x_BLHP.shape[1]
    ddrive_BLHP, dB_BLGN, dC_BLGN, decays_BLH = (join(v, num_tokens, order_L) for v in found_BST)
    if z_BLHP is not None:
        dy_BLHP = join(gated_BSTHP, num_tokens, order_L)
    gradients = through_steps(
        ddrive_BLHP, decays_BLH, dy_BLHP, x_BLHP, raw_BLH, dt_BLH, A_H, D, dt_bias_H, dt_softplus, dt_limit
    )
    gradients |= {"B": dB_BLGN, "C": dC_BLGN, "initial": dstate_BHPN}
    return gradients if z_BLHP is None else gradients | {"z": join(dz_BSTHP, num_tokens, order_L)}


def _run_backward(
    run: Run, dy_MTHP: Tensor, past_MTHP: Tensor, before_MHPN: Tensor, dafter_BHPN: Tensor
) -> tuple[_Found, Tensor]:
    """Return the gradients of a run, and that of the state before it, from that of the state after it."""
    num_groups, num_heads = run.B_MGTN.shape[1], run.dt_MTH.shape[2]
    faded_MTHP, rest_MTH = dy_MTHP * run.decay()[..., None], run.rest()
    faded_MGTRP = by_group(faded_MTHP, num_groups)
    own_MGRPN = faded_MGTRP.mT @ run.C_MGTN
    dstates_BSHPN = torch.cat([own_MGRPN.view(len(dafter_BHPN), -1, *dafter_BHPN.shape[1:]), dafter_BHPN[:, None]], 1)
    dstates, fades = dstates_BSHPN.unbind(1), run.fades(len(dafter_BHPN))
    for s in reversed(range(len(fades))):
        dstates[s].addcmul_(dstates[s + 1], fades[s])
    dafter_MHPN = dstates_BSHPN[:, 1:].flatten(0, 1)

    dafter_MGRPN = state_by_group(dafter_MHPN, num_groups)
    ddrive_MTHP = by_head(run.B_MGTN @ dafter_MGRPN.mT, num_heads) * rest_MTH[..., None]
    dB_MGTN = by_group(run.drive(rest_MTH), num_groups) @ dafter_MGRPN
    dC_MGTN = faded_MGTRP @ state_by_group(before_MHPN, num_groups)
    # Pairs whose output, input, or both lie outside the chunk: every step lies between those of the last kind.
    arriving_MTH = (dy_MTHP * past_MTHP).sum(-1).double()
    leaving_MTH = ((ddrive_MTHP * run.x_MTHP).sum(-1) * run.dt_MTH).double()
    crossing_M1H = (dafter_MHPN * before_MHPN).sum((-1, -2))[:, None] * run.decay()[:, -1:]
    decays_MTH = _sum_from(arriving_MTH) + (leaving_MTH.cumsum(1) - leaving_MTH) + crossing_M1H
    decays_MTH += _sum_from(_add_within(run, dy_MTHP, ddrive_MTHP, dB_MGTN, dC_MGTN))
    found = _Found(ddrive_MTHP, dB_MGTN.transpose(1, 2), dC_MGTN.transpose(1, 2), decays_MTH)
    return found, dstates_BSHPN[:, 0]


def _add_within(run: Run, dy_MTHP: Tensor, ddrive_MTHP: Tensor, dB_MGTN: Tensor, dC_MGTN: Tensor) -> Tensor:
    """Add the gradients through the steps of the same chunk.

    Returns, in float64 and per step, the sum over the pairs that end here less the sum over those that begin here.
    """
    num_groups = run.B_MGTN.shape[1]
    scores_MG1TT = (run.C_MGTN @ run.B_MGTN.mT).unsqueeze(2)
    log_MHT, missing_MTH = run.split_logarithms()
    drive_MHTP = heads_first(run.x_MTHP, run.dt_MTH / missing_MTH)
    dy_MHTP = heads_first(dy_MTHP, missing_MTH)
    weights_MHTT = weigh(log_MHT)
    pairs_MHTT = (dy_MHTP @ drive_MHTP.mT).mul_(weights_MHTT)
    dscores_MGTT = pairs_MHTT.unflatten(1, (num_groups, -1)).sum(2)
    dB_MGTN += dscores_MGTT.mT @ run.C_MGTN
    dC_MGTN += dscores_MGTT @ run.B_MGTN
    pairs_MHTT.unflatten(1, (num_groups, -1)).mul_(scores_MG1TT)
    weights_MHTT.unflatten(1, (num_groups, -1)).mul_(scores_MG1TT)
    ddrive_MTHP.addcdiv_((weights_MHTT.mT @ dy_MHTP).transpose(1, 2), missing_MTH[..., None])
    change_MHT = pairs_MHTT.sum(-1, dtype=torch.float64) - pairs_MHTT.sum(-2, dtype=torch.float64)
    return change_MHT.transpose(1, 2)


def _sum_from(x_MTH: Tensor) -> Tensor:
    """Return the sums from each step to the chunk's last."""
    return x_MTH.flip(1).cumsum(1).flip(1)
