from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tasks.digit_files import write_idx
from training.stub import Linear, Stub, tiny
from transferfn.tasks import DataError, Signature, SmnistConfig
from transferfn.training import ModelConfig, OptimizerConfig, RunError, RunOptions, evaluate, fit, load_model
from transferfn.training.log import MetricsFile, TrainingDivergedError
from transferfn.training.module import step_seed, warmup_cosine
from transferfn.training.objective import Classes
from transferfn.training.run import read_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("digits"))


def options(out: Path, **changes) -> RunOptions:
    return RunOptions(**({"out": out, "accelerator": "cpu", "log_every": 3} | changes))


def test_a_run_leaves_everything_in_its_folder(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(data, epochs=8, model=ModelConfig(width=64))
    result = fit(config, options(tmp_path), build=Stub)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints",
        "config.json",
        "events",
        "metrics.csv",
        "result.json",
    ]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert any(path.name.startswith("events.out.tfevents") for path in (tmp_path / "events").iterdir())
    assert result.test_score > 0.9
    assert (result.test_samples, result.steps) == (40, 72)
    rows = read_rows(tmp_path / "metrics.csv")
    epochs = [row for row in rows if row["train_loss"]]
    assert [int(row["step"]) for row in epochs] == list(range(9, 73, 9))
    assert float(epochs[-1]["train_accuracy"]) > 0.9
    assert max(float(row["val_accuracy"]) for row in epochs) == pytest.approx(result.validation_score)
    assert len(capsys.readouterr().out.splitlines()) == 9

    model, loaded = load_model(str(tmp_path), build=Stub)
    assert loaded == config
    assert not model.training
    accuracy, loss = evaluate(model, load_test(config.data), Classes())
    assert (accuracy, loss) == (result.test_score, pytest.approx(result.test_loss))


def load_test(config: SmnistConfig):
    from transferfn.tasks import load_smnist

    return load_smnist(config).test


def test_a_finished_run_is_not_touched(data: Path, tmp_path: Path) -> None:
    result = fit(tiny(data, epochs=1), options(tmp_path), build=Stub)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert fit(tiny(data, epochs=1), options(tmp_path), build=Stub) == result
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_without_validation_the_last_epoch_is_tested(data: Path, tmp_path: Path) -> None:
    config = tiny(data, data=SmnistConfig(published=False, path=data, side=7, validation=0.0), epochs=2)
    result = fit(config, options(tmp_path), build=Stub)
    assert (result.validation_score, result.best_epoch) == (None, 2)
    last, best = (torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert all(torch.equal(last["state_dict"][name], value) for name, value in best["state_dict"].items())


def test_a_broken_checkpoint_stops_the_run(data: Path, tmp_path: Path) -> None:
    fit(tiny(data, epochs=1), options(tmp_path), build=Stub)
    (tmp_path / "result.json").unlink()
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RunError, match=r"last\.ckpt is broken"):
        fit(tiny(data, epochs=1), options(tmp_path), build=Stub)


def test_options_that_make_no_model(data: Path, tmp_path: Path) -> None:
    def build(model: ModelConfig, data: Signature) -> nn.Module:
        raise ValueError("order must be at least 1")

    with pytest.raises(RunError, match="no model can be built from these options: order must be at least 1"):
        fit(tiny(data), options(tmp_path / "run"), build=build)
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is missing"):
        fit(tiny(tmp_path / "nowhere"), options(tmp_path / "run"), build=Stub)
    assert not (tmp_path / "run").exists()


def test_an_accelerator_that_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"this machine cannot train so: .*abacus"):
        fit(tiny(data), options(tmp_path, accelerator="abacus"), build=Stub)


def test_a_batch_larger_than_the_data(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="180 training samples do not fill one batch of 500"):
        fit(tiny(data, batch_size=500), options(tmp_path), build=Stub)


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    class Explodes(Stub):
        def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
            return super().forward(inputs) * math.inf

    with pytest.raises(TrainingDivergedError, match="the loss is nan after 3 steps: lower"):
        fit(tiny(data), options(tmp_path / "logged"), build=Explodes)
    rare = options(tmp_path / "checkpoint", log_every=1000, checkpoint_every=2)
    with pytest.raises(TrainingDivergedError, match="the loss is nan after 2 steps: lower"):
        fit(tiny(data), rare, build=Explodes)
    rare = options(tmp_path / "epoch", log_every=1000)
    with pytest.raises(TrainingDivergedError, match="the loss is nan after 9 steps: lower"):
        fit(tiny(data), rare, build=Explodes)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_run_that_cannot_be_carried_out_deletes_nothing(data: Path, tmp_path: Path) -> None:
    fit(tiny(data, epochs=1), options(tmp_path), build=Stub)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(RunError, match="abacus"):
        fit(tiny(data), options(tmp_path, accelerator="abacus", overwrite=True), build=Stub)
    with pytest.raises(RunError, match="must be a multiple of their number, got 20 samples for 3 devices"):
        fit(tiny(data), options(tmp_path, devices=3, overwrite=True), build=Stub)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_loss_that_is_told_does_not_depend_on_the_parts_of_a_batch(data: Path, tmp_path: Path) -> None:
    told = {}
    for parts in (1, 2, 5):
        out = tmp_path / str(parts)
        fit(tiny(data, epochs=2, accumulate=parts), options(out, log_every=1), build=Linear)
        rows = read_rows(out / "metrics.csv")
        told[parts] = [float(row[name]) for name in ("loss", "train_loss") for row in rows if row[name]]
    assert len(told[1]) == 18 + 2
    assert told[2] == pytest.approx(told[1], rel=1e-5)
    assert told[5] == pytest.approx(told[1], rel=1e-5)


