"""What a public file's arguments say comes over, or is refused by name: never replaced silently."""

from pathlib import Path
from typing import Any

import pytest
import torch
from converted import WORDS, nets
from published import PublicNet, randomize
from published_files import args_of, write_checkpoint
from published_paths import cascaded_path, offset_path, shifted_path

from lf import convert
from lf.config import Evaluation, Training, preset, training_of
from lf.core.errors import UserError
from lf.core.parsing import parse
from lf.core.runtime import Runtime
from lf.evaluate import defaults_of
from lf.runs import find_training

LATENT = "latents=[{name: pixels, cells: 2}]"


def converted(place: Path, *words: str, **args: Any) -> tuple[Training, dict[str, Any]]:
    """The training config and the evaluation defaults of a converted Latent Forcing with these arguments."""
    write_checkpoint(place / "lf.pth", *nets(latent=12), args_of(**args))
    convert.main([str(place / "lf.pth"), str(place / "run"), *WORDS, LATENT, *words])
    return training_of(place / "run"), preset(str(place / "run" / "evaluation.yaml"))["evaluation"]


@pytest.mark.parametrize(
    ("args", "schedule"),
    [
        ({"sample_mode": "dino_first_cascaded_noised", "choose_dino_p": 0.3, "dino_max_t": 0.9},
         {"name": "cascaded", "beta": 0.25, "p_latent": 0.3, "latent_max": 0.9, "D_mean": -1.4}),
        ({"sample_mode": "dino_first_cascaded", "choose_dino_p": 0.5},
         {"name": "cascaded", "beta": 0.0, "p_latent": 0.5}),
        ({"sample_mode": "dino_first_shifted_aligned", "dino_pixel_shift": 9.0, "choose_dino_p": 0.4},
         {"name": "shifted", "alpha": 9.0, "p_latent": 0.4, "D_mean": -1.4, "P_mean": -0.8}),
        ({"sample_mode": "shifted_independent_uniform"}, {"name": "independent", "time_shift": 0.5}),
        ({"sample_mode": "dino_only"}, {"name": "latent_only", "D_mean": -1.4}),
        ({"sample_mode": "pixel_only"}, {"name": "pixel_only", "P_mean": -0.8}),
    ],
    ids=lambda value: value.get("sample_mode", "") if isinstance(value, dict) else "",
)  # fmt: skip
def test_every_mode_of_training_is_its_schedule(args: dict[str, Any], schedule: dict[str, Any], tmp_path: Path) -> None:
    training, _ = converted(tmp_path, D_mean=-1.4, t_eps=0.04, **args)
    assert schedule.items() <= training.schedule.model_dump().items()
    assert training.schedule.t_clip == 0.04


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"sample_mode": "dino_first_cascaded_noised", "dino_max_t": 0.9}, cascaded_path(12, latent_max=0.9)),
        ({"sample_mode": "dino_first_cascaded", "gen_shift_dino": 0.575}, cascaded_path(12, shift_dino=0.575)),
        ({"sample_mode": "dino_first_shifted_aligned", "dino_pixel_shift": 9.0}, shifted_path(12, 9)),
        ({"sample_mode": "shifted_independent_uniform", "dino_pixel_shift": 2.0}, shifted_path(12, 4)),  # its square
        ({"sample_mode": "shifted_independent_uniform"}, shifted_path(12, 1)),
        ({"sample_mode": "shifted_independent_uniform", "dino_pixel_offset": 0.1}, offset_path(12, 0.1)),
        (
            {"sample_mode": "dino_first_shifted_aligned", "dino_pixel_shift": 4.0, "dino_pixel_offset": 0.2},
            shifted_path(12, 4, 0.2),
        ),
        (
            {"sample_mode": "eval_shifted", "dino_pixel_shift": 3.0, "dino_pixel_offset": -0.3},
            shifted_path(12, 9, -0.3),
        ),
    ],
    ids=str,
)
def test_its_default_path_is_the_public_one(args: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    training, drawn = converted(tmp_path, num_sampling_steps=12, **args)
    path = parse(Evaluation, drawn).path_for(training)
    torch.testing.assert_close(path, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_weights_of_losses_and_recipe_come_over(tmp_path: Path) -> None:
    training, drawn = converted(
        tmp_path, dino_weight=0.4, lr_schedule="cosine", generation_ema="2", num_sampling_steps=30,
        sampling_method="euler", t_eps_inference=0.02, cfg=1.5, cfg_dino=2.9, interval_min_dino=0.06,
        interval_max_dino=1.0,
    )  # fmt: skip
    assert training.streams[1].loss_weight == 1.0, "the words name the latent, which then has its encoder's"
    assert training.lr_schedule == "cosine"
    assert drawn == {
        "steps": 30, "solver": "euler", "t_clip": 0.02, "weights": "ema2",
        "guidance": {"kind": "cfg", "scale": {"pixels": 1.5, "pixels_latent": 2.9},
                     "interval": {"pixels_latent": [0.06, 1.0]}},
    }  # fmt: skip
    found, _ = convert.convert(nets(latent=48)[0].state_dict())
    file = {"args": {"dino_weight": 0.4}, "epoch": 0, "steps": 1}
    words = {"data": "digits", "network": {"class_token_block": 1}}
    config = convert.config_of(found, convert.recipe_of(file, latent=True), words, 0.4)
    assert config.streams[1].loss_weight == 0.4


def test_repas_weight_comes_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "repa.pth", *nets(repa=12), args_of(dino_weight=0.7))
    words = ["repa.name=pixels", "repa.cells=2"]
    convert.main([str(tmp_path / "repa.pth"), str(tmp_path / "run"), *WORDS, *words])
    assert training_of(tmp_path / "run").repa_weight == 0.7


def test_the_files_guide_and_guidance_are_the_defaults_of_an_evaluation(tmp_path: Path) -> None:
    size = {"image": 16, "patch": 4, "bottleneck": 16, "classes": 10, "class_block": 4}
    guide = randomize(PublicNet(**size, width=384, depth=12, heads=6, latent=12), 3)
    args = args_of(guidance_method="cfg_interval", cfg=1.5, cfg_dino=2.9, interval_min_dino=0.06, gen_shift_dino=0.575)
    write_checkpoint(tmp_path / "lf.pth", *nets(latent=12), args, guide=guide)
    convert.main([str(tmp_path / "lf.pth"), str(tmp_path / "run"), *WORDS, LATENT])
    trained = find_training(str(tmp_path / "run"), Runtime(runs=str(tmp_path), compile=False, threads=1))
    drawn = parse(Evaluation, defaults_of(trained))
    assert drawn.guidance.kind == "cfg_then_autoguidance" and drawn.guidance.guide == str(tmp_path / "run-guide")
    assert drawn.shift == {"pixels_latent": 0.575} and drawn.solver == "heun" and drawn.steps == 50


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"sample_mode": "dino_first_cascade"}, "sample_mode=dino_first_cascade: not supported; .*did you mean"),
        ({"sample_mode": "shifted_independent_uniform_masked"}, "sample_mode=shifted_independent_uniform_masked"),
        ({"mask_p": 0.5}, "mask_p=0.5"),
        ({"latent_model": "clip"}, "latent_model=clip: not supported"),
        ({"lr_schedule": "linear"}, "lr_schedule=linear"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_come_over_is_refused_by_name(args: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "lf.pth", *nets(latent=48), args_of(**args))
    with pytest.raises(UserError, match=said):
        convert.main([str(tmp_path / "lf.pth"), str(tmp_path / "run"), *WORDS])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"sample_mode": "shifted_independent_uniform_masked"}, ["schedule=independent"]),
        ({"mask_p": 0.5}, ["schedule=cascaded"]),
        ({"lr_schedule": "linear"}, ["lr_schedule=linear"]),
        ({"latent_model": "clip"}, []),  # `converted` names the latent
    ],
    ids=str,
)  # fmt: skip
def test_the_remedy_that_a_refusal_names_works(args: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    training, drawn = converted(tmp_path, *words, **args)
    assert parse(Evaluation, drawn).path_for(training).shape == (51, 2)
