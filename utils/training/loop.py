"""Training by gradient descent: one explicit loop on Fabric.

loss         mean squared error of scaled soil moisture over the valid targets of the batch
each epoch   validation RMSE (m3 m-3, in 32 bit), the best epoch's weights kept
checkpoint   written after an epoch, and as often as it takes a tenth of the time at most
end          after `patience` epochs without a better validation RMSE, or after all `epochs`
dead         channels that the ReLU before a dense map keeps closed, counted at the start and of the best weights
processes    as many as torchrun started. Each takes its part of every batch, whose loss counts the valid targets of all
             of them: the weights are those of one process but for rounding. The first process writes.
resume       from the last checkpoint with weights, optimiser and random state: on the CPU, at the same thread
             count, the same weights bit for bit as without the interruption
"""

import atexit
import logging
import math
import os
import time
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import read_json
from utils.common.glibc import keep_freed_memory, return_freed_memory
from utils.data_processing import Batch, Windows, index_batches
from utils.models import ForecastModel
from utils.settings import RunSettings
from utils.training.checkpoint import Checkpoint, best_weights, save_checkpoint
from utils.training.dead_channels import count_dead_channels
from utils.training.inference import forecast_batches, to_device
from utils.training.trainer import Run, Trainer, copy_weights, now
from utils.training.transfer import Transfer

SAVING = 0.1  # share of the time that checkpoints may take; short epochs on a large network would save all day
SHOWING = 1.0  # seconds between two losses in the progress bar, each of which waits for the device


