"""A backbone with a head: sequences to classes, at once or as they come."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from transferfn.models.backbone import Backbone
from transferfn.models.head import HeadKind, LastPool, MeanPool
from transferfn.models.parameters import WithParamGroups
from transferfn.nn.mixer import NotCausalError, valid_samples
from transferfn.typing import State


class Classifier(WithParamGroups):
    """Class scores of sequences.

    It has the verbs of a mixer. With head "mean" or "last" its output, (B, classes), is about everything seen so far
    since the last reset, of which the state carries a summary; with "per_step" there is one for each sample,
    (B, L, classes). A row of which nothing has been seen has features of zero.

    Args:
        backbone: What computes the features.
        classes: Number of classes.
        head: "mean" (features averaged over the true length), "last" (those of the last valid sample) or "per_step".

    Raises:
        ValueError: if `head` is unknown.

    Example:
        >>> from transferfn.nn import RTF
        >>> model = Classifier(Backbone(8, 2, lambda: RTF(8, 4, horizon=32), inputs=1), 10, head="mean").eval()
        >>> u = torch.randn(3, 32, 1)
        >>> model(u, lengths=torch.tensor([32, 7, 0])).shape
        torch.Size([3, 10])
        >>> logits, state = model.extend(u[:, :31])
        >>> logits, state = model.step(u[:, 31], state)
        >>> torch.allclose(logits, model(u), atol=1e-5)
        True
    """

    def __init__(self, backbone: Backbone, classes: int, *, head: HeadKind = "mean") -> None:
        super().__init__()
        match head:
            case "mean":
                self.pool = MeanPool()
            case "last":
                self.pool = LastPool()
            case "per_step":
                self.pool = None
            case _:
                raise ValueError(f'head must be "mean", "last" or "per_step", got {head!r}.')
        self.head = head
        self.is_causal = backbone.is_causal
        self.backbone = backbone
        self.readout = nn.Linear(backbone.channels, classes)

    def forward(
        self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None, dt: Tensor | None = None
    ) -> Tensor:
        """Score whole sequences.

        Args:
            u: Tokens, (B, L), or samples, (B, L, inputs).
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly, as
                S5 takes them; None means 1.

        Returns:
            Logits, (B, classes); with head "per_step" (B, L, classes), zero past `lengths`. A mean is over samples,
            whatever their step sizes.

        Raises:
            TypeError: if a mixer takes no `dt`.
        """
        features = self.backbone(u, lengths=lengths, resets=resets, dt=dt)
        return self._read(features, self._rest(features), lengths, resets)[0]

    def extend(
        self,
        u: Tensor,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dt: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Take in the next chunk of sequences.

        Args:
            u: Next tokens, (B, L), or samples, (B, L, inputs); L may be zero.
            state: State before the chunk; None means rest.
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly, as
                S5 takes them; None means 1.

        Returns:
            Logits for everything seen so far, (B, classes), or with head "per_step" for the chunk, (B, L, classes);
            and the state after each row's last valid sample.

        Raises:
            NotCausalError: if the backbone looks ahead.
            TypeError: if a mixer takes no `dt`.
        """
        self._require_causal("extend")
        before, pooled = (None, None) if state is None else state
        features, after = self.backbone.extend(u, before, lengths=lengths, resets=resets, dt=dt)
        logits, pooled = self._read(features, self._rest(features) if pooled is None else pooled, lengths, resets)
        return logits, (after, pooled)

    def step(self, u_t: Tensor, state: State, *, dt: Tensor | None = None) -> tuple[Tensor, State]:
        """Take in one sample.

        Args:
            u_t: Token, (B,), or sample, (B, inputs).
            state: State before the sample.
            dt: Factors on the step size, (B,), as for `forward`.

        Returns:
            Logits, (B, classes), and the state after the sample.

        Raises:
            NotCausalError: if the backbone looks ahead.
            TypeError: if a mixer takes no `dt`.
        """
        self._require_causal("step")
        before, pooled = state
        features, after = self.backbone.step(u_t, before, dt=dt)
        if self.pool is not None:
            features, pooled = self.pool.step(features, pooled)
        return self.readout(features), (after, pooled)

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest: the backbone's, and the summary of the features so far.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the features inside the model; None means that of the parameters.

        Raises:
            NotCausalError: if the backbone looks ahead.
        """
        self._require_causal("init_state")
        return self.backbone.init_state(batch_size, device=device, dtype=dtype), self._pooled(batch_size, device, dtype)

    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest in the form that a stream keeps: ``extend`` and ``step`` may change it in place.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the features inside the model; None means that of the parameters.

        Raises:
            NotCausalError: if the backbone looks ahead.
        """
        self._require_causal("init_stream")
        state = self.backbone.init_stream(batch_size, device=device, dtype=dtype)
        return state, self._pooled(batch_size, device, dtype)

    def decoder(self) -> Classifier:
        """Return a copy for decoding: in eval mode, without gradients, its mixers realized where they can be.

        Raises:
            NotCausalError: if the backbone looks ahead.
        """
        self._require_causal("decoder")
        model = deepcopy(self).eval().requires_grad_(False)
        model.backbone = model.backbone.decoder()
        return model

    def extra_repr(self) -> str:
        """Return what `repr` shows besides the submodules."""
        return f"head={self.head!r}"

    def _require_causal(self, verb: str) -> None:
        if not self.is_causal:
            raise NotCausalError(type(self).__name__, verb)

    def _pooled(
        self, batch_size: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> tuple[Tensor, ...]:
        if self.pool is None:
            return ()
        weight = self.readout.weight
        return self.pool.init_state(
            batch_size,
            self.backbone.channels,
            device=weight.device if device is None else torch.device(device),
            dtype=weight.dtype if dtype is None else dtype,
        )

    def _rest(self, features: Tensor) -> tuple[Tensor, ...]:
        if self.pool is None:
            return ()
        batch_size, _, channels = features.shape
        return self.pool.init_state(batch_size, channels, device=features.device, dtype=features.dtype)

    def _read(
        self, features: Tensor, pooled: tuple[Tensor, ...], lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.pool is not None:
            features, pooled = self.pool.extend(features, pooled, lengths=lengths, resets=resets)
            return self.readout(features), pooled
        logits = self.readout(features)
        if lengths is not None:
            logits = torch.where(valid_samples(lengths, features.shape[1])[..., None], logits, 0)
        return logits, pooled
