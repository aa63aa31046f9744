"""`python tests/fuzz.py KIND [N]`: reads N mutated files of a kind, and names those that do not end in one line.

    python tests/fuzz.py all 10000

KIND: images, tars, parquet, references, checkpoints, runs, settings, or all. A file may be read, or refused by the
reader's own error, which commands print in one line. Anything else is a fault: another exception, a crash, over 20
seconds, or 1 GB more memory. Faulty files are kept.
"""

import io
import multiprocessing
import pickle
import random
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from features import Given
from packed import picture, png
from published import PublicNet, randomize
from published_files import args_of, write_checkpoint

from lf.convert import load
from lf.core.errors import UserError
from lf.core.parsing import overrides
from lf.data import parquet, shards
from lf.data.image import Unreadable, decode
from lf.metrics import INCEPTION, Reference
from lf.model.public import convert
from lf.storage import checkpoint, verified
from lf.storage.json_files import read_json

SECONDS, BYTES = 20, 2**30


class Inception(Given):
    name = INCEPTION


def images() -> list[bytes]:
    rng, found = np.random.default_rng(0), []
    colours = Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8))
    for mode, kinds in {
        "RGB": ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000", "TGA"),
        "L": ("PNG", "GIF"), "P": ("PNG", "GIF"),
        "RGBA": ("PNG", "WEBP", "TIFF"), "1": ("PNG", "PPM"), "CMYK": ("JPEG", "TIFF"), "I;16": ("PNG", "TIFF"),
        "F": ("TIFF",),
    }.items():  # fmt: skip
        image = Image.fromarray(rng.integers(0, 65536, (40, 30)).astype(np.uint16)) if mode == "I;16" else None
        for kind in kinds:
            out = io.BytesIO()
            (image or colours.convert(mode)).save(out, kind)
            found.append(out.getvalue())
    return found


def tars() -> list[bytes]:
    found = []
    for suffix, text in (
        ("cls", b"3"), ("cls", b"cat"), ("json", b'{"label": "cat"}'), ("json", b'{"label": 3, "class": null}'),
        ("txt", b"a photo"),
    ):  # fmt: skip
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for number, content in enumerate(images()[:4]):
                for name, part in ((f"{number}.png", content), (f"{number}.{suffix}", text)):
                    header = tarfile.TarInfo(name)
                    header.size = len(part)
                    tar.addfile(header, io.BytesIO(part))
        found.append(out.getvalue())
    return found


def references() -> list[bytes]:
    mu, sigma = np.zeros(6), np.eye(6)
    found = [pickle.dumps({"fid": {"mu": mu, "sigma": sigma}}, protocol) for protocol in (2, 4, 5)]
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, mu=mu, sigma=sigma, n=np.array(60))
        found.append(out.getvalue())
    return found


def checkpoints() -> list[bytes]:
    size = {"image": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2, "bottleneck": 8, "classes": 3}
    with tempfile.TemporaryDirectory() as place:
        net = randomize(PublicNet(**size, class_block=0, latent=12), 0)
        write_checkpoint(Path(place) / "x.pth", net, net, net, args_of(sample_mode="dino_first_cascaded"))
        torch.save({"model_ema1": {f"net.{k}": v for k, v in net.state_dict().items()}}, Path(place) / "old.pth",
                   _use_new_zipfile_serialization=False)  # fmt: skip
        return [(Path(place) / name).read_bytes() for name in ("x.pth", "old.pth")]


def runs() -> list[bytes]:
    with tempfile.TemporaryDirectory() as place:
        tensors = {"raw.w": torch.randn(9, 9), "ema.w": torch.randn(9, 9), "losses": torch.zeros(5)}
        verified.write(Path(place) / "x", tensors, {"step": "5", "seconds": "1"})
        return [(Path(place) / "x").read_bytes()]


def settings() -> list[bytes]:
    return [
        b'{"id": "0123456789ab", "loss": 0.5, "n": 1000, "shift": {}, "features": ["judge"]}',
        b"latents=[{name: pixels, cells: 2}]",
        b"guidance.scale.pixels=1.5",
    ]


def parquets() -> list[bytes]:
    made = []
    for compression, labels in (("none", [0, 1] * 4), ("snappy", ["cat", "dog"] * 4)):
        boxed = [{"bytes": png(picture(n)), "path": None} for n in range(8)]
        pq.write_table(pa.table({"image": boxed, "label": labels}), out := io.BytesIO(), compression=compression)
        made.append(out.getvalue())
    return made


def read_checkpoint(file: Path) -> None:
    found = load(file)
    for state in found["weights"].values():
        convert({key.removeprefix("net."): value for key, value in state.items()})