class GradientDescent(Trainer):
    """Adam on maps. `source` are the pre-trained weights, towards which the strategy l2sp pulls."""

    def __init__(
        self, model: ForecastModel, settings: RunSettings, fabric: Fabric, source: dict[str, Tensor] | None = None
    ):
        super().__init__(model, settings, fabric, source)
        self.transfer = Transfer.of(model, settings, source, fabric.device)
        self.saved_at = self.saving_seconds = 0.0

    def fit(self, run: Run) -> Checkpoint:
        checkpoint, settings = run.checkpoint, self.settings
        wrapped, optimiser = self.set_up()
        start_time = self.restore(run, optimiser)
        if not checkpoint.log:
            self.note_dead_channels(run, "start")
        self.write_start(run, start_time)
        samples = run.training.epoch_size
        total, done = settings.epochs * samples, checkpoint.epoch * samples
        with self.progress_bar(run, unit=" samples", total=total, initial=done) as bar:
            while checkpoint.epoch < settings.epochs and not self.has_stalled(checkpoint):
                start = time.perf_counter()
                self.transfer.unfreeze(checkpoint.epoch)
                train_loss, steps = self.learn_one_epoch(wrapped, optimiser, run.training, bar)
                train_seconds = time.perf_counter() - start
                val_loss, val_rmse = validate(self.fabric, self.model, run.validation, settings.batch_size)
                if not math.isfinite(train_loss + val_loss):
                    raise UserError(
                        f"The loss is no longer finite in epoch {checkpoint.epoch + 1}; try a smaller --lr."
                    )
                checkpoint.epoch += 1
                checkpoint.steps += steps
                seconds, rate = time.perf_counter() - start, samples / train_seconds
                checkpoint.log.append([checkpoint.epoch, train_loss, val_loss, val_rmse, seconds, rate])
                self.save_epoch(run, optimiser)
                self.report_epoch(run, bar)
        checkpoint.last = {}
        checkpoint.stopped = self.tell_why_it_stopped(checkpoint)
        if checkpoint.dead_channels:
            self.model.load_state_dict(checkpoint.best)
            self.note_dead_channels(run, "end")
        self.write_end(run, start_time)
        return checkpoint

    def refit(self, training: Windows, finished: Checkpoint) -> ForecastModel:
        """As many epochs as the best of the finished run."""
        wrapped, optimiser = self.set_up()
        for epoch in range(finished.best_epoch):
            self.transfer.unfreeze(epoch)
            self.learn_one_epoch(wrapped, optimiser, training)
        return self.model

    def set_up(self) -> tuple[nn.Module, Optimizer]:
        """The model as the processes train it, and its optimiser."""
        keep_freed_memory()
        return self.fabric.setup(self.model, Adam(self.transfer.groups(), fused=True))

    def restore(self, run: Run, optimiser: Optimizer) -> str:
        """Put back what an interrupted run had; returns the time when the run began."""
        checkpoint, last = run.checkpoint, run.checkpoint.last
        if last:
            self.model.load_state_dict(last["weights"])
            optimiser.load_state_dict(last["optimiser"])
            torch.set_rng_state(last["random"])
            checkpoint.last = {}
            return read_json(run.run_dir / "run.json").get("start", now())
        if self.settings.epochs == 0:  # zero-shot: the weights it starts from are the best
            checkpoint.best = copy_weights(self.model)
            _, checkpoint.best_rmse = validate(self.fabric, self.model, run.validation, self.settings.batch_size)
        return now()

    def has_stalled(self, checkpoint: Checkpoint) -> bool:
        """Whether `patience` epochs have passed since the best one, and since the last part began to learn."""
        patience = self.settings.patience
        waiting_since = max(checkpoint.best_epoch, self.transfer.last_unfreezing)
        return patience > 0 and checkpoint.epoch - waiting_since >= patience

    def tell_why_it_stopped(self, checkpoint: Checkpoint) -> str:
        """One of STOPPED."""
        if not (self.settings.patience and self.settings.epochs):
            return "planned"
        return "validation" if self.has_stalled(checkpoint) else "cap"

    def note_dead_channels(self, run: Run, when: str) -> None:
        """Keep in the checkpoint how many channels are dead; nothing where the model has no ReLU."""
        channels = count_dead_channels(self.model, run.training, self.settings.batch_size, self.fabric.device)
        if channels:
            run.checkpoint.dead_channels |= {when: channels.dead, "all": channels.all}

    def learn_one_epoch(
        self, wrapped: nn.Module, optimiser: Optimizer, training: Windows, bar: tqdm | None = None
    ) -> tuple[float, int]:
        """Go through the samples once and forget the gradients; returns the training loss and the number of steps."""
        learned = train_epoch(
            fabric=self.fabric,
            model=wrapped,
            optimiser=optimiser,
            training=training,
            batch_size=self.settings.batch_size,
            bar=bar,
            transfer=self.transfer,
        )
        optimiser.zero_grad(set_to_none=True)
        return learned

    def save_epoch(self, run: Run, optimiser: Optimizer) -> None:
        """Keep the epoch in the log's last row, which may be the best one; write the checkpoint where that is due."""
        checkpoint, weights = run.checkpoint, self.model.state_dict()
        epoch, _, _, val_rmse, _, _ = checkpoint.log[-1]
        is_best = val_rmse < checkpoint.best_rmse
        if is_best:
            checkpoint.best_epoch, checkpoint.best_rmse = epoch, val_rmse
        if not self.saving_is_due():
            checkpoint.best = copy_weights(self.model) if is_best else checkpoint.best
            return
        start = time.perf_counter()
        if is_best:
            checkpoint.best = weights
        checkpoint.last = {"weights": weights, "optimiser": optimiser.state_dict(), "random": torch.get_rng_state()}
        return_freed_memory()  # what the epoch leaves would stand beside what the checkpoint needs
        if self.fabric.is_global_zero:
            save_checkpoint(run.run_dir, checkpoint)
        self.fabric.barrier()
        checkpoint.best = best_weights(run.run_dir)  # in the file, not in memory
        self.saved_at = time.perf_counter()
        self.saving_seconds = self.saved_at - start

    def saving_is_due(self) -> bool:
        """Whether a checkpoint, which takes as long as the last one, may be written; always with several processes."""
        passed = time.perf_counter() - self.saved_at
        return self.fabric.world_size > 1 or SAVING * passed >= self.saving_seconds

    def report_epoch(self, run: Run, bar: tqdm) -> None:
        """Tell whoever follows the run of its last epoch: `on_epoch`, the bar, or a line where there is neither."""
        epoch, train_loss, _, val_rmse, _, _ = run.checkpoint.log[-1]
        bar.set_postfix(loss=f"{train_loss:.2e}", val_rmse=f"{val_rmse:.4f}")
        if run.on_epoch:
            run.on_epoch(run.checkpoint)
        elif bar.disable and self.fabric.is_global_zero:
            print(f"epoch {epoch}: loss {train_loss:.3e}, validation RMSE {val_rmse:.4f} m³ m⁻³", flush=True)


