"""Train what a configuration says, in a folder, from wherever the last start got to."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from transferfn.files import write_json
from transferfn.memory import highest
from transferfn.models.parameters import count_parameters
from transferfn.models.substitutes import put_substitutes
from transferfn.nn.norm import synchronize_norms
from transferfn.tasks import Batch, Dataset, Signature
from transferfn.training.build import build_model
from transferfn.training.config import AnyModelConfig, RunOptions, TrainConfig
from transferfn.training.lock import alone_in
from transferfn.training.objective import Objective, objective
from transferfn.training.run import (
    Result,
    RunError,
    RunFolder,
    Terminated,
    begin_run,
    check_processes,
    open_run,
    process_rank,
    resume_path,
)
from transferfn.training.saved import checkpoint_config, checkpoint_substitutes, model_weights, read_checkpoint
from transferfn.training.serialize import to_dict
from transferfn.training.tokens import load_splits, run_signature, write_tokens

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

Builder = Callable[[AnyModelConfig, Signature], nn.Module]


def fit(
    config: TrainConfig,
    options: RunOptions,
    *,
    build: Builder = build_model,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Train, validate after each epoch, and test the best checkpoint; continue if the folder holds this very run.

    Args:
        config: What the run computes.
        options: How it is carried out.
        build: Makes the model from its configuration and what the task gives and asks for.
        callbacks: Further Lightning callbacks.

    Returns:
        What the run came to; a run that was finished before is not touched. Continued after an interruption it is the
        same bit for bit on the same machine with as many threads; with others sums may be rounded in another order.

    Raises:
        RunError: if the folder holds another run or a broken checkpoint, another process trains there, torchrun
            started another number of processes than is asked for, or the configuration makes no model.
        DataError: if the data cannot be read.
        KeyboardInterrupt: if the user stops it; the same call continues from the last checkpoint.
        Terminated: if the process is told to end (SIGTERM) while it trains; the same holds.
    """
    check_processes(options)
    if (done := _finished(config, options)) is not None:
        return done
    with alone_in(options.out):
        # Another process may have trained it meanwhile.
        return _finished(config, options) or _train(config, options, build=build, callbacks=callbacks)


def _finished(config: TrainConfig, options: RunOptions) -> Result | None:
    folder = open_run(config, options)
    return None if options.overwrite else folder.read_result()


