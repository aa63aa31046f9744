"""What the README and docs/ say: length, links, names, and the numbers of the committed rows."""

import importlib
import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pages import LINKED, PAGES, ROOT, blocks_of, spans

from analysis import load, tables
from analysis.findings import findings


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_an_example_of_the_readme_has_at_most_30_lines() -> None:
    for block in blocks_of(ROOT / "README.md"):
        assert len(block.text.splitlines()) <= 30, block


def test_the_readme_finds_what_the_committed_rows_say() -> None:
    frame = load("order_ablation", runs=None)
    printed = "\n".join([*findings(frame), tables.own(frame)])
    part = (ROOT / "README.md").read_text().split("## What it found")[1].split("\n## ")[0]
    points = " ".join(part[part.index("\n- ") : part.index("minutes")].split()).rpartition("The job took")[0]
    numbers = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", points) + [
        f"0.{percent}" for percent in re.findall(r"(\d\d) %", points)
    ]
    assert len(numbers) > 8
    assert not [number for number in numbers if number not in printed]


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of all headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.M)}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", page.read_text(), flags=re.M | re.S)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if re.match(r"https?:", link):
            continue
        if not target.exists() or anchor and anchor not in anchors(target):
            dead.append(link)
    assert not dead


def test_every_page_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    others = [page.name for page in PAGES if page.parent == index.parent and page != index]
    assert not [name for name in others if f"({name})" not in index.read_text()]


@pytest.mark.parametrize("page", [*PAGES, *LINKED[-2:]], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_and_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    missing = {name for name in re.findall(r"python3? -m ([\w.]+)", text) if importlib.util.find_spec(name) is None}
    for span in spans(page):
        if named := re.match(r"(?:lf|sweeps|analysis)(?:\.\w+)+(?= |$)", span):
            missing |= set() if _there(named[0]) else {named[0]}
        if re.fullmatch(r"(?:lf|sweeps|analysis|tests|docs|results|benchmarks|notebooks)/[\w./-]*", span):
            missing |= set() if (ROOT / span).exists() else {span}
    assert not missing


def _there(name: str) -> bool:
    """Whether ``name`` is a module, something in one, or a group of plugins."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def test_the_tree_shows_every_folder() -> None:
    packages = [folder.name for folder in ROOT.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
    here = [name for name in packages if subprocess.run(["git", "-C", ROOT, "ls-files", "--error-unmatch", name],
                                                        capture_output=True).returncode == 0]  # fmt: skip
    inner = {f"{part}/" for top in ("lf", "sweeps", "analysis") for part in _folders(ROOT / top)} - {"weights/"}
    readme = next(b.text for b in blocks_of(ROOT / "README.md") if b.language == "text")
    tree = next(b.text for b in blocks_of(ROOT / "docs" / "contributing.md") if b.language == "text")
    for name in here:
        assert re.search(rf"^{name}/", readme, re.M), f"README.md: {name}/"
        assert re.search(rf"^{name}/", tree, re.M), f"docs/contributing.md: {name}/"
    assert not {folder for folder in inner if not re.search(rf"^  {folder} ", tree, re.M)} - {"clusters/"}


def _folders(top: Path) -> list[str]:
    return [folder.name for folder in top.iterdir() if folder.is_dir() and folder.name[0] not in "_."]
