"""The fast form of the SSD: matrix products inside chunks, a short recurrence over the chunks' states.

Shapes: B batch, L tokens, S chunks of T steps, H heads, P channels of a head, G groups, R = H / G heads of a group,
N states; M chunks of a run. Dao and Gu 2024 (arXiv 2405.21060), section 6. Plain torch: any device; float32, or float64
for float64 data.

Exponents: the logarithms of the decays are summed in float64, and what is raised to a power is the difference of two
such sums, the sum over a segment. Where A <= 0 no power exceeds 1, whatever the steps, so nothing overflows; a large
step (a forgotten past) does not cost the others their digits.

The chunks are worked off in runs, small enough on a CPU to stay in its cache. Memory beyond inputs and results: that of
one run, a gathered copy of the inputs where the order is not raster (the products bound the operator, not the copy),
and, for a backward pass, the state before every chunk: L / T * H * P * N numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dehaze_bench.ops.ssd.reference import per_channel, step_sizes

WEIGHTS = {"cpu": 1 << 19, "cuda": 1 << 26}  # weights inside chunks, H T T for each, that a run may hold
LOG2_E = math.log2(math.e)


class Chunks(NamedTuple):
    """Inputs in visiting order, cut into chunks; steps that fill up the last one have dt = 0 and leave no trace."""

    x_BSTHP: Tensor
    dt_BSTH: Tensor
    B_BSTGN: Tensor
    C_BSTGN: Tensor
    A_H: Tensor

    def runs(self) -> list[tuple[slice, list[slice]]]:
        """Return (items of the batch, their chunks in runs): some whole sequences, or parts of a single long one."""
        batch, num_chunks, num_steps, num_heads = self.dt_BSTH.shape
        affordable = WEIGHTS.get(self.dt_BSTH.device.type, WEIGHTS["cpu"]) // (num_heads * num_steps**2)
        together, size = max(1, affordable // num_chunks), max(1, affordable)
        parts = [slice(start, min(start + size, num_chunks)) for start in range(0, num_chunks, size)]
        return [(slice(first, min(first + together, batch)), parts) for first in range(0, batch, together)]

    def run(self, items: slice, part: slice) -> Run:
        """Return the chunks of one run."""
        x_MTHP, dt_MTH, B_MTGN, C_MTGN = (v[items, part].flatten(0, 1) for v in self[:4])
        log_MTH = (dt_MTH.double() * (self.A_H.double() * LOG2_E)).cumsum(1)
        return Run(x_MTHP, dt_MTH, B_MTGN.transpose(1, 2), C_MTGN.transpose(1, 2), log_MTH)


class Run(NamedTuple):
    """Some neighbouring chunks."""

    x_MTHP: Tensor
    dt_MTH: Tensor
    B_MGTN: Tensor
    C_MGTN: Tensor
    log_MTH: Tensor  # float64: base-2 logarithm of the decay from before the chunk to after the step

    def decay(self) -> Tensor:
        """Return the decay from before the chunk to after the step, (M, T, H)."""
        return self._power(self.log_MTH)

    def rest(self) -> Tensor:
        """Return the decay from after the step to the end of the chunk, (M, T, H)."""
        return self._power(self.log_MTH[:, -1:] - self.log_MTH)

    def fades(self, batch: int) -> tuple[Tensor, ...]:
        """Return the decay over each chunk in turn, (B, H, 1, 1)."""
        return self._power(self.log_MTH[:, -1]).unflatten(0, (batch, -1))[..., None, None].unbind(1)

    def drive(self, factor_MTH: Tensor) -> Tensor:
        """Return dt x times a factor per step and head, (M, T, H, P)."""
        return self.x_MTHP * (self.dt_MTH * factor_MTH)[..., None]

    def split_logarithms(self) -> tuple[Tensor, Tensor]:
        """Return the logarithms rounded to the data's type, (M, H, T), and 2**(what that left), (M, T, H).

        The second is 1 but for rounding: a factor of the rows, and a divisor of the columns, of the weights inside
        chunks, which are then made of float32 differences as exact as those of the float64 sums.
        """
        log_MHT = self.log_MTH.transpose(1, 2).contiguous()
        rounded_MHT = log_MHT.to(self.dt_MTH.dtype)
        return rounded_MHT, self._power(log_MHT - rounded_MHT).transpose(1, 2)

    def _power(self, log: Tensor) -> Tensor:
        return torch.exp2(log).to(self.dt_MTH.dtype)


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
    order_L: Tensor | None,
    initial_BHPN: Tensor | None,
    chunk: int,
    save_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (B, L, H, P), the last state (B, H, P, N) and, if asked, those before every chunk (B, S, H, P, N)."""
    dt_BLH = step_sizes(dt_BLH, dt_bias_H, dt_softplus, dt_limit)
    chunks = cut(x_BLHP, dt_BLH, A_H, B_BLGN, C_BLGN, order_L, chunk)
    batch, num_chunks = chunks.dt_BSTH.shape[:2]
    state = (*x_BLHP.shape[2:], B_BLGN.shape[3])
    y_BSTHP = x_BLHP.new_empty(chunks.x_BSTHP.shape)
    saved_BSHPN = x_BLHP.new_empty(batch, num_chunks if save_states else 0, *state)
    last_BHPN = x_BLHP.new_zeros(batch, *state) if initial_BHPN is None else initial_BHPN.clone()
    for items, parts in chunks.runs():
        for part in parts:
            run = chunks.run(items, part)
            states_BSHPN = _states(run, last_BHPN[items])
            before_MHPN = states_BSHPN[:, :-1].flatten(0, 1)
            y_MTHP = add_within(run, from_before(run, before_MHPN))
            if D is not None:
                y_MTHP.addcmul_(run.x_MTHP, per_channel(D))
            y_BSTHP[items, part] = y_MTHP.unflatten(0, (items.stop - items.start, -1))
            last_BHPN[items] = states_BSHPN[:, -1]
            if save_states:
                saved_BSHPN[items, part] = states_BSHPN[:, :-1]
    y_BLHP = join(y_BSTHP, x_BLHP.shape[1], order_L)
    return y_BLHP if z_BLHP is None else y_BLHP.mul_(F.silu(z_BLHP)), last_BHPN, saved_BSHPN


