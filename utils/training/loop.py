"""Training: one explicit loop on Fabric.

loss         mean squared error of scaled soil moisture over the valid targets of the batch
each epoch   validation RMSE (m3 m-3, in 32 bit), the best epoch's weights kept, the checkpoint written
processes    as many as torchrun started: each takes its share of every batch, whose loss counts its valid targets in
             all of them, so that the weights are those of one process but for rounding; the first one writes
resume       from the last finished epoch with weights, optimiser and random state: on the CPU, at the same thread
             count, the same weights bit for bit as without the interruption
"""

import atexit
import ctypes
import logging
import math
import os
import platform
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import read_json
from utils.data_processing import Batch, Samples, Windows, index_batches
from utils.settings import RunSettings
from utils.training.checkpoint import Checkpoint, best_weights, save_checkpoint
from utils.training.inference import forecast_batches
from utils.training.run_directory import write_provenance
from utils.training.transfer import Transfer


def fit(
    model: nn.Module,
    training: Samples,
    validation: Samples,
    settings: RunSettings,
    checkpoint: Checkpoint,
    run_dir: Path,
    fabric: Fabric,
    on_epoch: Callable[[Checkpoint], None] | None = None,
    transfer: Transfer | None = None,
) -> Checkpoint:
    """Train `model` from the checkpoint's epoch to the last, or until it stops getting better.

    Writes checkpoint.pt, log.csv and run.json to `run_dir`. `on_epoch` sees the checkpoint after each epoch; without
    it there is a progress bar, or a line an epoch where there is no terminal. `transfer` says which weights learn and
    how; None: all of them at one rate. Raises UserError for a loss that is no longer finite.
    """
    keep_freed_memory()
    transfer = transfer or Transfer.of(model, settings)
    wrapped, optimiser = fabric.setup(model, torch.optim.Adam(transfer.groups(), fused=True))
    begun, machine = now(), {"device": str(fabric.device), "precision": fabric._precision.precision}
    if checkpoint.last:
        model.load_state_dict(checkpoint.last["weights"])
        optimiser.load_state_dict(checkpoint.last["optimiser"])
        torch.set_rng_state(checkpoint.last["random"])
        checkpoint.last = {}
        begun = read_json(run_dir / "run.json").get("start", begun)
    elif settings.epochs == 0:  # the weights it starts from, as they are
        checkpoint.best = copied(model)
        _, checkpoint.best_rmse = validate(fabric, model, validation, settings.batch_size)
    if fabric.is_global_zero:
        write_provenance(run_dir, checkpoint, **machine, start=begun, end=None)
    bar = tqdm(
        total=settings.epochs * len(training),
        initial=checkpoint.epoch * len(training),
        desc=f"{checkpoint.experiment}/{checkpoint.model} lead {settings.lead_days}",
        unit=" samples",
        disable=True if on_epoch or not fabric.is_global_zero else None,
    )
    while checkpoint.epoch < settings.epochs and not _stalled(checkpoint, settings.patience, transfer.last_thaw):
        start = time.perf_counter()
        transfer.thaw(checkpoint.epoch)
        train_loss = train_epoch(fabric, wrapped, optimiser, training, settings.batch_size, bar, transfer)
        seconds = time.perf_counter() - start
        optimiser.zero_grad(set_to_none=True)
        val_loss, val_rmse = validate(fabric, model, validation, settings.batch_size)
        if not math.isfinite(train_loss + val_loss):
            raise UserError(f"The loss is no longer finite in epoch {checkpoint.epoch + 1}; try a smaller --lr.")
        checkpoint.epoch += 1
        total = time.perf_counter() - start
        checkpoint.log.append([checkpoint.epoch, train_loss, val_loss, val_rmse, total, len(training) / seconds])
        weights = model.state_dict()
        if val_rmse < checkpoint.best_rmse:
            checkpoint.best_epoch, checkpoint.best_rmse, checkpoint.best = checkpoint.epoch, val_rmse, weights
        checkpoint.last = {"weights": weights, "optimiser": optimiser.state_dict(), "random": torch.get_rng_state()}
        return_freed_memory()
        if fabric.is_global_zero:
            save_checkpoint(run_dir, checkpoint)
        fabric.barrier()
        checkpoint.best = best_weights(run_dir)  # in the file, not in memory
        bar.set_postfix(loss=f"{train_loss:.2e}", val_rmse=f"{val_rmse:.4f}")
        if on_epoch:
            on_epoch(checkpoint)
        elif bar.disable and fabric.is_global_zero:
            print(f"epoch {checkpoint.epoch}: loss {train_loss:.3e}, validation RMSE {val_rmse:.4f} m³ m⁻³", flush=True)
    bar.close()
    checkpoint.last, checkpoint.finished = {}, True
    fabric.barrier()  # until all have read the last file
    if fabric.is_global_zero:
        save_checkpoint(run_dir, checkpoint)
        write_provenance(run_dir, checkpoint, **machine, start=begun, end=now())
    return checkpoint


