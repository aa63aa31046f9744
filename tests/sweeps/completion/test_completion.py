"""Shell completion: every word of every command's help is known, and a real bash gets the words that fit."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from pages import COMMANDS
from parsers import command

from sweeps.completion.__main__ import main
from sweeps.completion.answer import offered
from sweeps.completion.vocabulary import table

KNOWN = [name for name in COMMANDS if name != "benchmarks"]  # it is not installed
CELL, OTHER = "order_ablation: tiny cascaded seed 0", "order_ablation: none pixel_only seed 0"
IDS = ("3f2a00112233", "b7c400112233")


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return table()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run store, and the script in ``script``."""
    folder = tmp_path_factory.mktemp("completion")
    for store in ("runs", "other"):
        for name in IDS if store == "runs" else ["c0ffee112233"]:
            (folder / store / "training" / name).mkdir(parents=True)
            (folder / store / "training" / name / "config.json").write_text("{}")
    units = [{"kind": "train", "training": IDS[0], "title": CELL.partition(": ")[2]},
             {"kind": "train", "training": IDS[1], "title": OTHER.partition(": ")[2]}]  # fmt: skip
    (folder / "runs" / "sweeps" / "order_ablation").mkdir(parents=True)
    (folder / "runs" / "sweeps" / "order_ablation" / "sweep.json").write_text(json.dumps({"units": units}))
    (folder / "photos").mkdir()
    return folder


