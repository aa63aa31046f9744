"""Warm start: a training begins with the weights of another run, the trunk. Streams are matched by name."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lf.config import Training
from lf.core.errors import UserError
from lf.diffusion.streams import Stream
from lf.encoders import Encoder
from lf.model.denoiser import LatentForcing
from lf.network import Network, NetworkConfig
from lf.runs import find_training, training_run

SHARED = ("depth", "width", "heads", "bottleneck", "patch", "class_tokens", "expert_width")
"""Fields of a network that must equal the trunk's; the two below, where there are class tokens or experts."""


def trunk_of(config: Training) -> LatentForcing:
    """The network that ``config.init`` names.

    Raises:
        UserError: it is missing, unfinished or damaged, or its blocks or streams have other shapes.
    """
    run = find_training(config.init.name, config.runtime, key="init")
    run.check_finished("init")
    theirs, mine = _shapes(run.training.network, run.training.streams), _shapes(config.network, config.streams)
    if other := [f"{k}={v} instead of {theirs[k]}" for k, v in mine.items() if theirs.get(k, v) != v]:
        raise UserError(f"init={config.init.name}: does not fit: {', '.join(other)}; these must be as in that run")
    return LatentForcing.from_pretrained(run.folder, config.init.weights)


def _shapes(network: NetworkConfig, streams: Sequence[Stream]) -> dict[str, int]:
    """What two networks must have in common, by the keys of the config, and each stream's shapes."""
    fields = [
        *SHARED,
        *(["class_token_block"] if network.class_tokens else []),
        *(["expert_depth"] if network.expert_width else []),
    ]
    found = {f"network.{key}": getattr(network, key) for key in fields}
    for stream in streams[1:]:
        found |= {f"channels of {stream.name}": stream.channels, f"patch of {stream.name}": stream.patch}
    return found


def start(network: Network, config: Training) -> str:
    """Copies into ``network`` what it shares with the network that ``config.init`` names; returns a line about it.

    Raises:
        UserError: as of `trunk_of`.
    """
    told = begin(network, trunk_of(config).network, _changed(config))
    return f"init={config.init.name}: {told}"


@torch.no_grad()
def begin(network: Network, trunk: Network, changed: Mapping[str, str] = MappingProxyType({})) -> str:
    """Copies all parameters that ``trunk`` has, too, into ``network``.

    Positions are computed and not learnt, so another resolution has no parameters of its own.

    Args:
        network: gets them.
        trunk: has them.
        changed: parts that are not copied, such as ``stream tiny``, and why.

    Returns:
        What is not copied, for a message: ``fresh parameters for stream tiny; all others are copied``.
    """
    theirs, fresh = _parts(trunk), dict[str, None]()
    for name, parameter in _parts(network).items():
        if name in theirs and theirs[name].shape == parameter.shape and name[0] not in changed:
            parameter.copy_(theirs[name])
        else:
            fresh[f"{name[0]} ({changed[name[0]]})" if name[0] in changed else name[0]] = None
    return f"fresh parameters for {', '.join(fresh)}; all others are copied" if fresh else "all parameters are copied"


def _changed(config: Training) -> dict[str, str]:
    """The parts that read other features than those of the same name in the trunk did, as far as this is known."""
    trunk = find_training(config.init.name, config.runtime, key="init")
    theirs = _features(trunk.training, trunk.config)
    mine = _features(config, training_run(config).config if config.data else {})
    found = dict[str, str]()
    for part in mine.keys() & theirs.keys():
        (my, my_known), (their, their_known) = mine[part], theirs[part]
        keys = [key for key in my.keys() | their if my.get(key) != their.get(key)]
        keys += [key for key in my_known.keys() & their_known if my_known[key] != their_known[key]]
        if keys:
            found[part] = f"other features: {', '.join(sorted(keys))}"
    return found


def _features(config: Training, stored: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Part that reads an encoder's features → settings of the encoder, and hashes of what it was made from, if known.

    The hashes are those in the run's ``stored`` config: of its files, and of the data if it is trained on them.
    """
    parts = {f"latents.{n}": f"stream {name}" for n, name in enumerate(config.stream_names[1:])} | {"repa": "REPA"}
    contents, found = stored.get("contents", {}), {}
    for (at, part), encoder in zip(parts.items(), config.encoders, strict=False):
        known = {key.removeprefix(f"{at}."): value for key, value in contents.items() if key.startswith(f"{at}.")}
        if encoder.is_trained and "data_digest" in stored:
            known["data"] = stored["data_digest"]
        found[part] = _settings(encoder), known
    return found


def _settings(encoder: Encoder) -> dict[str, Any]:
    """An encoder's fields, without its weight in the loss and the places of files."""
    found = encoder.model_dump(mode="json", exclude={"loss_weight", *encoder.files})
    for name in found:
        if isinstance(inner := getattr(encoder, name), Encoder):
            found[name] = _settings(inner)
    return found


def _parts(network: Network) -> dict[tuple[str, str], Tensor]:
    """Views of a network's parameters by part and name: those of a stream by its name, not by its number."""
    streams = [f"stream {stream.name}" for stream in network.streams]
    values = [stream.patch**2 * stream.channels for stream in network.streams]
    found = {}
    for key, value in network.state_dict().items():
        first, _, rest = key.partition(".")
        if first in ("embed", "time", "branches"):
            number, _, rest = rest.partition(".")
            found[streams[int(number)], f"{first}.{rest}"] = value
        elif key.startswith("head.linear."):  # the head that all streams share: some of its rows for each
            found |= {(name, key): rows for name, rows in zip(streams, value.split(values), strict=True)}
        elif first == "label":  # the last row means "no label"
            found |= {(f"labels of {len(value) - 1} classes", key): value[:-1], ("", key): value[-1:]}
        else:
            found["REPA" if first == "repa" else "", key] = value
    return found
