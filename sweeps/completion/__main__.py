"""`python -m sweeps.completion bash|zsh`: prints a script that completes the words of all commands in a shell.

    python -m sweeps.completion bash > ~/.lf-completion
    python -m sweeps.completion zsh > ~/.lf-completion

Source the file in ``~/.bashrc``, or in ``~/.zshrc`` below ``compinit``. Print it anew after an update, and when a
plugin was installed. After ``python -m``, ``python3 -m`` and ``torchrun … -m`` it completes commands, options, keys,
values, questions, sweeps and runs; the last two from the run store ``runs``, or from that of a word ``runs=FOLDER``
before. Other words are completed as files.
"""

import json
import shlex
import sys

import argcomplete

from lf.core.cli import Parser, run_command
from sweeps.completion.vocabulary import table

EXECUTABLES = ("python", "python3", "torchrun")
FILES = r"""
_lf_or_files() { _python_argcomplete__lf || { compset -P '*[=:]'; _files } }
compdef _lf_or_files %s
"""  # zsh has no files to fall back on, as bash has by itself


def script(shell: str) -> str:
    """The script for a shell. argcomplete's part splits and quotes words; the table of words stands in it."""
    asks = shlex.join([sys.executable, "-P", "-m", "sweeps.completion.answer"])  # -P: not from the working folder
    known = json.dumps(table(), separators=(",", ":"))
    code = argcomplete.shellcode(EXECUTABLES, shell=shell, argcomplete_script="_lf")  # type: ignore[no-untyped-call]
    files = FILES % " ".join(EXECUTABLES) if shell == "zsh" else ""
    return f"_lf() {{\n{asks} <<'END'\n{known}\nEND\n}}\n{code}{files}"


def words() -> Parser:
    """The words of the command."""
    parser = Parser(__doc__)
    parser.add_argument("shell", choices=("bash", "zsh"))
    return parser


def main(argv: list[str]) -> None:
    print(script(words().parse_args(argv).shell))


if __name__ == "__main__":
    run_command(main)
