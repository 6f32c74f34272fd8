"""The report in a real browser, opened from the disk: what a reader does, and that nothing is asked of a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dehaze_bench.results.report.site import ScanShown
from dehaze_bench.results.store import Store
from tests.results.fabricated import fabricate_many
from tests.results.report.conftest import add_pictures, write
from tests.results.report.test_site import EVIL

pytestmark = pytest.mark.slow

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
NAMES = ("chromium", "chromium-browser", "google-chrome")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of twelve rows of one seed and of two, pictures of 160 x 120, and one image with a hostile name."""
    folder = tmp_path_factory.mktemp("site")
    for record in fabricate_many(folder / "runs", runs=24, images=150, seeds=2, pictures=6):
        add_pictures(folder / "runs" / record.dir / "images" / "photos")
    hostile = EVIL.replace('"', '""')
    for path in (folder / "runs").glob("*/per_image.csv"):
        head, *lines = path.read_text().splitlines()
        path.write_text("\n".join([head, f'"{hostile}",5.0,0.1,40.0', *lines]))
    levels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    scans = [ScanShown("cross", EVIL, "", ("unet",), _png(folder, levels))]
    write(Store(folder / "runs"), folder / "out", scans)
    return folder / "out"


def _png(folder: Path, levels: np.ndarray) -> bytes:
    Image.fromarray(levels).save(folder / "scan.png")
    return (folder / "scan.png").read_bytes()


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Open]:
    """Open a page of the report; afterwards: no message in the console, no dialog, nothing from outside the folder."""
    trouble: list[str] = []
    contexts = []

    def visit(name: str, width: int = 1280, scheme: str = "light", touch: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=touch, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.requests = []
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
        page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto((site / name).as_uri())
        return page

    yield visit
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.hacked") is None
            outside = [url for url in page.requests if not url.startswith(site.as_uri())]
            assert outside == []
        context.close()
    assert trouble == []


def first_run(site: Path) -> str:
    return f"runs/{min(path.name for path in (site / 'runs').iterdir())}"


def column(page: Any, selector: str) -> list[float]:
    found = page.locator(f"{selector}").evaluate_all("cells => cells.map(cell => cell.dataset.v)")
    return [float(text) for text in found]


def place_of(page: Any, name: str) -> str:
    """The class of a column's cells, by the name of the column."""
    found = page.locator(f"#table-1 thead button[data-name={name}]").get_attribute("data-sort")
    assert isinstance(found, str)
    return found


def slider(page: Any) -> dict[str, Any]:
    """Where the divider is: its value and the clipping of the left picture, as drawn."""
    found = page.locator("img-comparison-slider").evaluate(
        """element => ({
            value: element.value, width: element.clientWidth, height: element.clientHeight,
            clip: getComputedStyle(element.shadowRoot.getElementById('firstImageContainer')).clipPath,
        })"""
    )
    assert isinstance(found, dict)
    return found


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds; Playwright's own way needs `eval`, which the pages forbid."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"still not so after 5 s: {expression}")


def test_a_table_sorts_by_mouse_and_by_keyboard(visit: Open) -> None:
    page = visit("index.html")
    cells = f"#table-1 .list td.{place_of(page, 'psnr')}"
    head = page.locator("#table-1 thead button[data-name=psnr]")
    head.click()
    assert head.locator("xpath=..").get_attribute("aria-sort") == "descending", "the best first"
    assert column(page, cells) == sorted(column(page, cells), reverse=True)
    head.press("Enter")
    assert head.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    assert column(page, cells) == sorted(column(page, cells)) and len(column(page, cells)) == 12
    page.locator("#table-1 thead button[data-sort=label]").click()
    labels = page.locator("#table-1 .list th").all_inner_texts()
    assert labels == sorted(labels)


def test_a_table_filters_by_words_and_by_numbers(visit: Open) -> None:
    page = visit("index.html")
    rows = page.locator("#table-1 .list tr")
    box = page.locator("#table-1 .filter")
    everything = rows.count()
    psnr, params = (f"#table-1 .list td.{place_of(page, name)}" for name in ("psnr", "params"))
    values = column(page, psnr)
    box.fill("columns")
    assert 0 < rows.count() < everything
    assert all("columns" in text for text in rows.all_inner_texts())
    limit = sorted(values)[5]
    box.fill(f"psnr>{limit!r}")
    assert sorted(column(page, psnr)) == [value for value in sorted(values) if value > limit]
    box.fill("params<145k")
    assert all(value < 145_000 for value in column(page, params))
    box.fill("nothing like this")
    assert rows.count() == 0 and "0 of 12 rows" in page.locator("#table-1 .count").inner_text()
    box.fill("")
    assert rows.count() == everything


def test_a_number_opens_where_it_comes_from(visit: Open) -> None:
    page = visit("index.html")
    page.locator("#table-1 .origin").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#origin")
    assert dialog.is_visible()
    text = dialog.inner_text()
    assert "RGB, full size" in text and "Pillow" in text and "result.json, per_image.csv" in text
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.locator("#table-1 td.number").first.click()
    dialog.locator("ul.runs a").first.click()
    page.wait_for_url("**/runs/*.html")
    assert page.locator("h1").inner_text()


def test_light_and_dark_follow_the_system_and_the_button(visit: Open) -> None:
    def is_dark(page: Any) -> bool:
        return int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")) < 100

    page = visit("index.html", scheme="dark")
    assert is_dark(page)
    page.emulate_media(color_scheme="light")
    assert not is_dark(page)
    page.locator("#theme").press("Enter")
    assert is_dark(page)
    page.reload()
    assert is_dark(page), "the choice is kept"
    page.locator("#theme").click()
    assert not is_dark(page)


def test_the_slider_follows_the_mouse(visit: Open, site: Path) -> None:
    page = visit(first_run(site))
    element = page.locator("img-comparison-slider")
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=6)
    page.mouse.up()
    found = slider(page)
    assert found["value"] == pytest.approx(20, abs=1)
    page.wait_for_timeout(200)
    assert slider(page)["clip"].startswith("inset(0px 8"), slider(page)["clip"]
    assert element.get_attribute("aria-valuenow") == "20"


