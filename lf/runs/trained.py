"""Training runs: the run of a config, and runs that are found by name."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lf import data
from lf.config import Training, identity
from lf.config.schema import training_of
from lf.core.errors import UserError, few, nearest
from lf.core.runtime import Runtime
from lf.encoders import Encoder
from lf.runs.identity import identity_of, stored
from lf.runs.listing import entries
from lf.runs.run import Run
from lf.storage import checkpoint

IDENTITY = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class TrainingRun(Run):
    """A training's folder: in this store, or written by `lf.convert` or ``save_pretrained``."""

    training: Training = field(compare=False)

    @property
    def id(self) -> str:
        return identity_of(self.config)

    @property
    def is_own(self) -> bool:
        """Whether a training of this project wrote it: then its config determines its weights."""
        return "data_digest" in self.config

    def check_finished(self, key: str = "run") -> None:
        """Raises `UserError`, which says ``key=``, if its last checkpoint is not its end."""
        if self.is_own and self.row is None:
            raise UserError(f"{key}={self.id}: its training is not finished; rerun its command to resume it")

    def identity_of_weights(self, weights: str) -> str:
        """What names its ``weights``, wherever they lie: the run, or what the file holds if no training wrote it."""
        return self.id if self.is_own else identity(checkpoint.content(self.folder, weights))

    def check_data(self) -> None:
        """Raises `UserError` unless the data is what the network was trained on, as far as this is known."""
        trained_on, source = self.config.get("data_digest"), self.training
        try:
            found = data.digest(source.data, source.resolution)
        except UserError as error:
            raise UserError(f"run={self.id}: {error}; if the images were moved, give data=") from None
        if trained_on and found != trained_on:
            raise UserError(
                f"run={self.id}: data={source.data} is not what it was trained on (digest {found} instead of "
                f"{trained_on}): images were added, removed or replaced; give data= with those of the training"
            )


def training_run(config: Training) -> TrainingRun:
    """The run of the training ``config``, finished or not.

    Its identity: the config and the data's digest. Where the config names files, their contents count, not their paths:
    the same images and weights, found elsewhere, are the same run.

    Raises:
        UserError: the run that ``config.init`` names is not there, or cannot be read. A whole identity names a run that
            need not be there yet.
    """
    what = config.model_dump(mode="json", exclude={"runtime"})
    contents = {f"{at}.{key}": value for at, encoder in _encoders(config) for key, value in encoder.contents().items()}
    if config.init.name:
        place, contents["init.name"] = _trunk(config)
        what["init"]["name"] = str(place.absolute())
    folder, what = stored(Path(config.runtime.runs) / "training", what, config, contents)
    return TrainingRun(folder, what, config)


def _trunk(config: Training) -> tuple[Path, str]:
    """The folder of the run that ``config.init`` names, and what names its weights; it need not be trained yet."""
    name, runs = config.init.name, Path(config.runtime.runs)
    folder = runs / "training" / name
    if IDENTITY.fullmatch(name) and not any((place / "config.json").exists() for place in (folder, Path(name))):
        return folder, name  # its folder may be there, with a lock
    trunk = find_training(name, config.runtime, key="init")
    return trunk.folder, trunk.identity_of_weights(config.init.weights)


def _encoders(config: Training) -> Iterator[tuple[str, Encoder]]:
    """Every encoder, and its place in the config."""
    yield from ((f"latents.{number}", encoder) for number, encoder in enumerate(config.latents))
    if config.repa:
        yield "repa", config.repa


def find_training(name: str, runtime: Runtime, images: str = "", key: str = "run") -> TrainingRun:
    """A training run by name.

    Args:
        name: its folder, its identity or the unique start of one, or what it is: ``tiny cascaded seed 0``, or the name
            of a sweep's cell, ``order_ablation: tiny cascaded seed 0``.
        runtime: has the run store.
        images: where its data is now, as in ``data=``; empty: where it was.
        key: what names it, for messages.

    Raises:
        UserError: there is no such run, or several are meant.
    """
    folder = training_folder(name, Path(runtime.runs), key)
    training = training_of(folder, runtime=runtime.model_dump(), **({"data": images} if images else {}))
    return TrainingRun(folder, json.loads((folder / "config.json").read_text()), training)


def training_folder(name: str, runs: Path, key: str = "run") -> Path:
    """The folder of the training that ``name`` means in the store ``runs``; see `find_training`."""
    for folder in (Path(name), runs / "training" / name):
        if name and (folder / "config.json").exists():
            return folder
    every = [entry for entry in entries(runs) if entry.state != "archived"]
    there = [entry for entry in every if entry.kind == "training"]
    if not there:
        raise UserError(f"{key}={name}: no such training run; {runs / 'training'} has none yet")
    meant = [entry for entry in every if name and entry.means([name])]
    of = {entry.needs[0] for entry in meant if entry.needs}  # the cell of one path of a training
    found = [entry for entry in meant if entry.kind == "training"] or [entry for entry in there if entry.id in of]
    if len(found) > 1:
        told = few([f"{entry.id} ({entry.what})" for entry in found])
        raise UserError(f"{key}={name}: is not one run but {len(found)}: {told}; `python -m lf.runs` lists them")
    if not found:
        ids = nearest(name, [entry.id for entry in there])
        raise UserError(f"{key}={name}: no such training run; {ids}; `python -m lf.runs` lists them")
    return found[0].folder
