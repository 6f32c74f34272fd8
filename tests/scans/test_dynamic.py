"""Orders that are found in the forward pass: permutations by content, and shuffles that a seed repeats."""

from __future__ import annotations

import pytest
import torch

from dehaze_bench.errors import UsageError
from dehaze_bench.scans import Scan, Walk, planar
from dehaze_bench.scans.dynamic import SCORES, ByContent, Shuffle
from dehaze_bench.scans.scan import DataOrder


def tokens() -> torch.Tensor:
    return torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("order", [ByContent(), ByContent("norm", reverse=True), Shuffle(), Shuffle(3)])
def test_they_are_orders(order: ByContent | Shuffle) -> None:
    assert isinstance(order, DataOrder)
    x_BTD = tokens()
    ids_BKT = order.draw(x_BTD, (4, 5))
    assert ids_BKT.shape == (3, order.num_routes, 20)
    assert ids_BKT.dtype == torch.int64
    assert torch.equal(ids_BKT.sort(dim=2).values, torch.arange(20).expand_as(ids_BKT))
    assert order.draw(x_BTD.to("meta"), (4, 5)).device.type == "meta"


@pytest.mark.parametrize("score", SCORES)
def test_content_is_sorted_by_its_score(score: str) -> None:
    x_BTD = tokens()
    ids_BKT = ByContent(score, reverse=True).draw(x_BTD, (4, 5))
    for x_TD, (up_T, down_T) in zip(x_BTD, ids_BKT, strict=True):
        by_hand = {
            "mean": [float(x_D.mean()) for x_D in x_TD],
            "norm": [float((x_D**2).sum().sqrt()) for x_D in x_TD],
            "deviation": [float(((x_D - x_TD.mean(0)) ** 2).sum().sqrt()) for x_D in x_TD],
        }[score]
        assert up_T.tolist() == sorted(range(20), key=by_hand.__getitem__)
        assert down_T.tolist() == up_T.tolist()[::-1]


def test_equal_tokens_keep_their_raster_order() -> None:
    assert ByContent().draw(torch.ones(1, 300, 2), (300, 1))[0, 0].tolist() == list(range(300))


def test_the_order_takes_no_gradient() -> None:
    x_BTD = tokens().requires_grad_()
    assert not ByContent().draw(x_BTD, (4, 5)).requires_grad


def test_shuffles_are_fresh_shared_by_the_batch_and_repeated_by_a_seed() -> None:
    x_BTD, shuffle = tokens(), Shuffle()
    torch.manual_seed(7)
    first, second = shuffle.draw(x_BTD, (4, 5)), shuffle.draw(x_BTD, (4, 5))
    assert not torch.equal(first, second)
    assert torch.equal(first[0], first[2])
    torch.manual_seed(7)
    assert torch.equal(shuffle.draw(x_BTD, (4, 5)), first)


def test_a_shuffle_of_its_own_generator_leaves_the_global_one_alone() -> None:
    x_BTD = tokens()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    drawn = [Shuffle(generator=torch.Generator().manual_seed(4)).draw(x_BTD, (4, 5)) for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(*drawn)


def test_a_scan_by_content_gathers_each_picture_in_its_own_order() -> None:
    x_BTD = tokens()
    scan = Scan("by_content", ByContent(reverse=True), "mean")
    assert (scan.num_routes, scan.is_static, scan.axes) == (2, False, (2, 3))
    (routes,) = scan.through(x_BTD, (4, 5))
    gathered = routes.gather(x_BTD)
    means_BKT = gathered.mean(3)
    assert (means_BKT[:, 0].diff(dim=1) >= -1e-6).all()
    assert (means_BKT[:, 1].diff(dim=1) <= 1e-6).all()
    back = routes.scatter(gathered)
    assert torch.equal(back, x_BTD[:, None].expand_as(back))
    with pytest.raises(UsageError, match="no fixed order"):
        scan.on((4, 5))


def test_fixed_and_drawn_walks_side_by_side() -> None:
    x_BTD = tokens()
    scan = Scan("multipath_shuffle", [Walk(planar.bidirectional), Walk(Shuffle())], "gate")  # type: ignore[arg-type]
    assert scan.num_routes == 3
    fixed, drawn = scan.through(x_BTD, (4, 5))
    assert fixed.index_KL.shape == (2, 20)
    assert drawn.index_KL.shape == (3, 1, 20)
    assert (fixed.num_routes, drawn.num_routes) == (2, 1)
    back = drawn.scatter(drawn.gather(x_BTD))
    assert torch.equal(back, x_BTD[:, None])


def test_orders_of_the_forward_pass_do_not_take_turns() -> None:
    with pytest.raises(UsageError, match="cannot alternate"):
        Scan("by_content", ByContent(), mode="alternate").for_block(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: ByContent("means"), "Did you mean 'mean'"), (lambda: Shuffle(0), "at least 1, not 0")],
)
def test_wrong_parameters_are_named(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]
