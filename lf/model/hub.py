"""A network's files: a training run's folder, a folder that `lf.convert` wrote, or a repository on the hub.

Each has ``config.json`` and ``checkpoint.safetensors``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from lf.config import training_of
from lf.core.errors import UserError
from lf.storage import checkpoint, verified
from lf.storage.atomic import replace, sha256
from lf.storage.json_files import read_json

if TYPE_CHECKING:
    from lf.config import Training
    from lf.network import Network


class HubFiles(ModelHubMixin):
    """Reads and writes a `lf.model.denoiser.LatentForcing` as a folder or a hub repository."""

    config: "Training"
    network: "Network"
    folder: Path | None

    @classmethod
    def from_pretrained(cls, name: str | Path, weights: str = "ema", **download: Any) -> Self:  # type: ignore[override]
        """Loads a network from a training run's folder, a folder of `lf.convert`, or the Hugging Face hub.

        Args:
            name: folder, or ``owner/name`` on the hub.
            weights: ``ema``, ``ema2``, … or ``raw``.
            download: arguments of ``huggingface_hub.snapshot_download``, such as ``revision`` or ``cache_dir``.

        Raises:
            UserError: no such folder or repository, or it does not hold a network of this project.
        """
        folder = Path(name)
        if not folder.is_dir():
            try:
                folder = Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors"], **download))
            except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
                raise UserError(f"{name}: no such folder, and not found on the hub ({type(error).__name__})") from None
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: has no config.json; it must be the folder of a training run or of lf.convert")
        file = folder / checkpoint.NAME
        if not file.exists():
            raise UserError(f"run={name}: not trained yet: {file} is missing")
        told = (read_json(folder / "config.json") or {}).get("weights_sha256")  # where there is no training's row
        if told and told != sha256(file):
            raise UserError(f"cannot read checkpoint {file}: its SHA-256 is not the one in config.json; get it again")
        tensors, _ = checkpoint.read(file, weights)
        if "label.weight" not in tensors:
            raise UserError(f"{file}: has no weights '{weights}'; allowed: {', '.join(checkpoint.kinds(file))}")
        place = folder.absolute()
        store = {"runtime": {"runs": str(place.parents[1])}} if place.parent.name == "training" else {}
        if bad := [key for key, value in tensors.items() if not value.isfinite().all()]:
            raise UserError(f"{file}: its weights '{weights}' are not finite, such as {bad[0]}")
        model: Any = cls(training_of(folder, **store), classes=tensors["label.weight"].shape[0] - 1)  # type: ignore[call-arg]
        checkpoint.fill(model.network, tensors, file)
        model.folder = folder
        return model.eval().requires_grad_(False)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes the weights as ``ema``, and the config; called by ``save_pretrained`` and ``push_to_hub``."""
        file = save_directory / checkpoint.NAME
        verified.write(file, {f"ema.{k}": v for k, v in self.network.state_dict().items()}, {"step": "0"})
        config = self.config.model_dump(mode="json", exclude={"runtime"}) | {"weights_sha256": sha256(file)}
        replace(save_directory / "config.json", json.dumps(config, indent=1))
