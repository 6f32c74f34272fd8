"""Where crops lie, symmetries and mixing: the published probabilities, alike for both pictures of a pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dehaze_bench.data import DeadLeaves, batches
from dehaze_bench.data.augmentation import augment, draw_mix, place_crop
from dehaze_bench.data.haze import Veil
from dehaze_bench.data.pairs import Sample

LEAVES = DeadLeaves(scenes=10, canvas=(64, 64))


def test_without_edge_decay_a_crop_is_placed_by_two_draws_alone() -> None:
    for key in range(20):
        one, two = np.random.default_rng(key), np.random.default_rng(key)
        assert place_crop((460, 620), (256, 256), one) == (int(two.integers(205)), int(two.integers(365)))
        assert one.random() == two.random()


def test_edge_decay_moves_crops_to_the_four_borders_as_published() -> None:
    rng, num, decay = np.random.default_rng(0), 20_000, 0.5
    places = np.array([place_crop((460, 620), (256, 256), rng, decay) for _ in range(num)])
    for axis, length in ((0, 460), (1, 620)):
        last = length - 256
        moved = decay * 256 / length
        for border in (0, last):
            # Half of those that are moved, and the share of the rest that lies there by chance.
            expected = moved / 2 + (1 - moved) / (last + 1)
            share = (places[:, axis] == border).mean()
            assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / num))
        inner = places[(places[:, axis] > 0) & (places[:, axis] < last), axis]
        counts, _ = np.histogram(inner, 10, (1, last))
        assert counts.min() > 0.85 * counts.mean()
    assert np.corrcoef(places[:, 0] == 0, places[:, 1] == 0)[0, 1] == pytest.approx(0, abs=0.03)


def test_edge_decay_makes_pixels_at_the_border_count_more() -> None:
    def weigh(decay: float) -> np.ndarray:
        rng, seen = np.random.default_rng(1), np.zeros(64)
        for _ in range(4000):
            top, _ = place_crop((64, 64), (32, 32), rng, decay)
            seen[top : top + 32] += 1
        return seen / seen.max()

    plain, moved = weigh(0.0), weigh(1.0)
    assert plain[0] < 0.06
    assert moved[0] > 0.25


def test_a_crop_as_large_as_the_picture_lies_where_it_must() -> None:
    rng = np.random.default_rng(0)
    assert {place_crop((32, 40), (32, 40), rng, 1.0) for _ in range(20)} == {(0, 0)}


def test_a_veil_turns_with_its_picture() -> None:
    plane = np.arange(16, dtype=np.float32).reshape(4, 4)
    picture = np.stack([plane] * 3)
    for key in range(16):
        sample = Sample("a", picture, picture, Veil(plane, 1.0, (1.0, 1.0, 1.0)))
        moved = augment(sample, ("flip", "rot90"), np.random.default_rng(key))
        assert moved.veil is not None
        assert np.array_equal(moved.veil.distance_HW, moved.clear[0])


def test_half_of_the_batches_are_mixed_by_a_share_of_the_beta_distribution() -> None:
    mixes = [draw_mix(0, step, 6, 1.2) for step in range(4000)]
    mixed = [mix for mix in mixes if mix is not None]
    assert 1880 < len(mixed) < 2120
    shares = np.array([mix.share for mix in mixed])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 1.2 + 1)), rel=0.1)  # of Beta(b, b)
    assert all(sorted(mix.partners) == list(range(6)) for mix in mixed)
    assert len({mix.partners for mix in mixed}) > 600
    assert draw_mix(0, 3, 6, 1.2) == mixes[3]
    assert draw_mix(0, 3, 6, None) is None


@pytest.mark.parametrize(("num_workers", "world"), [(0, 1), (0, 3), (2, 2)])
def test_both_pictures_of_a_pair_are_mixed_alike_whoever_holds_the_partner(num_workers: int, world: int) -> None:
    common = {"seed": 5, "start": 0, "stop": 8, "batch": 5, "crop": 24, "augment": ("flip",)}
    plain = list(batches(LEAVES, **common))
    shares = [
        list(batches(LEAVES, **common, mixup=1.2, rank=rank, world=world, num_workers=num_workers))
        for rank in range(world)
    ]
    mixed = 0
    for step, whole in enumerate(plain):
        parts = [share[step] for share in shares]
        assert [name for part in parts for name in part.names] == whole.names
        mix = draw_mix(5, step, 5, 1.2)
        for of in ("hazy_BCHW", "clear_BCHW"):
            found, expected = torch.cat([getattr(part, of) for part in parts]), getattr(whole, of)
            if mix is not None:
                expected = mix.share * expected + (1 - mix.share) * expected[list(mix.partners)]
            assert torch.equal(found, expected)
        mixed += mix is not None
    assert 0 < mixed < 8


def test_edge_decay_reaches_every_kind_of_training_set() -> None:
    made = list(batches(LEAVES, seed=0, start=0, stop=40, batch=4, crop=48, edge_decay=1.0))
    places = [name.split("_")[-2:] for batch in made for name in batch.names]
    at_border = [place for place in places if {place[0], place[1]} & {"0", "16"}]
    assert len(at_border) > 0.85 * len(places)  # expected is 0.95; 0.22 without
