"""The state of a stream in a file: whole or absent, and known by the filter that it belongs to."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transferfn.files import write_bytes

FORMAT = "state of a transferfn stream, 1"
"""What a file begins with; changed when what is written changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What a file holds."""

    decoder: str
    """Fingerprint of the decoder that the state is of."""

    leaves: list[Tensor]
    """Leaves of the state, a pytree of tensors."""

    note: dict[str, Any]
    """What else was to be kept."""


def fingerprint(decoder: Any) -> str:
    """A sum over the structure and all coefficients of a decoder: the same for the same filter, and for no other.

    Args:
        decoder: A module.

    Raises:
        TypeError: if it is none.

    Example:
        >>> one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> fingerprint(one) == fingerprint(one), fingerprint(one) == fingerprint(other)
        (True, False)
    """
    if not isinstance(decoder, torch.nn.Module):
        raise TypeError(
            f"a state is kept with the coefficients it belongs to, and {type(decoder).__name__} is no torch.nn.Module "
            "that has some: keep stream.state yourself"
        )
    return _sum(repr(decoder), decoder.state_dict().items())


def write_state(path: Path, kept: Kept) -> None:
    """Write a file so that a reader sees all of it or the one before.

    Args:
        path: The file.
        kept: What to write.

    Raises:
        OSError: if it cannot be written.
        TypeError: if the note holds what JSON does not know.
    """
    leaves = [x.detach().cpu().contiguous() for x in kept.leaves]
    note = json.dumps(kept.note)
    raw = io.BytesIO()
    torch.save(
        {"format": FORMAT, "decoder": kept.decoder, "leaves": leaves, "note": note}
        | {"sum": _sum_of(kept.decoder, leaves, note)},
        raw,
    )
    write_bytes(path, raw.getvalue())


def read_state(path: Path) -> Kept:
    """Read a file.

    Args:
        path: The file.

    Returns:
        What was kept, on the CPU.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is damaged or something else.
    """
    raw = io.BytesIO(path.read_bytes())
    try:
        found = torch.load(raw, map_location="cpu", weights_only=True)
        whole = found["format"] == FORMAT
        whole = whole and found["sum"] == _sum_of(found["decoder"], found["leaves"], found["note"])
        kept = Kept(decoder=found["decoder"], leaves=found["leaves"], note=json.loads(found["note"]))
    except Exception:  # noqa: BLE001 (reading a damaged file can raise anything)
        whole, kept = False, None
    if not whole or kept is None:
        raise ValueError(f"{path} is damaged, or no state of a stream: delete it, or name another file")
    return kept


def _sum_of(decoder: str, leaves: list[Tensor], note: str) -> str:
    """Over all that a file holds: PyTorch's own reader takes changed numbers for good ones."""
    return _sum(f"{decoder} {note}", ((str(place), x) for place, x in enumerate(leaves)))


def _sum(told: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    found = hashlib.sha256(told.encode())
    for name, value in tensors:
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().resolve_conj().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()