def start_fabric(precision: str, find_unused_parameters: bool = False) -> Fabric:
    """Fabric on the best devices there are, in every process that torchrun started, or in this one.

    Precision auto is bf16-mixed where the processor does bf16 natively. `find_unused_parameters`: some weights may get
    no gradient, for which several processes must look out.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at every start
    processes: dict[str, Any] = {"devices": 1}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of a 1 × 1 convolution: slower by nothing
        strategy = DDPStrategy(gradient_as_bucket_view=True, find_unused_parameters=find_unused_parameters)
        nodes = int(os.environ["GROUP_WORLD_SIZE"])
        processes = {"devices": int(os.environ["LOCAL_WORLD_SIZE"]), "num_nodes": nodes, "strategy": strategy}
    device = Fabric(accelerator="auto", devices=1).device
    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        precision = "bf16-mixed" if native else "32-true"
    fabric = Fabric(accelerator="auto", precision=precision, **processes)
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave_group)  # its threads would abort a process that ends before them
    return fabric


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def train_epoch(
    *,
    fabric: Fabric,
    model: nn.Module,
    optimiser: Optimizer,
    training: Windows,
    batch_size: int,
    bar: tqdm | None = None,
    transfer: Transfer | None = None,
) -> tuple[float, int]:
    """One pass over the samples in a random order.

    Returns the mean loss over all valid targets, without penalty, and the number of the optimiser's steps.
    """
    model.train()
    bar = tqdm(disable=True) if bar is None else bar
    total, count, steps, shown = DeviceSum(), 0, 0, 0.0
    for windows in training.shuffled():
        order = torch.randperm(len(windows)).numpy()
        for samples in index_batches(len(windows), batch_size):
            own = make_own_part(fabric, windows, order[samples])
            (valid,) = sum_over_processes(fabric, own.valid.sum())  # counted before the batch is on its device
            batch = to_device(own, fabric.device)
            squares = sum_squared_errors(model(batch.features), batch)
            if valid:
                optimiser.zero_grad(set_to_none=True)
                fabric.backward(squares * fabric.world_size / valid)  # gradients are averaged over processes
                if transfer:
                    transfer.pull()
                optimiser.step()
                steps += 1
            total.add(squares)
            count += int(valid)
            bar.update(len(samples))
            if not bar.disable and time.perf_counter() - shown > SHOWING:
                bar.set_postfix(loss=f"{total.read() * fabric.world_size / max(count, 1):.2e}", refresh=False)
                shown = time.perf_counter()
    (loss,) = sum_over_processes(fabric, total.read())
    return loss / max(count, 1), steps


def validate(fabric: Fabric, model: nn.Module, validation: Windows, batch_size: int) -> tuple[float, float]:
    """The loss (mean over all valid targets, scaled) and the RMSE in m3 m-3."""
    total, squares, count = DeviceSum(), DeviceSum(), DeviceSum()
    own_batches = {"first": fabric.global_rank, "step": fabric.world_size}
    for windows in validation:
        for batch, scaled in forecast_batches(model, windows, batch_size, fabric.device, **own_batches):
            forecast, target = windows.record.unscale(scaled), windows.record.unscale(batch.target)
            total.add(sum_squared_errors(scaled, batch))
            squares.add(sum_squared_errors(forecast, batch._replace(target=target)))
            count.add(batch.valid.sum())
    loss, error, targets = sum_over_processes(fabric, total.read(), squares.read(), count.read())
    return loss / targets, math.sqrt(error / targets)


class DeviceSum:
    """A sum of single numbers that a device still computes. To read it waits for the device, to add to it does not."""

    def __init__(self):
        self._sum, self._later = 0.0, []

    def add(self, number: Float[Tensor, ""] | Int[Tensor, ""]) -> None:
        """Add a number when the sum is next read."""
        self._later.append(number.detach())

    def read(self) -> float:
        """The sum of all numbers so far, added in 64 bit and in their order."""
        if self._later:
            for number in torch.stack(self._later).tolist():
                self._sum += number
            self._later = []
        return self._sum


def make_own_part(fabric: Fabric, windows: Windows, samples: Int[np.ndarray, "batch"]) -> Batch:
    """This process's part of a batch; where there is none for it, a sample that does not count."""
    own = samples[fabric.global_rank :: fabric.world_size]
    if len(own):
        return windows.batch(own)
    batch = windows.batch(samples[:1])
    return batch._replace(valid=torch.zeros_like(batch.valid))


def sum_over_processes(fabric: Fabric, *values: float | Tensor) -> list[float]:
    """The sum of each value over all processes."""
    if fabric.world_size == 1:
        return [float(value) for value in values]
    stacked = torch.tensor([float(value) for value in values], dtype=torch.float64, device=fabric.device)
    return fabric.all_reduce(stacked, reduce_op="sum").tolist()


def sum_squared_errors(forecast: Float[Tensor, "batch lat lon"], batch: Batch) -> Float[Tensor, ""]:
    """The sum over all valid targets of a batch of the squared error, a single number.

    Its unit is the square of that of `forecast` and of the batch's target: none where they are scaled, (m3 m-3)² where
    they are not. The loss is this sum of scaled values, divided by the number of valid targets.
    """
    valid: Bool[Tensor, "batch lat lon"] = batch.valid
    return torch.where(valid, forecast - batch.target, 0).square().sum()
