"""The config: every mistake is one line and leaves no trace, every value that counts is part of the identity."""

import sys
from pathlib import Path

import pytest
from toy import run

from lf import train
from lf.config import Evaluation, Sampling, Training
from lf.config import identity as name_of
from lf.config.cli import config_over_preset
from lf.core.cli import Parser, run_command
from lf.core.errors import UserError
from lf.core.parsing import merge, overrides, parse
from lf.network import NetworkConfig
from lf.runs import training_run

BASE = {"data": "digits", "steps": 10, "batch": 4, "lr": 1e-3, "latents": ["tiny"], "schedule": "cascaded"}


def training(**changed: object) -> Training:
    return parse(Training, {**BASE, **changed})


def identity(**changed: object) -> str:
    return training_run(training(**changed)).id


# --- mistakes


def test_the_command_says_what_is_wrong_in_one_line_and_leaves_no_trace(tmp_path: Path) -> None:
    code, out, err = run("lf.train", "schedule=cascadd", f"runtime.runs={tmp_path}/runs", cwd=tmp_path)
    assert code == 2 and out == ""
    assert err.startswith("error:") and err.count("\n") == 1 and err.endswith("\n")
    assert "'cascadd'" in err and "did you mean 'cascaded'" in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "said"), [
    ("latents=tiny schedule=cascaded schedule.p_latnt=0.4", ["cascaded.p_latnt", "did you mean 'p_latent'"]),
    ("data=folder:/no/such/place", ["data=folder:/no/such/place", "no such folder"]),
    ("schedule=cascaded", ["schedule=cascaded", "latents=[tiny]"]),
])  # fmt: skip
def test_what_is_wrong_is_one_line_and_leaves_no_trace(
    words: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lf.train", *words.split(), f"runtime.runs={tmp_path}/runs"])
    with pytest.raises(SystemExit) as stop:
        run_command(train.main)
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err.startswith("error:") and err.count("\n") == 1 and err.endswith("\n")
    assert all(part in err for part in said), err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "said"), [
    ("latents=tiny schedule=cascaded schedule.p_latent=1.4", ["cascaded.p_latent=1.4", "less than or equal to 1"]),
    ("latents=tinny", ["'tinny'", "did you mean 'tiny'"]),
    ("latents=[{name: tiny, step: 5}]", ["tiny.step", "did you mean 'steps'"]),
    ("network.dept=3", ["training.network.dept", "did you mean 'depth'"]),
    ("runtime.thread=1", ["runtime.thread", "did you mean 'threads'"]),
    ("resolutoin=32", ["training.resolutoin", "did you mean 'resolution'"]),
    ("network.heads=5", ["training.network", "heads=5"]),
    ("network.patch=7", ["resolution=32", "network.patch=7"]),
    ("lr=fast", ["training.lr='fast'"]),
    ("steps=0", ["training.steps=0", "greater than or equal to 1"]),
    ("lr=nan", ["training.lr=", "finite"]),
    ("dtype=float16", ["training.dtype='float16'", "'bfloat16'"]),
    ("preset=shaps", ["preset=shaps", "did you mean 'shapes'"]),
    ("steps", ["'steps'", "key=value"]),
    ("=3", ["'=3'", "key=value"]),
])  # fmt: skip
def test_a_wrong_word_names_the_key_the_value_and_what_is_allowed(words: str, said: list[str]) -> None:
    argv = [words] if words.startswith("latents=[") else words.split()
    with pytest.raises(UserError) as caught:
        config_over_preset(argv, Training, "training", None)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message and len(message) < 250


@pytest.mark.parametrize("word", ["schedule=3", "schedule=null", "network.heads=200"])
def test_a_value_of_a_wrong_kind_is_a_user_error_too(word: str) -> None:
    with pytest.raises(UserError):
        config_over_preset([word], Training, "training", None)


def test_cascaded_over_an_odd_number_of_steps_says_which_number_would_do() -> None:
    with pytest.raises(UserError, match="steps=49.* 50"):
        parse(Sampling, {"steps": 49}).path_for(training())
    with pytest.raises(UserError, match="steps=10.* 12"):
        parse(Sampling, {"steps": 10}).path_for(training(latents=["tiny", "pixels"]))


