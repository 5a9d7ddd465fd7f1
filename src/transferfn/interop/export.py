"""Programs that run without this package: ``torch.export`` of a model's forward pass and of its step.

Only PyTorch's own operations are in them, so that a saved program needs PyTorch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from transferfn.files import replacing
from transferfn.interop.frozen import frozen_forward, frozen_step
from transferfn.nn.cache import grown

ROWS = 2  # of the inputs that are traced
SHORTEST = 3  # samples of a varying length: fewer would be taken for constants
ROWS_CHECKED = 3  # of the inputs that a file is tried on: other than were traced
TOLERANCE = 1e-5  # largest difference of a file from the model, relative to the largest output
ROOM = 2  # samples that an empty memory is filled up to with zeros, which count for nothing


class ExportError(RuntimeError):
    """What was written does not compute what the model computes."""


class StepProgram(nn.Module):
    """The step of a model as a function of tensors: a sample and the leaves of the state, to the same after it.

    A memory of all samples so far, as attention and long convolutions have it, grows by one sample at each step; empty
    ones begin with two zeros, which count for nothing. Long convolutions go as far as their horizon, less these two.

    Args:
        model: A causal mixer or model; its ``decoder()`` or ``realize()`` is taken where it has one.

    Raises:
        NotCausalError: if the model looks ahead.

    Example:
        >>> from transferfn.nn import RTF
        >>> program = StepProgram(RTF(4, 2, horizon=16))
        >>> y, state = program(torch.ones(3, 4), *program.init_state(3))
        >>> y.shape, state.shape
        (torch.Size([3, 4]), torch.Size([3, 4, 2]))
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model = model.eval()
        decode: Any = getattr(model, "decoder", None) or getattr(model, "realize", None)
        self._decoder: Any = (decode() if decode else model,)  # not a part of the program
        self.decoder.init_state(1)  # says so if there is none
        self.frozen: Any = frozen_step(self.decoder)
        self._structure = pytree.tree_structure(self.decoder.init_state(1))

    @property
    def decoder(self) -> Any:
        """The decoder whose step this is."""
        return self._decoder[0]

    def forward(self, u_t: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step.

        Args:
            u_t: Sample, (B, ...), or token, (B,).
            state: Leaves of the state before it, as :meth:`init_state` lists them.

        Returns:
            Output, and the leaves of the state after it.
        """
        y, after = self.frozen.step(u_t, pytree.tree_unflatten(list(state), self._structure))
        return y, *pytree.tree_leaves(after)

    def init_state(self, batch_size: int) -> list[Tensor]:
        """Leaves of the state at rest.

        Args:
            batch_size: Number of rows B.
        """
        return self.flat(self.decoder.init_state(batch_size))

    def flat(self, state: Any) -> list[Tensor]:
        """Leaves of a state of the decoder.

        Args:
            state: From ``extend`` or ``init_state`` of the decoder.
        """
        leaves = zip(pytree.tree_leaves(state), self.growing(), strict=True)
        return [grown(x, max(ROOM, x.shape[-2])) if grows else x for x, grows in leaves]

    def example(self) -> Tensor:
        """A sample as the model takes it."""
        return example_input(self.decoder, 1)[:, 0]

    @torch.no_grad()
    def growing(self) -> list[bool]:
        """Which leaves grow with each step."""
        before = self.decoder.init_state(1)
        after = self.decoder.step(example_input(self.decoder, 1)[:1, 0], before)[1]
        pairs = zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True)
        return [x.shape != y.shape for x, y in pairs]


def export_step(model: nn.Module) -> ExportedProgram:
    """Export the step of a model: ``program(u_t, *state)`` gives ``(y, *state)``, for any number of rows.

    The state is flattened to its leaves, in the order of :meth:`StepProgram.init_state`.

    Args:
        model: A causal mixer or model.

    Returns:
        The program; ``torch.export.save`` writes it, and it runs without this package.

    Raises:
        NotCausalError: if the model looks ahead.
    """
    step = StepProgram(model)
    arguments = (step.example(), *step.init_state(ROWS))
    shapes = step_shapes(step)
    with torch.no_grad():
        return _checked(torch.export.export(step, arguments, dynamic_shapes={"u_t": shapes[0], "state": shapes[1:]}))


def step_shapes(step: StepProgram) -> tuple[dict[int, Any], ...]:
    """Which axes of a step's arguments vary, for ``torch.export``.

    Args:
        step: The step.
    """
    horizons = [x.horizon for x in step.frozen.modules() if hasattr(x, "horizon")]
    batch, time = Dim("batch"), Dim("time", min=ROOM, max=min(horizons) - 1 if horizons else None)
    leaves = zip(step.init_state(ROWS), step.growing(), strict=True)
    return {0: batch}, *({0: batch, x.dim() - 2: time} if grows else {0: batch} for x, grows in leaves)


def export_forward(model: nn.Module, length: int, *, dynamic_length: bool = False) -> ExportedProgram:
    """Export the forward pass of a model: ``program(u)`` gives its output, for any number of rows.

    Impulse responses are computed now, once, and are constants of the program.

    Args:
        model: A mixer or model, causal or not.
        length: Number of samples L of a sequence; the largest one if that varies.
        dynamic_length: Whether shorter sequences, of at least 3 samples, are taken, too.

    Returns:
        The program; ``torch.export.save`` writes it, and it runs without this package.

    Raises:
        ValueError: if a length makes no sense, or a filter is not known for so long.
    """
    check_length(length, dynamic_length)
    frozen = frozen_forward(model, length, dynamic=dynamic_length)
    shapes: dict[int, Any] = {0: Dim("batch")}
    if dynamic_length:
        shapes[1] = Dim("length", min=SHORTEST, max=length)
    with torch.no_grad():
        example = example_input(model, length - dynamic_length)  # the largest length would be taken for the only one
        return _checked(torch.export.export(_Forward(frozen), (example,), dynamic_shapes=(shapes,)))


def save(program: ExportedProgram, path: Path) -> None:
    """Write a program, to be read by ``torch.export.load`` where this package need not be.

    Args:
        program: What was exported.
        path: File, ``.pt2`` by custom.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(path) as part:
        _save(program, part)


def write_forward(model: nn.Module, length: int, path: Path, *, dynamic_length: bool = False) -> float:
    """Write the forward pass of a model as :func:`export_forward` makes it, and try what was written on noise.

    Args:
        model: A mixer or model, causal or not.
        length: Number of samples L of a sequence; the largest one if that varies.
        path: File, ``.pt2`` by custom.
        dynamic_length: Whether shorter sequences, of at least 3 samples, are taken, too.

    Returns:
        Largest difference between the program, loaded from the file, and the model, relative to the largest output.

    Raises:
        ExportError: if that exceeds 1e-5; then nothing is written.
        OSError: if the file cannot be written.
        ValueError: if a length makes no sense, or a filter is not known for so long.
    """
    program = export_forward(model, length, dynamic_length=dynamic_length)
    with replacing(path) as part:
        run = _saved(program, part)
        lengths = {length, (length + SHORTEST) // 2} if dynamic_length else {length}
        return checked(path, max(forward_error(lambda u: [run(u)], model, each) for each in lengths))


def write_step(model: nn.Module, path: Path) -> float:
    """Write the step of a model as :func:`export_step` makes it, and try what was written on noise.

    Args:
        model: A causal mixer or model.
        path: File, ``.pt2`` by custom.

    Returns:
        Largest difference between the program, loaded from the file, and the model over several steps, relative to the
        largest output, or to the largest value of a part of the state.

    Raises:
        ExportError: if that exceeds 1e-5; then nothing is written.
        NotCausalError: if the model looks ahead.
        OSError: if the file cannot be written.
    """
    program = export_step(model)
    with replacing(path) as part:
        return checked(path, step_error(_saved(program, part), StepProgram(model)))


@torch.no_grad()
def forward_error(run: Callable[[Tensor], Sequence[Tensor]], model: Any, length: int) -> float:
    """Largest difference of a program from the forward pass that it is of, relative to the largest output.

    Args:
        run: The program; its only result is the output.
        model: The model.
        length: Number of samples L.
    """
    u = example_input(model, length, rows=ROWS_CHECKED, seed=1)
    return _relative(run(u)[0], model.eval()(u))


@torch.no_grad()
def step_error(run: Callable[..., Sequence[Tensor]], step: StepProgram) -> float:
    """Largest difference of a program from the step that it is of, relative to the largest output or part of the state.

    Args:
        run: The program; it takes a sample and the leaves of the state, and returns the output and the leaves after it.
        step: The step.
    """
    u = example_input(step.decoder, 5, rows=ROWS_CHECKED, seed=1)
    state, mine, worst = step.init_state(len(u)), step.decoder.init_state(len(u)), 0.0
    for u_t in u.unbind(1):
        y, *state = run(u_t, *state)
        expected, mine = step.decoder.step(u_t, mine)
        for found, leaf, grows in zip(state, pytree.tree_leaves(mine), step.growing(), strict=True):
            if leaf.numel():
                worst = max(worst, _relative(found, grown(leaf, found.shape[-2]) if grows else leaf))
        worst = max(worst, _relative(y, expected))
    return worst


def checked(path: Path, error: float) -> float:
    """Return a difference if it is one that rounding makes.

    Args:
        path: The file that it is of.
        error: The difference, relative to the largest output.

    Raises:
        ExportError: if it is more.
    """
    if not error <= TOLERANCE:
        raise ExportError(
            f"{path.name} would compute something else than the model: the two differ by {error:.2g} of the largest "
            f"output, where {TOLERANCE:.0e} is allowed"
        )
    return error


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = (found.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _save(program: ExportedProgram, part: Path) -> None:
    with part.open("wb") as file:  # of a name PyTorch would say that it does not end in .pt2
        torch.export.save(program, file)


def _saved(program: ExportedProgram, part: Path) -> Any:
    """Write a program and return what is loaded again."""
    _save(program, part)
    with part.open("rb") as file:
        return torch.export.load(file).module()


class _Forward(nn.Module):
    """A model without the arguments that a program does not take."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, u: Tensor) -> Tensor:
        return self.model(u)


def check_length(length: int, dynamic: bool) -> None:
    """Raise unless a length can be exported.

    Args:
        length: What the caller passed.
        dynamic: Whether it is the largest of several.
    """
    least = SHORTEST + 1 if dynamic else 1
    if length < least:
        raise ValueError(f"length must be at least {least}, got {length}")


def example_input(model: Any, length: int, *, rows: int = ROWS, seed: int = 0) -> Tensor:
    """An input of a model or mixer: random tokens, or noise.

    Args:
        model: The model.
        length: Number of samples L.
        rows: Number of rows B.
        seed: Of what is drawn.
    """
    like: Any = next((x for x in model.state_dict().values() if x.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(seed)
    encoder: Any = next((x for x in model.modules() if hasattr(x, "embedding") or hasattr(x, "linear")), None)
    if hasattr(encoder, "embedding"):
        vocabulary = encoder.embedding.num_embeddings
        return torch.randint(vocabulary, (rows, length), generator=generator).to(like.device)
    channels = model.channels if encoder is None else encoder.linear.in_features
    return torch.randn(rows, length, channels, generator=generator).to(like)


def _checked(program: ExportedProgram) -> ExportedProgram:
    """Make sure that nothing of this package is in a program."""
    found = {str(node.target) for node in program.graph.nodes if "transferfn" in str(node.target)}
    if found:
        raise RuntimeError(f"the program calls operators of this package, {', '.join(sorted(found))}: please report it")
    return program
