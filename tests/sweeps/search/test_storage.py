"""The guidance search in a database: the same study as in a journal."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from searches import PLANE, searched, told
from toy import PATIENCE


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, on a socket in a temporary folder.

    It runs where PostgreSQL is installed. With LF_NEED_POSTGRES=1, as in `.ci/run`, it is installed by apt-get.
    """
    needed = os.environ.get("LF_NEED_POSTGRES") == "1"

    def cannot(why: str) -> None:
        (pytest.fail if needed else pytest.skip)(f"no PostgreSQL here: {why}")

    root = os.geteuid() == 0
    if needed and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and root and shutil.which("apt-get"):
        quiet = os.environ | {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "-qq", *words], env=quiet, capture_output=True, stdin=subprocess.DEVNULL)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        cannot("apt-get install postgresql brings it, and so does LF_NEED_POSTGRES=1 as root on Debian")
    folder = Path(tempfile.mkdtemp(prefix="lf-postgres-", dir="/tmp"))  # pytest's own is closed to other users
    user = "postgres" if root else None  # it refuses to run as root
    if user:
        shutil.chown(folder, user)

    def call(program: str, *words: str) -> None:
        done = subprocess.run(
            [found[-1].with_name(program), *words], user=user, cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode:
            cannot(f"{program}: {done.stdout.strip()[-500:]}")

    try:
        call("initdb", "-D", str(folder / "data"), "-U", "lf", "-A", "trust", "-N", "-E", "UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql+psycopg://lf@/postgres?host={folder}"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            call("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def test_postgresql_and_journal_give_the_same_study(quick: None, network: Path, database: str) -> None:
    journal = searched(network, *PLANE, "seed=3", most=16)
    postgres = searched(network, *PLANE, "seed=3", f"storage={database}", most=16)
    assert told(journal) == told(postgres)
    assert len({tuple(trial.params.values()) for trial in journal.study.trials[9:]}) > 1  # the sampler chose, too
    opened = optuna.storages.RDBStorage(database)
    alone = optuna.load_study(study_name=postgres.name, storage=opened)  # by Optuna alone
    assert alone.best_value == journal.study.best_value
    opened.engine.dispose()  # its pool keeps connections