def test_the_slider_follows_the_keyboard(visit: Open, site: Path) -> None:
    page = visit(first_run(site))
    element = page.locator("img-comparison-slider")
    element.focus()
    before = slider(page)["value"]
    page.keyboard.down("ArrowRight")
    until(page, f"document.querySelector('img-comparison-slider').value > {before} + 5")
    page.keyboard.up("ArrowRight")
    reached = slider(page)["value"]
    page.keyboard.down("ArrowLeft")
    until(page, f"document.querySelector('img-comparison-slider').value < {reached} - 3")
    page.keyboard.up("ArrowLeft")


def test_zoom_and_panning(visit: Open, site: Path) -> None:
    page = visit(first_run(site), width=700)
    stage = page.locator("#stage")
    page.locator("[data-zoom='1']").click()
    assert slider(page)["width"] == 160 and slider(page)["height"] == 120
    stage.focus()
    for _ in range(3):
        page.keyboard.press("+")
    assert slider(page)["width"] == 1280 and page.locator("#zoom-level").inner_text() == "800 %"
    before = stage.evaluate("stage => [stage.scrollLeft, stage.scrollTop]")
    value = slider(page)["value"]
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + 60, steps=4)
    page.mouse.up()
    after = stage.evaluate("stage => [stage.scrollLeft, stage.scrollTop]")
    assert after[0] - before[0] == pytest.approx(60, abs=1) and after[1] - before[1] == pytest.approx(30, abs=1)
    assert slider(page)["value"] == value, "panning leaves the divider where it is"
    page.mouse.click(box["x"] + 100, box["y"] + 90)
    assert slider(page)["value"] == pytest.approx((after[0] + 100) / 1280 * 100, abs=0.5)
    page.keyboard.press("0")
    assert slider(page)["width"] <= box["width"]


def test_pairs_the_error_map_and_another_run(visit: Open, site: Path) -> None:
    page = visit(first_run(site))
    sources = "document.querySelectorAll('#stage img')"
    for name, folders in {
        "restored | truth": ("pictures", "pictures"),
        "restored | error map": ("pictures", "errors"),
        "restored | another run": ("pictures", "pictures"),
    }.items():
        page.get_by_role("button", name=name).click()
        until(page, f"[...{sources}].every(image => image.complete && image.naturalWidth === 160)")
        found = page.evaluate(f"[...{sources}].map(image => image.src.split('/').at(-2))")
        assert tuple(found) == folders, name
    select = page.locator("#others")
    assert select.locator("option").count() == 23
    select.select_option(index=8)
    assert page.locator("#sides span").last.inner_text() == select.locator("option").nth(8).inner_text()


def test_pictures_come_only_when_they_are_looked_at(visit: Open, site: Path) -> None:
    page = visit("index.html")
    page.wait_for_timeout(300)
    assert not [url for url in page.requests if "/pictures/" in url or "/thumbs/" in url]
    page = visit(first_run(site))
    page.wait_for_timeout(300)
    assert len({url for url in page.requests if "/pictures/" in url}) == 2, "the two under the slider"


def test_values_image_by_image_lead_to_the_picture(visit: Open, site: Path) -> None:
    page = visit(first_run(site))
    rows = page.locator("#per-image .list tr")
    assert rows.count() == 100 and page.locator("#per-image .count").inner_text() == "151 rows"
    page.locator("#per-image .more").click()
    assert rows.count() == 151
    page.locator("#per-image thead button[data-sort=c1]").click()
    assert rows.first.locator("th").inner_text() == EVIL, "the worst first, whatever its name is"
    page.locator("#per-image .filter").fill("image_0004")
    rows.first.get_by_role("button").press("Enter")
    assert page.locator("#caption").inner_text() == "image_0004"
    assert page.locator(".thumb[aria-pressed=true] .name").inner_text() == "image_0004"


def test_curves_and_points_are_drawn(visit: Open, site: Path) -> None:
    page = visit(first_run(site))
    assert page.locator("#charts canvas").count() >= 4
    page = visit("index.html")
    canvas = page.locator("#table-1 .plot canvas")
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(v => v > 0)"
    assert canvas.evaluate(drawn)
    page.locator("#table-1 [data-axis=y]").select_option("ssim")
    assert page.locator("#table-1 .plot canvas").count() == 1 and canvas.evaluate(drawn)
    assert page.locator("#table-1 .matrix tbody tr").count() == 12


@pytest.mark.parametrize("name", ["index.html", "run"])
def test_a_narrow_phone_needs_no_sideways_scrolling(visit: Open, site: Path, name: str) -> None:
    page = visit(first_run(site) if name == "run" else name, width=360, touch=True)
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#theme").is_visible()
