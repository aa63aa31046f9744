"""Reports of one question stand side by side, each is found by its name, and an index lists them."""

import io
import json
import webbrowser
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from made import CELLS, made
from order import table_of
from rich.console import Console

import analysis
from analysis import folders, report, results, tables
from lf.core.errors import UserError

matplotlib.use("agg")


def row_of(data: str, digest: str = "") -> dict[str, Any]:
    protocol = {"data": data.partition(":")[0], **({"data_digest": digest} if digest else {})}
    return {"protocol": json.dumps(protocol), **({"data": data} if ":" in data else {})}


@pytest.mark.parametrize(
    ("rows", "seeds", "words", "name"),
    [
        ([row_of("shapes")], [0], [], "q"),
        ([row_of("digits")], [0], ["data=digits"], "q-digits"),
        ([row_of("shapes")], [0, 1, 2], [], "q-seeds-0-2"),
        ([row_of("digits")], [5], [], "q-digits-seeds-5"),
        ([row_of("shapes")], [0, 2], ["budget=smoke"], "q-seeds-0,2-smoke"),
        ([row_of("folder:/a/my photos", "3fa2" * 4)], [0], [], "q-my-photos-3fa2"),
        ([row_of("folder:/b/my photos/", "77aa" * 4)], [0], [], "q-my-photos-77aa"),
        ([row_of("shards:/data/in256/train-{000..127}.tar", "0b" * 8)], [0], [], "q-in256-0b0b"),
        ([row_of("shapes"), row_of("digits")], [0], [], "q-shapes+digits"),
        ([{"protocol": None}], [0], [], "q"),
        ([row_of("shapes")], [0], ["from=trunk", "probe=0.1"], "q-trunk"),
        ([row_of("digits")], [0, 1], ["from=trunk", "budget=smoke"], "q-trunk-digits-seeds-0-1-smoke"),
    ],
)
def test_a_folder_is_named_by_the_question_and_what_differs(
    rows: list[dict[str, Any]], seeds: list[int], words: list[str], name: str
) -> None:
    frame = pd.DataFrame([{**row, "seed": seed} for row in rows for seed in seeds])
    frame.attrs = {"launch": "q", "sweep": "whatever", "words": words}
    assert folders.report_name(frame) == name
    frame.attrs["launch"] = ""
    assert folders.report_name(frame) == "whatever", "committed rows, a search, one training"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store in which one question was launched with three seeds, and then with one."""
    for seeds in ((0, 1, 2), (0,)):
        report.show("p_latent", made(tmp_path / "runs", "p_latent", seeds), Console(file=io.StringIO()))
    return tmp_path / "runs"


def test_other_seeds_overwrite_no_report_and_each_is_found_by_its_name(place: Path) -> None:
    several, one = place / "reports" / "p_latent-seeds-0-2", place / "reports" / "p_latent"
    assert len(pd.read_csv(several / "pairs.csv")) and not (one / "pairs.csv").exists()
    assert "± is the standard deviation over 3" in (several / "report.html").read_text()
    assert "One training seed" in (one / "report.html").read_text()
    assert len(analysis.load("p_latent", place)) == len(CELLS["p_latent"]), "the last launch"
    frame = analysis.load("p_latent-seeds-0-2", place)
    assert len(frame) == 3 * len(CELLS["p_latent"]) and len(tables.published(frame)) == 1
    before = contents(several)
    for command, words in ((tables, []), (report, [])):
        command.main(["p_latent-seeds-0-2", f"runs={place}", *words])
    after = contents(several)
    assert {**before, "report.html": b"", "about.json": b"", "table.tex": b""} == {
        **after, "report.html": b"", "about.json": b"", "table.tex": b"",
    }  # fmt: skip
    with pytest.raises(UserError, match="did you mean 'p_latent-seeds-0-2'|p_latent-seeds-0-2"):
        analysis.load("p_latent-seeds-02", place)


def test_the_index_lists_all_reports(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place / "reports" / "of_an_earlier_version"
    old.mkdir()
    (old / "report.html").write_text("<p>old</p>")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda page: bool(opened.append(page)) or True)
    report.main([f"runs={place}", "--open"])
    file = place / "reports" / "index.html"
    assert capsys.readouterr().out == f"{file}\n" and opened == [file.as_uri()]
    said = file.read_text()
    for name in ("p_latent", "p_latent-seeds-0-2", "of_an_earlier_version"):
        assert said.count(f'href="{name}/report.html"') == 2
    assert 'src="p_latent-seeds-0-2/thumbnail.png"' in said and "What does p_latent ask?" in said
    assert "18 of 18 evaluations done · data shapes ·\nseeds 0, 1, 2" in said and "6 of 6" in said
    assert (place / "reports" / "p_latent" / "thumbnail.png").stat().st_size < 60_000
    monkeypatch.chdir(place.parent)
    monkeypatch.setattr(webbrowser, "open", lambda page: False)
    report.main(["p_latent", "--open"])
    assert capsys.readouterr().out == "runs/reports/p_latent/report.html\nno browser was found; open this file in one\n"


def test_an_index_of_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="runs: no report yet; sweeps.launch NAME writes one"):
        report.main([])


def test_committed_rows_get_a_page_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report.main(["p_latent", "results"])
    assert [str(file) for file in Path().rglob("*.*")] == ["results/p_latent/report.html"]
    report.main(["p_latent"])
    assert 'href="p_latent/report.html"' in Path("runs/reports/index.html").read_text()


@pytest.mark.parametrize("name", CELLS)
def test_the_table_at_the_end_of_a_launch_fits_80_columns(name: str, tmp_path: Path) -> None:
    def many(_: dict[str, Any], row: dict[str, Any]) -> None:
        row |= {"fid": 12.3, "inception_score": 33.2, "kid": 0.1234, "precision": 0.5, "recall": 0.6}

    place = made(tmp_path, name, (0, 1), many)
    lines = table_of(place, name).splitlines()
    assert max(map(len, lines)) <= 80 and "12.30 ± 0.00" in "\n".join(lines), "no number is folded"
    for score in ("FD-shapes", "FID", "IS", "KID", "precision", "recall"):
        assert sum(score in line.split() for line in lines) == 1, "every score once"
    whole = table_of(place, name, 400).splitlines()
    assert len(whole) == len(CELLS[name]) + 2, "one table where there is room"


def test_load_takes_the_manifest_that_a_report_keeps(place: Path) -> None:
    kept = json.loads((place / "reports" / "p_latent-seeds-0-2" / "sweep.json").read_text())
    assert len(kept["cells"]) == 18 and results.launched("p_latent", place)
    frame = analysis.load("p_latent-seeds-0-2", place)
    assert folders.report_folder(frame) == place / "reports" / "p_latent-seeds-0-2"
    assert frame.attrs["failures"] == [] and frame.attrs["launch"] == "p_latent"
