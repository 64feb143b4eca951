"""Whether this machine can read and embed images: the decoders, PyTorch and its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["fine", "note", "lacking"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        state: ``lacking`` stands in the way of work, a ``note`` does not.
        detail: what was found.
        advice: what to do, empty if nothing.
    """

    name: str
    state: State
    detail: str
    advice: str = ""


def check_decoders() -> Iterator[Check]:
    """Which libraries decode which transfer syntax, the first to be asked first."""
    from model.images.decoders import ORDER, library, package

    for uid, names in ORDER.items():
        present: list[str] = []
        absent: list[str] = []
        for name in names:
            try:
                present.append(library(name, uid))
            except ImportError:
                absent.append(package(name, uid))
        advice = f"pip install {' '.join(absent)}" if absent else ""
        state: State = "fine" if not absent else "note" if present else "lacking"
        yield Check(f"decode {uid.name}", state, ", ".join(present) or "no decoder", advice)


def check_torch() -> Iterator[Check]:
    """PyTorch, and the device that a job would use."""
    try:
        import torch
    except ImportError as error:
        yield Check("PyTorch", "lacking", f"cannot be imported: {error}", "pip install torch==2.13.0")
        return
    threads = f"{torch.get_num_threads()} threads"
    yield Check("PyTorch", "fine", f"{torch.__version__}, {threads}")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
        yield Check("GPU", "fine", f"{torch.cuda.device_count()} × {', '.join(sorted(names))}")
    else:
        yield Check("GPU", "note", "none that PyTorch can use", "works on the CPU; for a GPU install PyTorch for CUDA")