def test_a_schedule_without_a_path_says_so_and_another_schedule_helps() -> None:
    trained = training(schedule="independent", latents=["tiny", "pixels"])
    with pytest.raises(UserError, match="has no path; name"):
        parse(Sampling, {}).path_for(trained)
    assert parse(Sampling, {"path": {"name": "shifted", "alpha": 4}, "steps": 5}).path_for(trained).shape == (6, 3)


# --- words and layers


def test_words_become_nested_values_with_types() -> None:
    words = "steps=20 lr=1e-3 runtime.compile=false network.patch=8 latents=[tiny,pixels] data=folder:/a/b repa=null"
    assert overrides(words.split()) == {
        "steps": 20, "lr": 1e-3, "runtime": {"compile": False}, "network": {"patch": 8},
        "latents": ["tiny", "pixels"], "data": "folder:/a/b", "repa": None,
    }  # fmt: skip


def test_a_schedule_is_named_in_one_word_and_tuned_in_others() -> None:
    expected = {"schedule": {"name": "cascaded", "p_latent": 0.7}}
    assert overrides(["schedule=cascaded", "schedule.p_latent=0.7"]) == expected
    assert overrides(["schedule.p_latent=0.7", "schedule=cascaded"]) == expected
    assert overrides(["schedule={name: cascaded, p_latent: 0.7}"]) == expected
    assert overrides(["path=shifted", "path.alpha=16"]) == {"path": {"name": "shifted", "alpha": 16}}


def test_the_later_word_wins() -> None:
    assert overrides(["steps=1", "steps=2"]) == {"steps": 2}


def test_a_layer_changes_what_it_names_and_nothing_else() -> None:
    base = {"network": {"depth": 6, "width": 128}, "steps": 5}
    assert merge(base, {"network": {"depth": 2}}) == {"network": {"depth": 2, "width": 128}, "steps": 5}
    assert base == {"network": {"depth": 6, "width": 128}, "steps": 5}


def test_naming_another_plugin_drops_the_parameters_of_the_old_one() -> None:
    base = {"schedule": {"name": "cascaded", "p_latent": 0.7}}
    assert merge(base, {"schedule": {"name": "shifted"}}) == {"schedule": {"name": "shifted"}}
    assert merge(base, {"schedule": {"name": "cascaded", "beta": 0}})["schedule"]["p_latent"] == 0.7
    assert merge(base, {"schedule": {"p_latent": 0.3}}) == {"schedule": {"name": "cascaded", "p_latent": 0.3}}
    assert merge({"schedule": "cascaded"}, {"schedule": {"beta": 0}}) == {"schedule": {"name": "cascaded", "beta": 0}}


def test_words_lie_over_the_preset() -> None:
    plain, changed = (config_over_preset(argv, Evaluation, "evaluation", None) for argv in ([], ["n=10"]))
    assert changed == plain.model_copy(update={"n": 10}) and plain.steps == 20
    assert config_over_preset(["preset=imagenet256", "n=10"], Evaluation, "evaluation", None).steps == 50


def test_a_schedule_is_set_to_the_number_of_streams() -> None:
    config = training(latents=["tiny", "pixels"])
    assert config.schedule.streams == 3 and [s.name for s in config.streams] == ["pixels", "tiny", "pixels_latent"]
    assert {s.grid for s in config.streams} == {2}


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        training().steps = 3


# --- identity

CHANGES = {
    "data": "shapes", "resolution": 64, "latents": ["pixels"], "network": {"patch": 8}, "schedule": "shifted",
    "steps": 11, "batch": 5, "lr": 2e-3, "warmup": 1, "ema": 0.5, "weight_decay": 0.1, "label_dropout": 0.2,
    "dtype": "float32", "seed": 1, "repa_weight": 0.7, "flip": True, "noise_scale": 2, "lr_schedule": "cosine",
    "clip": 1,
}  # fmt: skip
NETWORK_CHANGES = {
    "depth": 13, "width": 384, "heads": 6, "bottleneck": 64, "patch": 8, "class_tokens": 3, "class_token_block": 1,
    "expert_width": 768, "expert_depth": 1, "repa_width": 5,
}  # fmt: skip
REPA = [  # what goes together: the encoder, its place and its width
    {"repa": "pixels", "network": {"repa_block": 2, "repa_width": 48}},
    {"repa": "pixels", "network": {"repa_block": 3, "repa_width": 48}},
    {"repa": "tiny", "network": {"repa_block": 2, "repa_width": 8}},
]


