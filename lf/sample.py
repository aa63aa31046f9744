"""`python -m lf.sample run=ID [out=samples.png] [n=16] [key=value …]`: samples a grid of images.

    python -m lf.sample run=ID n=64 out=grid.png
    python -m lf.sample run=ID path=shifted path.alpha=16 label=3

The same run, seed and path give the same images.
"""

from pathlib import Path

import torch
from PIL import Image
from pydantic import Field

from lf.config import Sampling
from lf.config.cli import config_over_preset
from lf.core.cli import run_command
from lf.core.errors import UserError, nearest
from lf.evaluate import Asked, asked_run, defaults_of, fitted, guide_of, network_of


class Command(Sampling, Asked):
    """The keys of the command line."""

    n: int = Field(16, ge=1, description="number of images")
    label: int | None = Field(None, ge=0, description="class of all images; by default all classes in turn")
    out: str = Field("samples.png", description="file of the grid; not overwritten")


def main(argv: list[str]) -> None:
    trained = asked_run(argv, __doc__, Command, {})
    base = {key: value for key, value in defaults_of(trained).items() if key in Command.model_fields}
    config = fitted(config_over_preset(argv, Command, "evaluation", __doc__, base), trained, argv)
    _check_out(Path(config.out))
    config.runtime.apply()
    if config.given:
        trained.check_data()
    model = network_of(trained, config.weights)
    if config.label is not None and config.label >= model.classes:
        raise UserError(f"label={config.label}: the model has the classes 0 to {model.classes - 1}")
    labels = None if config.label is None else torch.full((config.n,), config.label)
    guide, batch = guide_of(config, config.runtime), config.runtime.batch
    images, _ = model.images(range(config.n), config, labels=labels, guide=guide, batch=batch)
    from torchvision.utils import make_grid, save_image  # imported here only: it takes a second

    save_image(make_grid(images / 255, nrow=round(config.n**0.5), padding=1), config.out)
    print(config.out)


def _check_out(file: Path) -> None:
    """Raises `UserError` if the grid cannot be written to ``file``; makes its folder."""
    if file.exists():
        raise UserError(f"out={file}: exists and is not overwritten")
    if file.suffix.lower() not in (known := sorted(Image.registered_extensions())):
        raise UserError(f"out={file}: needs the suffix of an image, such as .png; {nearest(file.suffix, known)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.unlink()
    except OSError as error:
        raise UserError(f"out={file}: {error.strerror}") from None


if __name__ == "__main__":
    run_command(main)
