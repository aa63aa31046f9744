"""Which failure an exception stands for, by its type and by what it says."""

import pytest
import torch

from sweeps.jobs.failures import classify


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to …"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
        ImportError("libopenblas.so.0: cannot allocate memory in static TLS block"),
        ImportError("_ccallback_c.cpython-311-x86_64-linux-gnu.so: failed to map segment from shared object"),
        RuntimeError("a worker failed:\nRuntimeError: MPS backend out of memory"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}"[:40],
)
def test_too_little_memory_is_one_kind_whoever_lacks_it(error: Exception) -> None:
    found = classify(error)
    assert found.kind == "memory" and found.message.startswith(type(error).__name__)
    assert str(error).partition("\n")[0] in found.message and len(found.message.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [ImportError("no module named scipy"), RuntimeError("the memory of a network"), ValueError("segment")]
)
def test_a_mistake_of_the_code_is_not_taken_for_it(error: Exception) -> None:
    assert classify(error).kind == "bug"