@pytest.fixture(scope="module")
def script(place: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch, (place / "script").open("w") as out:
        patch.setattr("sys.stdout", out)
        main(["bash"])
    yield place / "script"


@pytest.mark.parametrize("name", KNOWN)
def test_every_key_and_option_of_a_help_text_is_known(
    name: str, known: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(known) == {*KNOWN}
    with pytest.raises(SystemExit):
        command(name).main(["--help"])
    words, _, keys = capsys.readouterr().out.partition("Keys, values")
    shown = {key for key in re.findall(r"^  ([\w.]+)(?: |$)", keys, re.M)}
    named = {key.rpartition(".")[0] for key in known[name]["keys"]}
    free = {"training", "evaluation", "cluster"}  # of which only keys below are offered, or none
    assert not shown - free - named - {*known[name]["keys"]}, name
    assert {*re.findall(r"^  (?:-\w, )?(--[a-z-]+)", words, re.M)} <= {*known[name]["options"]}


@pytest.mark.parametrize(
    ("line", "fit"),
    [
        ("python -m lf.tra", "lf.train lf.train_tokenizer"),
        ("python3 -m sweeps.comp", "sweeps.completion"),
        ("python -m lf.train --d", "--dry-run"),
        ("python -m lf.train ste", "steps="),
        ("python -m lf.train network.cl", "network.class_tokens= network.class_token_block="),
        ("python -m lf.train netw", "network.depth= network.width="),  # all below the only part
        ("python -m lf.train sched", "schedule= schedule."),  # a part is shown as a folder is
        ("python -m lf.train schedule=sh", "schedule=shifted"),
        ("python -m lf.train schedule=shifted schedule.al", "schedule.alpha="),
        ("python -m lf.train schedule=cascaded schedule.al", ""),
        ("python -m lf.train schedule.al", "schedule.alpha="),  # of any schedule
        ("torchrun --nproc_per_node 8 -m lf.train preset=lf_l", "preset=lf_l_200 preset=lf_l_imagenet256"),
        ("python -m lf.train runtime.compile=", "runtime.compile=true runtime.compile=false"),
        ("python -m lf.train data=s", "data=shapes data=shards:"),
        ("python -m lf.train latents=dino", "latents=dinov2"),
        ("python -m lf.evaluate guidance.kind=cfg", "guidance.kind=cfg guidance.kind=cfg_then_autoguidance"),
        ("python -m lf.evaluate guidance.scale.p", "guidance.scale.pixels= guidance.scale.pixels_latent="),
        ("python -m lf.evaluate path=points path.poi", "path.points="),
        ("python -m sweeps.launch evaluation.path=shifted evaluation.path.al", "evaluation.path.alpha="),
        ("python -m sweeps.launch cluster.job.g", "cluster.job.gpus="),
        ("python -m sweeps.launch order", "order_ablation"),
        ("python -m sweeps.launch --dry-run order", "order_ablation"),
        ("python -m sweeps.launch order_ablation order", ""),  # there is one NAME
        ("python -m sweeps.guidance kinds=a", "kinds=autoguidance"),
        ("python -m sweeps.status o", "order_ablation"),
        ("python -m lf.encoders.whiten dinov2 sha", "shapes shards:"),
        ("python -m analysis.notebooks gui", "guidance"),
        ("python -m analysis.tables run-3", f"run-{IDS[0]}"),
        ("python -m lf.sample run=", f"run={IDS[0]} run={IDS[1]} run={CELL} run={OTHER}"),
        ("python -m lf.sample runs=other run=", "run=c0ffee112233"),
        ("python -m lf.train init=b", f"init={IDS[1]}"),
        ("python -m lf.runs rm 3", IDS[0]),
        ("python -m sweeps.guidance b", IDS[1]),
        ("python script.py lf.tra", ""),
        ("python -m pytest --d", ""),
    ],
)
def test_the_words_that_fit(
    line: str, fit: str, known: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    _, *before, word = line.split(" ")
    found = [offer for offer in offered(before, word, known) if offer.startswith(word)]
    assert (found == re.split(r" (?=run=)", fit)) if "run=" in fit else ({*fit.split()} <= {*found})
    assert bool(found) == bool(fit)


@pytest.mark.parametrize(
    ("line", "put"),
    [
        ("python -m lf.train ne", ["network.", *["network."] * 10]),  # what all begin with; bash shows the rest
        ("python -m lf.train schedule=sh", ["shifted"]),  # bash replaces what stands after a =
        ("python -m lf.sample run=3", [IDS[0]]),
        ("python -m lf.sample run=order_ablation:\\ t", ["\\ tiny\\ cascaded\\ seed\\ 0"]),
        ('python -m lf.sample run="order_ablation: t', [CELL]),
        ("python -m lf.sample 'run=order_ablation: t", [f"run={CELL}"]),
        ("python -m lf.train data=fo", ["folder:"]),
        ("torchrun -m lf.train --d", ["--dry-run"]),
        ("python pho", []),
    ],
)
def test_a_real_bash_gets_what_to_put(line: str, put: list[str], script: Path, place: Path) -> None:
    given = f"COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}; COMP_TYPE=9"
    asks = f'source {script}; {given}; _python_argcomplete__lf python; printf "%s\\n" "${{COMPREPLY[@]}}"'
    assert "-m sweeps.completion.answer <<" in script.read_text()  # which imports no torch (tests/test_tree.py)
    done = subprocess.run(["bash", "-c", asks], cwd=place, capture_output=True, text=True)
    found = [word.rstrip() for word in done.stdout.splitlines() if word]
    assert not done.stderr and len(found) == len(put)
    assert all(word.startswith(one) for word, one in zip(found, put, strict=True)), found


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("lf.sample run=ord\tt\t", f"lf.sample run={CELL.replace(' ', chr(92) + ' ')} "),
        ('lf.sample run="ord\tt\t', f'lf.sample run="{CELL}" '),
        ("lf.train sched\t=sh\tschedule.al\t4", "lf.train schedule=shifted schedule.alpha=4"),
        ("lf.train data=fo\tpho\t", "lf.train data=folder:photos/"),
    ],
)
def test_keys_that_are_pressed_in_a_real_bash(keys: str, line: str, script: Path, place: Path) -> None:
    environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"}
    bash = pexpect.spawn(
        "bash", ["--norc", "--noprofile"], cwd=str(place), env=environment, encoding="utf-8", timeout=60
    )
    bash.setwinsize(24, 300)
    bash.sendline(f"source {script}; bind 'set bell-style none' 'set enable-bracketed-paste off'; PS1=REA''DY")
    bash.expect_exact("READY")
    bash.send(f"python -m {keys}")
    bash.expect_exact(f"python -m {line}")
    bash.close(force=True)
