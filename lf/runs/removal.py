"""Which runs may be removed, and what a run store can do without."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lf.core.errors import UserError, few
from lf.runs.listing import KINDS, entries, size_of
from lf.storage import checkpoint
from lf.storage.lease import held, lease

REMOVED = ".removed."  # start of the name of a folder that is being removed
LEFT = ("next.safetensors.*", ".tmp??????")  # by processes that were killed while they wrote a checkpoint


@dataclass(frozen=True)
class Removal:
    """A file or a run's folder to remove.

    Attributes:
        path: the file or folder.
        bytes: its size.
        why: what it is, for a message.
    """

    path: Path
    bytes: int
    why: str

    def carry_out(self) -> None:
        """Removes it, once no other process works in its run's folder."""
        if not self.path.is_dir():
            with lease(self.path.with_name("lock")):
                self.path.unlink(missing_ok=True)
            return
        with lease(self.path / "lock"):
            gone = self.path.with_name(f"{REMOVED}{self.path.name}")
            self.path.rename(gone)  # at once: whoever is killed here leaves no half of a run
        shutil.rmtree(gone)


def named(runs: Path, words: Sequence[str], evaluations: bool) -> list[Removal]:
    """The runs that are meant by all ``words``.

    Args:
        runs: the run store.
        words: as in `lf.runs.listing.Entry.means`.
        evaluations: of a training, its evaluations too.

    Raises:
        UserError: no run is meant; or one is running, or is needed by a run that stays.
    """
    there = entries(runs)
    chosen = {entry.folder: entry for entry in there if entry.means(words)}
    if not chosen:
        raise UserError(f"{' '.join(words)}: no such run in {runs}; `python -m lf.runs --all` lists them")
    trainings = {entry.id for entry in chosen.values() if entry.kind == "training"}
    if evaluations:
        chosen |= {e.folder: e for e in there if e.kind == "evaluation" and e.needs and e.needs[0] in trainings}
    if running := [entry.id for entry in chosen.values() if entry.state == "running"]:
        raise UserError(f"{few(running)}: is running; stop it first")
    for entry in there:
        if entry.folder not in chosen and (needed := trainings & {*entry.needs}):
            count = sum(bool(trainings & {*e.needs}) for e in there if e.folder not in chosen and e.kind == entry.kind)
            remedy = (
                "which must begin with its weights; let them begin first"
                if entry.kind == "training"
                else "--evaluations removes those of a training with it"
            )
            such = f"{count} {entry.kind}s, such as {entry.id} ({entry.what})"
            raise UserError(f"{few(sorted(needed))}: is needed by {such}; {remedy}")
    return [Removal(entry.folder, entry.bytes, f"{entry.kind} {entry.what}") for entry in chosen.values()]


def unneeded(runs: Path) -> list[Removal]:
    """What no run needs: archived runs, runs that never began, and what killed processes left behind.

    Also the previous checkpoint of each training that is done and whose last checkpoint is whole.
    """
    left_over = [folder for kind in KINDS for folder in sorted((runs / kind).glob(f"{REMOVED}*"))]
    found = [Removal(folder, size_of(folder), "left by a removal that was killed") for folder in left_over]
    for entry in entries(runs):
        if entry.state in ("archived", "new"):
            why = "archived by --force" if entry.state == "archived" else "never began"
            found.append(Removal(entry.folder, entry.bytes, f"{entry.kind} {entry.what}: {why}"))
        elif not held(entry.folder / "lock"):
            left = {file for pattern in LEFT for file in entry.folder.glob(pattern)}
            found += [Removal(file, file.stat().st_size, "left by a process that was killed") for file in sorted(left)]
            previous = entry.folder / checkpoint.PREVIOUS
            if entry.state == "done" and previous.exists() and _whole(entry.folder / checkpoint.NAME):
                why = f"{entry.what} is done: its previous checkpoint"
                found.append(Removal(previous, previous.stat().st_size, why))
    return found


def _whole(file: Path) -> bool:
    try:
        checkpoint.read(file)
    except UserError:
        return False
    return True