def cut(
    x_BLHP: Tensor,
    dt_BLH: Tensor,
    A_H: Tensor,
    B_BLGN: Tensor,
    C_BLGN: Tensor,
    order_L: Tensor | None,
    chunk: int,
) -> Chunks:
    """Gather the tokens and cut them into chunks; dt holds the steps as they are taken."""
    x_BSTHP, dt_BSTH, B_BSTGN, C_BSTGN = (cut_one(v, order_L, chunk) for v in (x_BLHP, dt_BLH, B_BLGN, C_BLGN))
    return Chunks(x_BSTHP, dt_BSTH, B_BSTGN, C_BSTGN, A_H)


def cut_one(x: Tensor, order_L: Tensor | None, chunk: int) -> Tensor:
    """(B, L, ...) to (B, S, T, ...): T at most `chunk`, and as small as that S allows; zeros at the end."""
    num_tokens = x.shape[1]
    x = x if order_L is None else x[:, order_L]
    num_steps = -(-num_tokens // count_chunks(num_tokens, chunk))
    missing = -num_tokens % num_steps
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
    return x.unflatten(1, (-1, num_steps))


def count_chunks(num_tokens: int, chunk: int) -> int:
    """Return S, for chunks of at most `chunk` steps."""
    return -(-num_tokens // chunk)


def join(x_BST: Tensor, num_tokens: int, order_L: Tensor | None) -> Tensor:
    """(B, S, T, ...) to (B, L, ...): the inverse of `cut_one`."""
    x_BL = x_BST.flatten(1, 2)[:, :num_tokens].contiguous()
    return x_BL if order_L is None else torch.empty_like(x_BL).index_copy_(1, order_L, x_BL)


def by_group(x_MTHP: Tensor, num_groups: int) -> Tensor:
    """(M, T, H, P) to (M, G, T, R P)."""
    return x_MTHP.flatten(2).unflatten(2, (num_groups, -1)).transpose(1, 2)


def by_head(x_MGTRP: Tensor, num_heads: int) -> Tensor:
    """(M, G, T, R P) to (M, T, H, P)."""
    return x_MGTRP.transpose(1, 2).flatten(2).unflatten(2, (num_heads, -1))


def state_by_group(x_MHPN: Tensor, num_groups: int) -> Tensor:
    """(M, H, P, N) to (M, G, R P, N)."""
    return x_MHPN.unflatten(1, (num_groups, -1)).flatten(2, 3)


def _states(run: Run, first_BHPN: Tensor) -> Tensor:
    """Return the states before every chunk and after the last, (B, M / B + 1, H, P, N)."""
    batch = len(first_BHPN)
    own_MGRPN = by_group(run.drive(run.rest()), run.B_MGTN.shape[1]).mT @ run.B_MGTN
    own_BSHPN = own_MGRPN.view(batch, -1, *first_BHPN.shape[1:])
    states_BSHPN = torch.cat([first_BHPN[:, None], own_BSHPN], dim=1)
    states = states_BSHPN.unbind(1)
    for s, fade_BH11 in enumerate(run.fades(batch)):
        states[s + 1].addcmul_(states[s], fade_BH11)
    return states_BSHPN


def from_before(run: Run, before_MHPN: Tensor) -> Tensor:
    """Return what the states before the chunks add to y, (M, T, H, P)."""
    states_MGRPN = state_by_group(before_MHPN, run.C_MGTN.shape[1])
    return by_head(run.C_MGTN @ states_MGRPN.mT, before_MHPN.shape[1]).mul_(run.decay()[..., None])


def add_within(run: Run, y_MTHP: Tensor) -> Tensor:
    """Add to y what the steps of the same chunk give."""
    log_MHT, missing_MTH = run.split_logarithms()
    weights_MHTT = weigh(log_MHT)
    weights_MHTT.unflatten(1, (run.B_MGTN.shape[1], -1)).mul_((run.C_MGTN @ run.B_MGTN.mT).unsqueeze(2))
    drive_MHTP = heads_first(run.x_MTHP, run.dt_MTH / missing_MTH)
    return y_MTHP.addcmul_((weights_MHTT @ drive_MHTP).transpose(1, 2), missing_MTH[..., None])


def weigh(log_MHT: Tensor) -> Tensor:
    """Return the decay from step j to step i, (M, H, i, j), 0 where j > i."""
    num_steps = log_MHT.shape[2]
    future_TT = torch.full((num_steps, num_steps), -math.inf, dtype=log_MHT.dtype, device=log_MHT.device).triu(1)
    return (log_MHT[..., :, None] - log_MHT[..., None, :]).add_(future_TT).exp2_()


def heads_first(x_MTHP: Tensor, factor_MTH: Tensor) -> Tensor:
    """Return x * factor as (M, H, T, P) in that memory order."""
    num_chunks, num_steps, num_heads, num_channels = x_MTHP.shape
    out_MHTP = x_MTHP.new_empty(num_chunks, num_heads, num_steps, num_channels)
    return torch.mul(x_MTHP.transpose(1, 2), factor_MTH.transpose(1, 2)[..., None], out=out_MHTP)
