"""The graph mixer against a literal version of itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dehaze_bench.errors import UsageError
from dehaze_bench.nn.mixers.graph import GraphConv


@pytest.mark.parametrize("length", [1, 3, 8, 13, 20])
def test_every_token_takes_the_largest_difference_to_its_nearest(length: int) -> None:
    torch.manual_seed(0)
    mixer = GraphConv(6, neighbours=3, window=8)
    s_BLD, gate = mixer.enter(torch.randn(2, length, 6))
    assert gate is None
    expected = torch.empty_like(s_BLD)
    for b in range(2):
        for i in range(length):
            start = i // 8 * 8 if length >= 8 else 0
            others = range(start, min(start + 8, length))
            likeness = {j: F.cosine_similarity(s_BLD[b, i], s_BLD[b, j], dim=0).item() for j in others if j != i}
            near = [i, *sorted(likeness, key=lambda j: -likeness[j])[:2]]
            relative = torch.stack([s_BLD[b, j] - s_BLD[b, i] for j in near]).amax(0)
            expected[b, i] = F.gelu(mixer.join(torch.cat([s_BLD[b, i], relative])))
    torch.testing.assert_close(mixer.mix(s_BLD), expected, rtol=1e-4, atol=1e-5)


def test_tokens_of_another_window_are_not_met() -> None:
    torch.manual_seed(0)
    mixer = GraphConv(6, neighbours=3, window=4)
    x_BLC = torch.randn(1, 8, 6)
    changed = x_BLC.clone()
    changed[:, 5] += 3
    assert torch.equal(mixer(changed)[:, :4], mixer(x_BLC)[:, :4])
    assert not torch.equal(mixer(changed)[:, 4:], mixer(x_BLC)[:, 4:])


@pytest.mark.parametrize("neighbours", [0, 9])
def test_bad_arguments(neighbours: int) -> None:
    with pytest.raises(UsageError, match=r"\[1, window=8\]"):
        GraphConv(6, neighbours=neighbours, window=8)
