"""Decoding one stream after the other of samples or blocks, with a state that the stream keeps."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from transferfn.nn.cache import grown
from transferfn.nn.mixer import check_tensor
from transferfn.nn.ring import Ring
from transferfn.nn.stream_file import Kept, fingerprint, read_state, write_state
from transferfn.typing import State


@runtime_checkable
class Decoder(Protocol):
    """What can be streamed: a causal mixer, or a model with its verbs."""

    def extend(
        self, u: Tensor, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map the next chunk, as :meth:`transferfn.SequenceMixer.extend`.

        Args:
            u: Next samples, (B, L, ...).
            state: State before the chunk; None means rest.
            lengths: Number of valid samples of each row, (B,); None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        """
        ...

    def step(self, u_t: Tensor, state: State) -> tuple[Tensor, State]:
        """Map one sample, as :meth:`transferfn.SequenceMixer.step`.

        Args:
            u_t: Sample, (B, ...).
            state: State before the sample.
        """
        ...

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest, as :meth:`transferfn.SequenceMixer.init_state`.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives.
            dtype: Type of the signals to come.
        """
        ...

    def eval(self) -> Any:
        """Switch to evaluation mode."""
        ...


class Stream:
    """Feeds a decoder sample by sample or block by block and keeps its state, where it can in rings that move in place.

    Args:
        decoder: Any causal mixer or model with the verbs of one, e.g. ``layer.realize()`` or ``model.decoder()``. It is
            switched to evaluation mode and used without gradients.
        batch_size: Number of rows that stream side by side.
        device: Where the state lives; None means where the decoder is.
        dtype: Type of the signals to come; None means that of the decoder.

    Raises:
        NotCausalError: if the decoder looks ahead.
        TypeError: if it lacks a verb.
        ValueError: if there are no rows.

    Example:
        >>> from transferfn.nn import RTF
        >>> layer = RTF(4, 2, horizon=16)
        >>> u = torch.randn(1, 10, 4)
        >>> stream = Stream(layer.realize(), batch_size=1)
        >>> y = torch.cat([stream(u[:, :6])] + [stream(u[:, t])[:, None] for t in range(6, 10)], dim=1)
        >>> torch.allclose(y, layer(u), atol=1e-5)
        True
    """

    def __init__(
        self,
        decoder: Decoder,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        for verb in ("extend", "step", "init_state"):
            if not hasattr(decoder, verb):
                raise TypeError(
                    f"a decoder has the verbs extend, step and init_state; {type(decoder).__name__} has no {verb}"
                )
        self.decoder = decoder.eval()
        self.batch_size = batch_size
        self._device, self._dtype = device, dtype
        self._state = self._at_rest()

    @property
    def state(self) -> State:
        """The state after everything seen so far, as ``extend`` and ``step`` of the decoder know it."""
        return tree_map(lambda x: x.state if isinstance(x, Ring) else x, self._state)

    @state.setter
    def state(self, state: State) -> None:
        mine = self.state
        fits = tree_structure(state) == tree_structure(mine) and all(
            isinstance(new, Tensor) and new.dim() == old.dim() and len(new) == self.batch_size
            for new, old in zip(tree_leaves(state), tree_leaves(mine), strict=True)
        )
        if not fits:
            raise ValueError(
                f"expected a state such as this stream has, {_shapes(mine)}, got {_shapes(state)}. "
                f"Use one of the same decoder and batch size, and reset() to return to rest."
            )
        self._state = tree_map(_put, self._state, state)

    def reset(self, rows: Tensor | None = None) -> None:
        """Return to rest.

        Args:
            rows: True for the rows to reset, (B,), bool; None means all.
        """
        if rows is None:
            self._state = self._at_rest()
            return
        check_tensor("rows", rows)
        if rows.shape != (self.batch_size,) or rows.dtype != torch.bool:
            raise ValueError(
                f"rows must be a bool mask of shape ({self.batch_size},), got {tuple(rows.shape)} of {rows.dtype}"
            )

        def pick(new: Tensor, old: Tensor) -> Tensor:
            if new.shape != old.shape:  # a memory of all samples; that of rows at rest is empty
                new = grown(new, old.shape[-2])
            return torch.where(rows.to(old.device).reshape(-1, *[1] * (old.dim() - 1)), new, old)

        fresh = self.decoder.init_state(self.batch_size, device=self._device, dtype=self._dtype)
        self.state = tree_map(pick, fresh, self.state)

    def save(self, file: str | PathLike[str], *, note: Mapping[str, Any] | None = None) -> None:
        """Keep the state in a file, for :meth:`load` in another process or after a fault.

        It is written beside the file and takes its place in one piece: whenever the process ends, or the power, all of
        the new state is there or all of the one before.

        Args:
            file: The file, whose folder is there.
            note: What else to keep with it, such as the number of samples seen; anything that JSON knows.

        Raises:
            OSError: if it cannot be written.
            TypeError: if the note holds what JSON does not know, or the decoder is no ``torch.nn.Module``.

        Example:
            >>> import tempfile
            >>> from transferfn.nn import RTF
            >>> decoder, u = RTF(4, 2, horizon=16).realize(), torch.randn(1, 10, 4)
            >>> stream, after = Stream(decoder, batch_size=1), Stream(decoder, batch_size=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     before = stream(u)
            ...     stream.save(f"{folder}/state", note={"samples": 10})
            ...     after.load(f"{folder}/state")
            {'samples': 10}
            >>> torch.equal(after(u), stream(u))
            True
        """
        kept = Kept(decoder=fingerprint(self.decoder), leaves=tree_leaves(self.state), note=dict(note or {}))
        write_state(Path(file), kept)

    def load(self, file: str | PathLike[str]) -> dict[str, Any]:
        """Go on from a state that :meth:`save` has kept; what this stream has seen is forgotten.

        Outputs are to the last bit those of the stream that was saved, on the same machine and versions. After an error
        the stream is as it was.

        Args:
            file: The file.

        Returns:
            The note that was kept with it.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is damaged, or the state is of another decoder (other orders, channels or coefficients),
                another number of rows or another type.
        """
        kept, mine = read_state(Path(file)), self.state
        leaves = tree_leaves(mine)
        if kept.decoder != fingerprint(self.decoder):
            raise ValueError(
                f"{file} is the state of another decoder or of other coefficients: its shapes are "
                f"{_shapes(kept.leaves)}, those of this stream {_shapes(leaves)}. Make the decoder as it was, or name "
                "another file"
            )
        found, expected = ([(len(x), str(x.dtype).removeprefix("torch.")) for x in of] for of in (kept.leaves, leaves))
        if found != expected:
            raise ValueError(
                f"{file} is the state of another stream of this decoder: its rows and types are {found}, those of this "
                f"stream {expected}. Give Stream the batch_size and dtype that it had"
            )
        moved = [x.to(like.device) for x, like in zip(kept.leaves, leaves, strict=True)]
        self.state = tree_unflatten(moved, tree_structure(mine))
        return kept.note

    @torch.no_grad()
    def __call__(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        """Take in the next sample or block and return its output.

        Args:
            u: A sample, (B, D) or (B,) tokens; or a block, (B, L, D) or (B, L) tokens.
            lengths: Of a block, the number of valid samples of each row, (B,); None means all.
            resets: Of a block, true where the state is cleared before the sample, (B, L); None means nowhere.

        Returns:
            Output of the decoder for the sample or block.
        """
        check_tensor("u", u)
        is_sample = u.dim() == (2 if u.is_floating_point() else 1)
        if u.dim() == 0 or len(u) != self.batch_size:
            raise ValueError(f"this stream has {self.batch_size} rows, got an input of shape {tuple(u.shape)}")
        if is_sample:
            if lengths is not None or resets is not None:
                raise ValueError("lengths and resets belong to blocks; reset a stream between samples with reset(rows)")
            y, self._state = self.decoder.step(u, self._state)
        else:
            y, self._state = self.decoder.extend(u, self._state, lengths=lengths, resets=resets)
        return y

    def __repr__(self) -> str:
        return f"Stream({self.decoder!r}, batch_size={self.batch_size})"

    def _at_rest(self) -> State:
        begin = getattr(self.decoder, "init_stream", self.decoder.init_state)
        return begin(self.batch_size, device=self._device, dtype=self._dtype)


def _put(kept: Tensor | Ring, state: Tensor) -> Tensor | Ring:
    """A given part of a state in the form that the stream keeps it in."""
    if not isinstance(kept, Ring):
        return state
    if state.shape != kept.shape:
        raise ValueError(f"expected a state of shape {tuple(kept.shape)}, got {tuple(state.shape)}")
    return Ring(state)


def _shapes(state: State) -> State:
    return tree_map(lambda x: tuple(x.shape) if isinstance(x, Tensor) else x, state)
