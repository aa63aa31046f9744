"""The files of small pretrained encoders, and a machine without a network."""

import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from vits import data2vec_file, dino_folder, hf_folder, moco_net, moco_state, randomised


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small file or folder an encoder."""
    torch.manual_seed(1)
    place = tmp_path_factory.mktemp("weights")
    torch.save({"epoch": 300, "arch": "vit_base", "state_dict": moco_state(randomised(moco_net()), 24)}, place / "moco")
    data2vec_file(place / "data2vec")
    dino_folder(place / "dino")
    save_file(randomised(timm.create_model("vit_tiny_patch16_224")).state_dict(), place / "timm.safetensors")
    hf_folder(place / "hf", transformers.ViTConfig, transformers.ViTModel)
    return place


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and empty caches below the folder returned."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests\nat all")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refused)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path
