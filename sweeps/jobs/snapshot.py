"""The code that a sweep's jobs run: a copy made at launch, so that later edits do not affect them."""

import hashlib
import os
import shutil
from pathlib import Path

import analysis
import lf
import sweeps
from analysis.results import PAPER, SHIPPED
from lf.runs import revision
from lf.storage.atomic import replace

PACKAGES = (lf, sweeps, analysis)


def snapshot(sweep: Path) -> Path:
    """A folder with a copy of this project's packages, made once per version of the code."""
    files = {
        f"{Path(package.__path__[0]).name}/{file.relative_to(package.__path__[0])}": file
        for package in PACKAGES
        for file in sorted(Path(package.__path__[0]).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    files |= {f"analysis/{PAPER.relative_to(SHIPPED.parent)}/{file.name}": file for file in sorted(PAPER.glob("*.csv"))}
    content = hashlib.sha256("".join(f"{name} {file.read_bytes()!r}" for name, file in files.items()).encode())
    place = sweep / f"code-{content.hexdigest()[:12]}"
    if not place.exists():
        part = place.with_name(f"{place.name}.{os.getpid()}.part")
        for name, file in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, part / name)
        replace(part / "REVISION", revision())
        os.replace(part, place)
    return place