def with_checksums(content: bytes) -> bytes:
    """A tar file whose headers have the right checksums, so that mutated names, sizes and members are read."""
    made, at = bytearray(content), 0
    while at + 512 <= len(made) and any(made[at : at + 512]):
        made[at + 148 : at + 156] = b" " * 8
        made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + 512])
        size = made[at + 124 : at + 136].strip(b" \0")
        at += 512 + (int(size, 8) + 511) // 512 * 512 if size and set(size) <= set(b"01234567") else 512
    return bytes(made)


def read_tar(file: Path) -> None:
    with suppress(UserError):
        shards.find(str(file))
    file.write_bytes(with_checksums(file.read_bytes()))
    shards.find(str(file))


def read_parquet(file: Path) -> None:
    found = parquet.find(str(file))
    folder = file.with_suffix("")
    folder.mkdir()
    try:
        parquet.unpack(found.columns, folder)
        for row in range(len(found.titles)):
            with suppress(Unreadable):
                parquet.read(folder, 0, row)
    finally:
        shutil.rmtree(folder)


def read_setting(file: Path) -> None:
    read_json(file, "id")
    overrides([file.read_bytes().decode(errors="replace")])


KINDS: dict[str, tuple[Callable[[], list[bytes]], Callable[[Path], object]]] = {
    "images": (images, lambda file: decode(file.read_bytes(), 16)),
    "tars": (tars, read_tar),
    "parquet": (parquets, read_parquet),
    "references": (references, lambda file: Reference.load(file, Inception(width=6))),
    "checkpoints": (checkpoints, read_checkpoint),
    "runs": (runs, lambda file: checkpoint.read(file)),
    "settings": (settings, read_setting),
}


def mutated(seeds: list[bytes], number: int) -> bytes:
    """The file ``number``: one or several changes of a seed."""
    draw = random.Random(number)
    content = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, length = draw.randrange(len(content) + 1), min(draw.choice((1, 2, 4, 8, 64, 1024)), len(content))
        match draw.randrange(6):
            case 0:
                content[at : at + length] = draw.randbytes(length)
            case 1:
                content[at : at + 1] = bytes([draw.randrange(256)])
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = draw.randbytes(length)
            case 4:
                content[at : at + length] = draw.choice((b"\xff", b"\0")) * length
            case 5:
                other = draw.choice(seeds)
                begin = draw.randrange(len(other))
                content[at : at + length] = other[begin : begin + length]
    return bytes(content[: draw.randrange(len(content) + 1)]) if draw.random() < 0.1 else bytes(content)


def work(kind: str, begin: int, end: int, folder: str, pipe: Connection) -> None:
    """Reads files ``begin`` to ``end`` and sends each number, and the fault if there is one."""
    make, read = KINDS[kind]
    torch.set_num_threads(1)
    seeds = make()
    for number in range(begin, end):
        pipe.send((number, ""))
        file = Path(folder) / f"{kind}-{number}.bin"
        file.write_bytes(mutated(seeds, number))
        try:
            read(file)
        except (UserError, Unreadable) as refused:
            if not str(refused):
                pipe.send((number, f"says nothing: {type(refused).__name__}"))
                continue
        except BaseException as fault:  # noqa: BLE001 (that is what is looked for)
            pipe.send((number, f"{type(fault).__name__}: {fault}"))
            continue
        file.unlink()
    pipe.send((end, ""))


def fuzz(kind: str, n: int, folder: Path) -> list[str]:
    """Reads ``n`` mutated files of a kind; returns the faults."""
    faults: list[str] = []
    begin, context = 0, multiprocessing.get_context("spawn")
    while begin < n:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(kind, begin, n, str(folder), there), daemon=True)
        process.start()
        there.close()
        started = False
        number, since, least = begin, time.monotonic() + 60, 0  # a minute to start
        while number < n:
            try:
                if here.poll(0.2):
                    number, fault = here.recv()
                    started = True
                    since = time.monotonic()
                    if fault:
                        faults.append(f"{kind}-{number}: {fault}")
                    continue
            except EOFError:
                faults.append(f"{kind}-{number}: the process died")
                break
            memory = psutil.Process(process.pid).memory_info().rss if process.is_alive() else 0
            least = min(least or memory, memory) if number > begin else memory
            if time.monotonic() - since > SECONDS or memory > least + BYTES:
                faults.append(f"{kind}-{number}: {'memory' if memory > least + BYTES else 'hangs'}")
                break
        process.kill()
        process.join()
        if not started:
            return [*faults, f"{kind}: its files cannot be made"]
        begin = number + 1
    return faults


def main() -> None:
    kind, n = sys.argv[1], int((sys.argv[2:] or ["1000"])[0])
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    found = []
    for name in KINDS if kind == "all" else [kind]:
        began = time.monotonic()
        faults = fuzz(name, n, folder)
        found += faults
        print(f"{name}: {n} files, {len(faults)} faults, {time.monotonic() - began:.0f} s", flush=True)
    print(*found, f"files: {folder}" if found else "", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