def _train(config: TrainConfig, options: RunOptions, *, build: Builder, callbacks: Sequence[Callback]) -> Result:
    try:
        import lightning.pytorch as pl
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.pytorch.callbacks import EMAWeightAveraging
        from lightning.pytorch.loggers import TensorBoardLogger

        from transferfn.training.checkpoint import AtomicCheckpointIO, Checkpoints
        from transferfn.training.log import Log, MetricsFile
        from transferfn.training.module import DataModule, TrainingModule
    except ModuleNotFoundError as error:
        raise RunError(f"training needs the package {error.name}: pip install 'transferfn[train]'") from None

    folder = open_run(config, options)
    goal = objective(config.data.signature.target)
    model = seeded_model(config, config.data.signature, build=build)  # before the data: a wrong option is told at once
    resume = resume_path(folder, options)
    data = load_splits(folder, config) if resume else config.data.load()
    if len(data.train) < config.batch_size:
        raise RunError(
            f"{len(data.train)} training samples do not fill one batch of {config.batch_size}: lower batch-size"
        )
    steps = config.epochs * (config.epoch_steps or len(data.train) // config.batch_size)
    step = int(read_checkpoint(resume)["global_step"]) if resume else 0
    log = Log(goal, every=options.log_every, progress=options.progress)
    checkpoints = Checkpoints(folder.checkpoints, config, every=options.checkpoint_every)
    averaging = [] if config.ema is None else [EMAWeightAveraging(decay=config.ema)]
    with _quiet_lightning():
        try:
            trainer = pl.Trainer(
                accelerator=options.accelerator,
                devices=options.devices,
                num_nodes=options.nodes,
                strategy=options.strategy,
                accumulate_grad_batches=config.accumulate,
                precision=config.precision,
                max_epochs=config.epochs,
                gradient_clip_val=config.optimizer.clip,
                logger=False,
                callbacks=[log, checkpoints, *averaging, *callbacks],
                plugins=[AtomicCheckpointIO()],
                log_every_n_steps=1,
                num_sanity_val_steps=0,
                limit_val_batches=None if data.validation else 0,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder.path,
            )
        except (MisconfigurationException, ValueError, RuntimeError, ModuleNotFoundError) as error:  # the last: tpu
            raise RunError(f"this machine cannot train so: {' '.join(str(error).split())}") from error
        if config.batch_size % (trainer.world_size * config.accumulate):
            parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
            raise RunError(
                f"batch-size counts the samples over all devices and must be a multiple of their number, "
                f"got {config.batch_size} samples for {trainer.world_size} devices{parts}"
            )
        synchronize_norms(model, trainer.world_size > 1)
        if resume is None:  # not before all is known to fit together: it deletes what was there
            begin_run(folder, config)
            if process_rank() == 0:
                write_tokens(folder, config)
        trainer.loggers = [
            MetricsFile(folder.metrics, resume_step=step),
            TensorBoardLogger(folder.events, name="", version="", purge_step=step + 1 if resume else None),
        ]
        module = TrainingModule(model, goal, config.optimizer, steps=steps, seed=config.seed)
        datamodule = DataModule(data.train, data.validation, config, options)
        with _interruptible(), contextlib.closing(datamodule):
            trainer.fit(module, datamodule, ckpt_path=resume, weights_only=True)
    model.load_state_dict(model_weights(read_checkpoint(folder.best)))
    synchronize_norms(model, False)
    score, loss = evaluate(model, data.test, goal, device=trainer.strategy.root_device)
    result = Result(
        metric=goal.metric,
        test_score=score,
        test_loss=loss,
        test_samples=len(data.test),
        validation_score=None if data.validation is None else checkpoints.best_score,
        best_epoch=checkpoints.best_epoch + 1,
        steps=trainer.global_step,
        parameters=count_parameters(model),
        seconds=log.elapsed,
        peak_memory=_peak_memory(trainer.strategy.root_device),
    )
    if process_rank() == 0:
        write_json(folder.result, to_dict(result))
    return result


def seeded_model(config: TrainConfig, signature: Signature, *, build: Builder = build_model) -> nn.Module:
    """Build the model of a run with the weights it starts from; the global generator is left as it was.

    Args:
        config: What the run computes.
        signature: What its task gives and asks for.
        build: Makes the model from its configuration and the signature.

    Raises:
        RunError: if the configuration makes no model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            return build(config.model, signature)
        except ValueError as error:
            raise RunError(f"no model can be built from these options: {error}") from error


def load_model(folder: str | Path, *, build: Builder = build_model) -> tuple[nn.Module, TrainConfig]:
    """Return the best model of a run and its configuration.

    Args:
        folder: The folder of the run.
        build: Makes the model from its configuration and what the task gives and asks for.

    Raises:
        RunError: if there is no run, or its checkpoint cannot be read.
    """
    folder = Path(folder)
    if folder.is_file():
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
        raise RunError(f"{folder} is a file, expected the folder of a run: {run} perhaps")
    run = RunFolder(path=folder)
    if run.config.exists() and run.checkpoints.is_dir() and not run.best.exists() and not run.result.exists():
        raise RunError(
            f"{folder} holds a run that is not finished, and has no best epoch yet: the command that began it goes on "
            "with it"
        )
    checkpoint = read_checkpoint(run.best)
    config = checkpoint_config(checkpoint)
    model = seeded_model(config, run_signature(RunFolder(path=folder), config), build=build)
    put_substitutes(model, checkpoint_substitutes(checkpoint))
    model.load_state_dict(model_weights(checkpoint))
    return model.eval(), config


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    objective: Objective,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> tuple[float, float]:
    """Return score and mean loss of a model in eval mode.

    Args:
        model: The model.
        dataset: The samples.
        objective: What it is judged by.
        batch_size: How many at a time.
        device: Where to compute.
    """
    model = model.to(device).eval()
    kind = next(model.parameters()).dtype
    loss = total = count = 0.0
    for start in range(0, len(dataset), batch_size):
        gathered = dataset.gather(range(start, min(start + batch_size, len(dataset))))
        batch = Batch(*(None if part is None else part.to(device) for part in gathered))  # pyright: ignore
        if batch.inputs.is_floating_point():
            batch = batch._replace(inputs=batch.inputs.to(kind))
        judged = objective.judge(model, batch)
        loss += float(judged.loss * judged.count)
        total += float(judged.total)
        count += float(judged.count)
    return objective.score(total, count), loss / count


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return highest() or 0


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's chatter about devices and tips off the screen, and a warning about its own code."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C come out as KeyboardInterrupt: Lightning ends the process and leaves the signal ignored.

    After SIGTERM it would end the process as if all had gone well, and whoever sent it would count the run as done.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise Terminated from None
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise
