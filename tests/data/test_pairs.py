from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from dehaze_bench.data import decoder, read_image
from dehaze_bench.data.pairs import read_size, to_tensor, write_image
from dehaze_bench.errors import UsageError


def test_a_png_is_read_exactly(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", pixels)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.float32
    assert np.array_equal(np.rint(read * 255).astype(np.uint8), pixels)
    assert read_size(tmp_path / "a.png") == (5, 7)
    tensor = to_tensor(read)
    assert tuple(tensor.shape) == (3, 5, 7)
    assert float(tensor[1, 2, 3]) == read[2, 3, 1]


def test_a_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path, picture) -> None:
    path = picture(tmp_path / "a.jpg", 16, 16)
    assert np.array_equal(np.rint(read_image(path) * 255), np.asarray(Image.open(path)))


def test_the_decoder_has_a_version() -> None:
    assert re.fullmatch(rf"Pillow {re.escape(PIL.__version__)}, libjpeg(-turbo)? \d[\w.]*", decoder())


@pytest.mark.parametrize(
    ("mode", "said"), [("L", "grey repeated"), ("RGBA", "alpha dropped"), ("P", "palette"), ("LA", "alpha dropped")]
)
def test_other_modes_are_converted_and_it_is_said_once(
    mode: str, said: str, tmp_path: Path, picture, caplog: pytest.LogCaptureFixture
) -> None:
    path = picture(tmp_path / "a.png", mode=mode)
    with caplog.at_level(logging.WARNING):
        read = read_image(path)
        read_image(path)
    assert read.shape == (24, 32, 3)
    assert [said in record.getMessage() for record in caplog.records] == [True]
    if mode in ("L", "LA"):
        assert np.ptp(read, axis=2).max() == 0


def test_alpha_keeps_the_stored_colours(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (200, 100, 50, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0] * 255 == pytest.approx([200, 100, 50])


def test_sixteen_bits_are_refused_with_a_remedy(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: found pixel mode 'I;16', expected 8-bit RGB.*Save it as"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_named(suffix: str, tmp_path: Path, picture) -> None:
    path = picture(tmp_path / f"a.{suffix}", 64, 64)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UsageError, match=rf"a\.{suffix}: expected a whole PNG or JPEG, found {len(whole) // 2} bytes.*again"
    ):
        read_image(path)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    (tmp_path / "b.png").mkdir()
    for name, found in (("a.png", "found 5 bytes"), ("b.png", "found something else"), ("c.png", "is missing")):
        for read in (read_image, read_size):
            with pytest.raises(UsageError, match=rf"{name}: .*{found}"):
                read(tmp_path / name)
