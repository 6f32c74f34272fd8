"""State matrices to start from, for one channel with N states.

Complex ones are returned as N / 2 modes, each standing for a conjugate pair. Gu et al. 2020, HiPPO (arXiv 2008.07669),
section 2.3; Gu et al. 2022, S4D (arXiv 2206.11893), section 4.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dehaze_bench.errors import UsageError, nearest


def initial_modes(name: str, num_states: int) -> tuple[Tensor, Tensor]:
    """Return the diagonal of A and B, both (N / 2) complex or (N) real: "lin", "inv", "real", "legs" or "random"."""
    if name not in MODES:
        raise UsageError(f"no initialisation '{name}' of a state space. {nearest(name, MODES)}")
    if num_states < 1 or (name != "real" and num_states % 2):
        need = "positive" if name == "real" else "even and positive, a conjugate pair per mode"
        raise UsageError(f"d_state must be {need}, for the initialisation '{name}', not {num_states}")
    return MODES[name](num_states)


def _lin(num_states: int) -> tuple[Tensor, Tensor]:
    """S4D-Lin: A_n = -1/2 + i pi n."""
    n = torch.arange(num_states // 2)
    return _with_ones(torch.complex(torch.full(n.shape, -0.5), torch.pi * n))


def _inv(num_states: int) -> tuple[Tensor, Tensor]:
    """S4D-Inv: A_n = -1/2 + i N / pi (N / (2 n + 1) - 1)."""
    n = torch.arange(num_states // 2)
    return _with_ones(torch.complex(torch.full(n.shape, -0.5), num_states / torch.pi * (num_states / (2 * n + 1) - 1)))


def _real(num_states: int) -> tuple[Tensor, Tensor]:
    """S4D-Real: A_n = -(n + 1)."""
    return _with_ones(-torch.arange(1.0, num_states + 1))


def _random(num_states: int) -> tuple[Tensor, Tensor]:
    """Decays uniform in (0, 1], frequencies log-normal: the control."""
    decay = 1 - torch.rand(num_states // 2)
    return _with_ones(torch.complex(-decay, torch.exp(torch.randn(num_states // 2))))


def _legs(num_states: int) -> tuple[Tensor, Tensor]:
    """S4D-LegS: HiPPO-LegS made normal by adding P P^T, P_n = sqrt(n + 1/2), in its eigenbasis."""
    A_NN, B_N = hippo_legs(num_states)
    P_N = np.sqrt(np.arange(num_states) + 0.5)
    normal_NN = A_NN + P_N[:, None] * P_N  # -1/2 on the diagonal, else skew-symmetric
    skew_NN = normal_NN + 0.5 * np.eye(num_states)
    frequencies_N, basis_NN = np.linalg.eigh(-1j * skew_NN)
    upper = frequencies_N > 0  # one of each pair
    A = torch.tensor(-0.5 + 1j * frequencies_N[upper], dtype=torch.complex64)
    return A, torch.tensor(basis_NN[:, upper].conj().T @ B_N, dtype=torch.complex64)


def hippo_legs(num_states: int) -> tuple[np.ndarray, np.ndarray]:
    """Return HiPPO-LegS, dense: A (N, N) and B (N), which project the past on Legendre polynomials."""
    n = np.arange(num_states)
    root = np.sqrt(2 * n + 1.0)
    A_NN = -np.tril(root[:, None] * root, -1) - np.diag(n + 1.0)
    return A_NN, root


def _with_ones(A: Tensor) -> tuple[Tensor, Tensor]:
    return A, torch.ones_like(A)


MODES: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "lin": _lin,
    "inv": _inv,
    "real": _real,
    "legs": _legs,
    "random": _random,
}