def refit(
    model: nn.Module, training: Samples, settings: RunSettings, epochs: int, fabric: Fabric, transfer: Transfer
) -> None:
    """Train for so many epochs, without validation and without a file."""
    keep_freed_memory()
    wrapped, optimiser = fabric.setup(model, torch.optim.Adam(transfer.groups(), fused=True))
    for epoch in range(epochs):
        transfer.thaw(epoch)
        train_epoch(fabric, wrapped, optimiser, training, settings.batch_size, tqdm(disable=True), transfer)


def keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed; returning them costs a page fault for each 4 kB of the next step."""
    if libc := _glibc():
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: blocks below 1 GiB come from the heap
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: whose end is not cut off


def return_freed_memory() -> None:
    """Give back what an epoch leaves behind, so that it does not stand beside what the checkpoint needs."""
    if libc := _glibc():
        libc.malloc_trim(0)


def start_fabric(precision: str, idle_weights: bool = False) -> Fabric:
    """Fabric on the best devices there are, in every process that torchrun started, or in this one.

    Precision auto is bf16-mixed where the processor does bf16 natively. `idle_weights`: some may have no gradient.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at every start
    processes: dict[str, Any] = {"devices": 1}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of a 1 × 1 convolution: slower by nothing
        strategy = DDPStrategy(gradient_as_bucket_view=True, find_unused_parameters=idle_weights)
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
    fabric: Fabric,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    training: Samples,
    batch_size: int,
    bar: tqdm,
    transfer: Transfer | None = None,
) -> float:
    """One pass over the samples in a random order; returns the mean loss over all valid targets, without penalty."""
    model.train()
    total, count = 0.0, 0
    for windows in training.shuffled():
        order = torch.randperm(len(windows)).numpy()
        for samples in index_batches(len(windows), batch_size):
            batch = Batch(*(part.to(fabric.device) for part in share(fabric, windows, order[samples])))
            squares = sum_of_squares(model(batch.features), batch)
            (valid,) = summed(fabric, batch.valid.sum())
            if valid:
                optimiser.zero_grad(set_to_none=True)
                fabric.backward(squares * fabric.world_size / valid)  # gradients are averaged over processes
                if transfer:
                    transfer.pull()
                optimiser.step()
            total, count = total + squares.item(), count + int(valid)
            bar.update(len(samples))
            bar.set_postfix(loss=f"{total * fabric.world_size / max(count, 1):.2e}", refresh=False)
    (total,) = summed(fabric, total)
    return total / max(count, 1)


def validate(fabric: Fabric, model: nn.Module, validation: Samples, batch_size: int) -> tuple[float, float]:
    """The loss (mean over all valid targets, scaled) and the RMSE in m3 m-3."""
    total, squares, count, turn = 0.0, 0.0, 0, (fabric.global_rank, fabric.world_size)
    for windows in validation:
        for batch, scaled in forecast_batches(model, windows, batch_size, fabric.device, *turn):
            forecast, target = (windows.record.unscale(maps) for maps in (scaled, batch.target))
            total, count = total + sum_of_squares(scaled, batch).item(), count + int(batch.valid.sum())
            squares += sum_of_squares(forecast, batch._replace(target=target)).item()
    total, squares, count = summed(fabric, total, squares, count)
    return total / count, math.sqrt(squares / count)


def share(fabric: Fabric, windows: Windows, samples: Int[np.ndarray, "batch"]) -> Batch:
    """This process' samples of a batch; where there are fewer than processes, one that does not count."""
    own = samples[fabric.global_rank :: fabric.world_size]
    batch = windows.batch(own if len(own) else samples[:1])
    return batch if len(own) else batch._replace(valid=torch.zeros_like(batch.valid))


def summed(fabric: Fabric, *values: float | Tensor) -> list[float]:
    """Each value, summed over all processes."""
    if fabric.world_size == 1:
        return [float(value) for value in values]
    together = torch.tensor([float(value) for value in values], dtype=torch.float64, device=fabric.device)
    return fabric.all_reduce(together, reduce_op="sum").tolist()


def sum_of_squares(forecast: Float[Tensor, "batch lat lon"], batch: Batch) -> Float[Tensor, ""]:
    """Squared errors summed over the valid targets alone; divided by their number, this is the loss."""
    valid: Bool[Tensor, "batch lat lon"] = batch.valid
    return torch.where(valid, forecast - batch.target, 0).square().sum()


def _stalled(checkpoint: Checkpoint, patience: int, last_thaw: int) -> bool:
    """Whether it is `patience` epochs since the best one, and since the last part began to learn."""
    return bool(patience) and checkpoint.epoch - max(checkpoint.best_epoch, last_thaw) >= patience


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Its weights, apart from it and on the processor."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def now() -> str:
    """The time as run.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