def test_every_training_field_is_part_of_the_identity() -> None:
    others = {"runtime", "repa", "init"}  # init: tests/training/test_warm_start.py
    assert set(CHANGES) == set(Training.model_fields) - others, "a new field: give it a change here"
    assert set(NETWORK_CHANGES) == set(NetworkConfig.model_fields) - {"repa_block"}, (
        "a new field: give it a change here"
    )
    ids = [identity(), *(identity(**{key: value}) for key, value in CHANGES.items())]
    ids += [identity(network={key: value}) for key, value in NETWORK_CHANGES.items() if key != "patch"]
    ids += [identity(schedule={"name": "cascaded", "beta": 0}), identity(latents=[{"name": "tiny", "steps": 5}])]
    ids += [identity(latents=["tiny", "pixels"]), identity(latents=["pixels", "tiny"])]
    ids += [identity(**repa) for repa in REPA]
    assert len(set(ids)) == len(ids)


def test_nothing_in_runtime_is_part_of_the_identity() -> None:
    runtime = {
        "device": "cpu", "threads": 3, "compile": False, "batch": 7, "micro_batch": 2, "workers": 0,
        "latents": "online", "limit_damaged": 3, "checkpoint_seconds": 1, "weights": {"a": "b"},
        "wandb": "project", "runs": "away",
    }  # fmt: skip
    assert set(runtime) == set(type(training().runtime).model_fields), "a new field: give it a change here"
    assert identity(runtime=runtime) == identity()


def test_equal_configs_said_in_other_words_are_one_run() -> None:
    schedule = {"name": "cascaded", "p_latent": 0.4, "streams": 2}
    assert identity(schedule=schedule, latents="tiny", seed="0", network=NetworkConfig()) == identity()


def test_a_config_read_back_from_its_run_has_the_same_identity() -> None:
    run = training_run(training(lr=1 / 3, network={"patch": 8, "depth": 5}))
    stored = {key: value for key, value in run.config.items() if key != "data_digest"}
    assert training_run(parse(Training, stored)).id == run.id


def test_the_name_of_a_run_is_text_wherever_it_is_written() -> None:
    """Of 2,000 hashes some fifteen are digits, or digits and one e, which YAML reads as a number."""
    names = [name_of(number) for number in range(2000)]
    assert [overrides([f"run={name}"]) for name in names] == [{"run": name} for name in names]
    assert len({len(name) for name in names}) == 1 and len(set(names)) == 2000


def test_another_content_of_the_same_folder_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(b"1")
    first = identity(data=f"folder:{tmp_path}")
    (tmp_path / "one" / "b.png").write_bytes(b"2")
    assert identity(data=f"folder:{tmp_path}") != first


def test_every_stream_has_a_name_of_its_own() -> None:
    streams = training(latents=["tiny", "pixels", "tiny", "pixels"]).streams
    assert [s.name for s in streams] == ["pixels", "tiny", "pixels_latent", "tiny_2", "pixels_latent_2"]


def test_options_cannot_be_abbreviated() -> None:
    parser = Parser("`python -m sweeps.status NAME [--watch]`: the state of a sweep.")
    parser.add_argument("--watch", action="store_true")
    assert parser.parse_args(["--watch"]).watch
    with pytest.raises(UserError, match="unrecognized arguments: --wat"):
        parser.parse_args(["--wat"])


@pytest.mark.parametrize("name", ["123456789012", "12e456789012", "007", "1_000"])
@pytest.mark.parametrize("key", ["run", "guidance.guide", "init", "init.name"])
def test_the_name_of_a_run_is_text_also_where_it_looks_like_a_number(key: str, name: str) -> None:
    expected: object = name
    for part in reversed([*key.split("."), *(["name"] if key == "init" else [])]):
        expected = {part: expected}
    assert overrides([f"{key}={name}"]) == expected


def test_one_word_of_several_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"^config.lr_schedule='consine': allowed: constant, cosine, linear; did you"):
        training(lr_schedule="consine")