class Groups(Stub):
    """Its first layer passes for a filter."""

    def param_groups(
        self, *, lr: float, weight_decay: float, filter_lr=None, filter_weight_decay=None
    ) -> list[dict[str, Any]]:
        first, *rest = (layer for layer in self.layers if list(layer.parameters()))
        return [
            {"params": list(first.parameters()), "lr": filter_lr, "weight_decay": filter_weight_decay},
            {"params": [p for layer in rest for p in layer.parameters()], "lr": lr, "weight_decay": weight_decay},
        ]


def test_filters_have_a_rate_and_a_decay_of_their_own(data: Path, tmp_path: Path) -> None:
    values = OptimizerConfig(lr=1e-2, weight_decay=0.2, filter_lr=3e-3, filter_weight_decay=0.1, betas=(0.5, 0.6))
    fit(tiny(data, epochs=1, optimizer=values), options(tmp_path), build=Groups)
    (state,) = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]
    told = [{name: group[name] for name in ("initial_lr", "weight_decay", "betas")} for group in state["param_groups"]]
    assert told == [
        {"initial_lr": 3e-3, "weight_decay": 0.1, "betas": (0.5, 0.6)},
        {"initial_lr": 1e-2, "weight_decay": 0.2, "betas": (0.5, 0.6)},
    ]


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_the_gradient_is_clipped_to_its_largest_norm(data: Path, tmp_path: Path, clip: float | None) -> None:
    norms: list[float] = []

    class Norms(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            found = [value.grad for value in pl_module.parameters()]
            norms.append(float(torch.nn.utils.get_total_norm(found)))

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            found = [value.grad for value in pl_module.parameters()]
            norms.append(float(torch.nn.utils.get_total_norm(found)))

    config = tiny(data, epochs=1, optimizer=OptimizerConfig(clip=clip))
    fit(config, options(tmp_path), build=Stub, callbacks=[Norms()])
    before, after = norms[::2], norms[1::2]
    assert len(after) == 9
    assert min(before) > 1e-2
    assert after == before if clip is None else max(after) <= clip * (1 + 1e-5)


def test_dropout_draws_do_not_depend_on_the_process() -> None:
    seeds = {step_seed(seed, rank=rank, step=step) for seed in (0, 1) for rank in (0, 1) for step in range(50)}
    assert len(seeds) == 200
    assert step_seed(0, rank=0, step=0) == 7896617691693857887
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_learning_rate_rises_and_falls(data: Path, tmp_path: Path) -> None:
    fit(tiny(data), options(tmp_path, log_every=1), build=Stub)
    found = [float(row["lr"]) for row in read_rows(tmp_path / "metrics.csv") if row["lr"]]
    # What is logged after a step is the rate of the next one: 27 steps, of which round(2.7) rise.
    assert found == pytest.approx([1e-2 * warmup_cosine(step, steps=27, warmup=3) for step in range(1, 28)])
    assert found[-1] == 0
    assert warmup_cosine(0, steps=10, warmup=0) == 1


def test_rows_of_a_log_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path, resume_step=0)
    log.log_metrics({"loss": 1.0}, step=1)
    log.log_metrics({"loss": 0.5, "accuracy": 0.1}, step=2)
    log.log_metrics({"loss": 0.4}, step=3)
    with path.open("a") as file:
        file.write("4,0.")  # a row that was being written
    log = MetricsFile(path, resume_step=2)
    log.log_metrics({"loss": 0.3, "accuracy": 0.2}, step=3)
    assert read_rows(path) == [
        {"step": "1", "loss": "1.0", "accuracy": ""},
        {"step": "2", "loss": "0.5", "accuracy": "0.1"},
        {"step": "3", "loss": "0.3", "accuracy": "0.2"},
    ]


def test_a_config_with_other_epochs_needs_another_folder(data: Path, tmp_path: Path) -> None:
    config = tiny(data, epochs=1)
    fit(config, options(tmp_path), build=Stub)
    with pytest.raises(RunError, match=r"epochs 2 \(there 1\)"):
        fit(replace(config, epochs=2), options(tmp_path), build=Stub)
