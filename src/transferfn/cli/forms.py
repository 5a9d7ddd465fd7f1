"""The form that a run's filters decode in, as commands take it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from transferfn.nn import realize_model
from transferfn.nn.realize import FormOption
from transferfn.nn.realize_model import ModelChoice
from transferfn.training import RunError


def in_form(model: torch.nn.Module, form: FormOption, run: Path, *, narrow: bool = False) -> ModelChoice:
    """Realise the filters of a run's model in a form, and tell on standard error what was measured.

    Args:
        model: The model.
        form: As for :func:`~transferfn.realize_model`.
        run: Folder of the run, for errors.
        narrow: Whether states are kept in bfloat16.

    Raises:
        RunError: if the model has no filters that could be, or the form does not hold them.
    """
    try:
        found = realize_model(model, form=form, state_dtype=torch.bfloat16 if narrow else None)
    except (ValueError, ArithmeticError) as error:
        raise RunError(f"{run} cannot be decoded with --form {form}: {error}") from error
    print("\n".join(found.lines()), file=sys.stderr)
    return found
