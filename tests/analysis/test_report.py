"""The report of a sweep: one file, looked at in a real Chromium where there is one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import pytest
from browser import chromium
from made import CELLS, made
from order import table_of
from rich.console import Console

import analysis
from analysis import figures, findings, report, tables

if TYPE_CHECKING:
    from playwright.sync_api import Page

matplotlib.use("agg")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sweep, with made-up scores; in ``system`` one cell is not done and one unit has failed."""

    def harm(labels: dict[str, Any], row: dict[str, Any]) -> None:
        if labels == {"model": "JiT", "guidance": "cfg", "seed": 2}:
            row.clear()

    place = tmp_path_factory.mktemp("made")
    for name in CELLS:
        made(place, name, (0, 1, 2), harm)
    failure = place / "jobs" / ("a" * 12) / "failure.json"
    failure.parent.mkdir(parents=True)
    failure.write_text('{"kind": "bug", "message": "<b>it</b> broke"}')
    return place


@pytest.mark.parametrize("name", ["order_ablation", "p_mean_d_mean", "distillation", "diffusability", "system"])
def test_the_end_of_a_launch_shows_any_sweep(
    name: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.show(name, store, Console(width=200))
    out = capsys.readouterr().out
    folder = store / "reports" / f"{name}-seeds-0-2"
    written = {file.name for file in folder.iterdir()}
    assert {
        "table.md",
        "table.tex",
        "table.csv",
        "report.html",
        "samples.png",
        "training.pdf",
        "densities.png",
    } <= written
    assert ("paths.png" in written) == (name == "order_ablation"), "where there is more than one"
    assert {"reconstruction.png"} <= written or name != "diffusability"
    assert table_of(store, name) in out
    assert (folder / "table.md").read_text().startswith(tables.own(analysis.load(name, store)))
    assert out.splitlines()[-1] == f"report: {folder / 'report.html'}" and "table.csv" not in out
    assert findings.findings(analysis.load(name, store))[0] in out
    page = (folder / "report.html").read_text()
    assert page.count("<figcaption>") == page.count("<figure>") == len(figures.draw(analysis.load(name, store), store))
    assert "http://" not in page and "https://" not in page


def test_of_what_is_not_done_the_report_says_so(tmp_path: Path) -> None:
    place = made(tmp_path, "p_latent", change=lambda _, row: row.clear())
    page = report.page(analysis.load("p_latent", place), place)
    assert "No table: p_latent: no cell is done yet" in page and page.count(": missing") == 18


def test_of_mixed_protocols_the_report_says_which_rows(tmp_path: Path) -> None:
    def more(labels: dict[str, Any], row: dict[str, Any]) -> None:
        row["n"] = 100 + labels["seed"]

    place = made(tmp_path, "repa_placement", change=more)
    page = report.page(analysis.load("repa_placement", place), place)
    assert "No table" in page and "n is 100 in 4 rows (place none guidance none seed 0;" in page


Open = Callable[[str, int], "Page"]


@pytest.fixture(scope="module")
def opened(store: Path) -> Iterator[tuple[Open, list[str]]]:
    """Opens a sweep's report at a width; and whatever the browser complains of."""
    said: list[str] = []
    with chromium() as browser:

        def at(name: str, width: int) -> "Page":
            frame = analysis.load(name, store)
            file = report.write(frame, store / "browser" / name, store)
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
            page.goto(file.as_uri())
            return page

        yield at, said


def test_a_click_sorts_and_the_slider_shows_another_image(opened: tuple[Open, list[str]]) -> None:
    at, said = opened
    page = at("order_ablation", 1400)

    def column(number: int) -> list[str]:
        return page.locator(f"#scores tbody tr td:nth-child({number})").all_inner_texts()

    values = {"1/64": 1 / 64, "α = 1/4": 0.25, "★ 1,234.5 ± 2.00": 1234.5, "−3e-2": -0.03, "60 %": 60, ".5": 0.5}
    assert page.evaluate("texts => texts.map(number)", [*values]) == [*values.values()]
    assert page.evaluate("['block 2', '796df1 018159', '–', 'missing', ''].every(text => isNaN(number(text)))")
    heads = page.locator("#scores th").all_inner_texts()
    fd, where = heads.index("FD-shapes ↓") + 1, heads.index("path") + 1
    as_it_was = column(fd)
    page.locator("#scores th button").nth(fd - 1).click()
    numbers = [float(text.strip("★ ").split(" ")[0]) for text in column(fd)]
    assert numbers == sorted(numbers) and column(fd) != as_it_was and len(numbers) == len(CELLS["order_ablation"])
    page.locator("#scores th button").nth(fd - 1).click()
    assert [float(text.strip("★ ").split(" ")[0]) for text in column(fd)] == sorted(numbers, reverse=True)
    assert page.locator("#scores th").nth(fd - 1).get_attribute("aria-sort") == "descending"
    page.locator("#scores th button").nth(where - 1).click()
    alphas = [f"α = {a}" for a in ("1/16", "1/4", "1", "4", "16") for _ in ("tiny", "pixels")]
    assert column(where) == [*alphas, "cascaded", "cascaded", "pixel_only"], "by value, names last"
    page.locator("#scores th button").nth(where - 1).click()
    assert column(where)[: len(alphas)] == alphas[::-1]

    first, label = page.locator(".slide").get_attribute("src"), page.locator("#label").inner_text()
    page.locator("#slider").press("ArrowRight")
    assert page.locator(".slide").get_attribute("src") != first and page.locator("#label").inner_text() != label
    page.locator("#slider").press("Home")
    assert page.locator(".slide").get_attribute("src") == first
    assert not said
    page.close()


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", ["distillation", "system"])
def test_it_fits_the_screen_and_all_images_are_there(
    name: str, width: int, opened: tuple[Open, list[str]], tmp_path: Path
) -> None:
    at, said = opened
    page = at(name, width)
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".hint").first.is_visible() == (width == 390), "the table says that it scrolls"
    assert page.evaluate("getComputedStyle(document.querySelector('.wide')).borderRightStyle") == (
        "solid" if width == 390 else "none"
    )
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    page.wait_for_function(loaded)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert not said
    page.close()


def test_what_failed_is_told_as_text_and_missing_stays_last(opened: tuple[Open, list[str]]) -> None:
    at, said = opened
    page = at("system", 1400)
    assert "bug: <b>it</b> broke" in page.locator("p.bad").first.inner_text()
    assert "JiT" in page.locator("li", has_text="missing").first.inner_text()
    assert not said
    page.close()


def test_a_finding_tells_whether_reconstruction_goes_with_generation(tmp_path: Path) -> None:
    def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
        row["fd"] = 90 - row["psnr"] + 40 * (labels["guidance"] == "cfg")

    told = findings.findings(analysis.load("diffusability", made(tmp_path, "diffusability", change=change)))
    assert any("Over 6 tokenizers" in line and "rank correlation of -1.00 ± 0.00." in line for line in told), told
