"""The training loop, to be read from top to bottom."""

import collections.abc
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.checkpoint import save_checkpoint
from model.data.dataset import ImageDataset, shuffled_batches
from model.data.pyramid import Patch
from model.errors import InputError
from model.generator import Generator
from model.training.config import TrainingConfig
from model.training.device import reader_context, set_arithmetic, to_device
from model.training.distributed import Distributed
from model.training.forecast import Forecast
from model.training.metrics_log import MetricsLog, plot_curves
from model.training.patches import choose_patches
from model.training.run_lock import lock_run
from model.training.run_metadata import check_same_data, describe_run, write_run_metadata
from model.training.sample_grids import one_hot, save_data_grid, save_sample_grids
from model.training.state import TrainingState, read_newest
from model.training.step import TrainingStep
from model.training.transfer import TransferSource
from model.util.progress import PartTeller

MetricFn = Callable[[Generator], dict[str, float]]
"""Computes quality metrics of the EMA generator, by name."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end a run after the current step: of schedulers, Ctrl-C, and of a terminal that is closed."""

T = TypeVar("T")

Batch = tuple[Tensor, Tensor, list[Patch]]
"""This process's share of a batch: images [batch / processes, 3, R, R] in −1 … 1, one-hot classes, what is shown."""


def train(
    config: TrainingConfig,
    dataset: ImageDataset,
    outdir: Path,
    device: torch.device,
    workers: int = 0,
    *,
    distributed: Distributed | None = None,
    transfer: Path | None = None,
    metric_fn: MetricFn | None = None,
) -> Path:
    """Trains until ``config.total_kimg``, resuming from the newest state in ``outdir`` if there is one.

    Writes into ``outdir``: ``checkpoint-<images>.safetensors`` (the EMA generator, ready to be served),
    ``grid-<images>.png`` and ``grid4x-<images>.png``, ``state-<images>.pt``, ``metrics.jsonl``, TensorBoard's events,
    ``run.json``, and at the end ``curves.png``. SIGTERM, SIGINT, SIGHUP, an unreadable image and a lost reader end the
    run after the current step, with everything saved.

    Args:
        dataset: images of the generator's resolution.
        workers: processes that read images.
        distributed: the processes that share the work; by default this one alone.
        transfer: checkpoint or training state with the initial networks.
        metric_fn: computes metrics at every snapshot, in the main process.

    Returns:
        The path of the last checkpoint.

    Raises:
        InputError: data, config and folder do not fit together, another run uses the folder, an image cannot be read, a
            process that reads images was lost, or a loss is not finite.
        OSError: a file cannot be written; earlier snapshots are complete.
    """
    distributed = distributed or Distributed()
    config.check_processes(distributed.size)
    check_same_data(outdir, dataset)

    set_arithmetic(config, device)
    state, origin = _load_state(config, outdir, device, distributed, transfer)
    step = TrainingStep(state, distributed, _tell_first_step(state) if distributed.is_main else None)
    forecast = Forecast(config) if device.type == "cpu" and distributed.is_main else None
    total = round(config.total_kimg * 1000)
    saved = state.images  # a resumed run starts with what has been saved
    error = None

    with (
        lock_run(outdir) if distributed.is_main else nullcontext(),
        _stop_on_signals(distributed) as signals,
        closing(_read_batches(dataset, state, workers, distributed)) as batches,  # whose workers end in any case
        MetricsLog(outdir, state.images, total, device, distributed, state.scalars) as log,
    ):
        if distributed.is_main:
            log.print(f"{outdir}: {origin}, to {config.total_kimg:g} kimg")
            for line in describe_run(config, dataset, device, distributed.size):
                log.print(line)
            write_run_metadata(outdir, config, dataset, device, distributed.size, transfer)
            if state.images == 0:
                save_data_grid(outdir, dataset)
                save_sample_grids(outdir, state.generator_ema, dataset, 0)

        while state.images < total:
            batch = next(batches)
            error = batch if isinstance(batch, InputError) else None
            if distributed.any(bool(signals) or error is not None):
                break
            assert not isinstance(batch, InputError)  # noqa: S101 - for mypy
            log.add(state.steps, step(*batch))
            log.advance(config.batch)
            if forecast is not None and (told := forecast.after_step(state.images)):
                log.print(told)

            snapshot = _crossed(state.images, config.batch, config.snapshot_kimg)
            if snapshot or _crossed(state.images, config.batch, config.log_kimg):
                means = log.take_means()
                if snapshot:
                    means |= _save_snapshot(state, dataset, outdir, log, distributed, metric_fn)
                    saved = state.images
                log.write(state.images, means)

        if saved != state.images or not checkpoint_path(outdir, state).exists():
            if state.images >= total:
                means = log.take_means()
                means |= _save_snapshot(state, dataset, outdir, log, distributed, metric_fn)
                log.write(state.images, means)
            else:  # the means go on when the run is resumed
                _save_snapshot(state, dataset, outdir, log, distributed, None)
        if distributed.is_main:
            plot_curves(outdir)
        result, advice = ("finished", "") if state.images >= total else ("stopped", "; the same command goes on")
        log.print(f"{result} at {state.images / 1000:g} kimg: {checkpoint_path(outdir, state)}{advice}")
    if error is not None:
        raise error
    return checkpoint_path(outdir, state)


def checkpoint_path(outdir: Path, state: TrainingState) -> Path:
    return outdir / f"checkpoint-{state.images:09d}.safetensors"


def _save_snapshot(
    state: TrainingState,
    dataset: ImageDataset,
    outdir: Path,
    log: MetricsLog,
    distributed: Distributed,
    metric_fn: MetricFn | None,
) -> dict[str, float]:
    """Writes the grids, the checkpoint and the state: after a failure the run resumes from the state before.

    Returns the metrics, which come last: they take long, and a run that is killed meanwhile has its snapshot.
    """
    state.scalars = log.collected()
    if not distributed.is_main:
        return {}
    save_sample_grids(outdir, state.generator_ema, dataset, state.images)
    info: dict[str, Any] = {"images": state.images, "training": state.config.to_dict()}
    if state.config.generator.classes and dataset.class_names:
        info["class_names"] = dataset.class_names
    save_checkpoint(checkpoint_path(outdir, state), state.generator_ema, info)
    state.save(outdir)
    return metric_fn(state.generator_ema) if metric_fn else {}


def _load_state(
    config: TrainingConfig, outdir: Path, device: torch.device, distributed: Distributed, transfer: Path | None
) -> tuple[TrainingState, str]:
    """The newest state of the folder, which the main process reads for all, or a new one; and where it comes from."""
    newest = distributed.broadcast(read_newest(outdir, config) if distributed.is_main else None)
    source = None if newest or transfer is None else TransferSource(transfer)
    if source is not None:
        source.check(config)
    state = TrainingState(config, device)
    if newest is not None:
        path, values = newest
        state.restore(values)
        return state, f"goes on from {path.name} at {state.images / 1000:g} kimg"
    if source is not None:
        source.load(state)
        return state, f"starts from the networks of {transfer}"
    return state, "starts from new networks"


def _read_batches(
    dataset: ImageDataset, state: TrainingState, workers: int, distributed: Distributed
) -> collections.abc.Generator[Batch | InputError, None, None]:
    """Endless batches on the device; an InputError in place of one that cannot be read."""
    config = state.config
    loader = DataLoader(
        _Batches(dataset),
        batch_size=None,  # the sampler yields the indices and patches of a whole batch
        sampler=(batch[distributed.rank :: distributed.size] for batch in _choose_batches(dataset, state)),
        collate_fn=_as_it_is,
        num_workers=workers,
        # Not forked: this process has threads, of torch and CUDA, which a fork leaves in any state.
        multiprocessing_context=reader_context() if workers else None,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # reading must not consume the global random numbers
    )
    for batch in _survive_lost_workers(loader) if workers else loader:
        if isinstance(batch, InputError):
            yield batch
            continue
        images, labels = map(torch.from_numpy, batch[:2])
        real = to_device(images, state.device).float() / 127.5 - 1
        patches = [Patch(*numbers) for numbers in batch[2].tolist()]
        yield real, to_device(one_hot(labels, config.generator.classes), state.device), patches


def _choose_batches(dataset: ImageDataset, state: TrainingState) -> Iterator[list[tuple[int, Patch]]]:
    """Endless batches of indices and what is shown of their images, from the state's position in the data on."""
    config, first = state.config, state.images
    for indices in shuffled_batches(len(dataset), config.batch, config.seed, start=first):
        patches = choose_patches(config, [dataset.side(index) for index in indices], first)
        yield list(zip(indices, patches, strict=True))
        first += config.batch


def _survive_lost_workers(loader: Iterable[T]) -> Iterator[T | InputError]:
    """The loader's batches, and an InputError once a worker was killed."""
    # Blocked signals stay blocked in the server that forks the workers, which has no handlers and must not end.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # torch's handler would raise in the middle of a step. The loader finds out by itself when the batch is due.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield from batches
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        yield InputError("workers", f"a process that reads images was lost, perhaps for lack of memory: {reason}")


def _ignore_signals(_worker: int) -> None:
    """Signals to all processes of a terminal or job: the main process still needs its workers to finish a step."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: T) -> T:
    return batch


class _Batches(Dataset[list[NDArray[np.generic]] | InputError]):
    """Batches of a data set by indices and patches: images [N, 3, R, R], classes [N] and the patches [N, 3] again.

    Arrays come from workers through pipes; tensors would need shared memory, of which containers have little. An
    InputError is returned: raised in a worker, its type would be lost.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, parts: list[tuple[int, Patch]]) -> list[NDArray[np.generic]] | InputError:
        try:
            images, labels = zip(*(self._dataset.read(*part) for part in parts), strict=True)
        except InputError as error:
            return error
        return [np.stack(images), np.array(labels), np.array([patch for _, patch in parts])]


def _tell_first_step(state: TrainingState) -> Callable[[int, int], None]:
    """Tells how far the first step is, which can take minutes on a CPU; the others move the progress bar."""
    first, tell = state.steps, PartTeller("first step", "backward passes")
    return lambda done, total: tell(done, total) if state.steps == first else None


def _crossed(images: int, batch: int, interval_kimg: float) -> bool:
    """Whether the step of ``batch`` images that ended at ``images`` crossed a multiple of the interval."""
    return images // (interval_kimg * 1000) > (images - batch) // (interval_kimg * 1000)


@contextmanager
def _stop_on_signals(distributed: Distributed) -> Iterator[list[int]]:
    """Yields a list to which STOP_SIGNALS are appended, but for SIGHUP if nohup had it ignored.

    Schedulers and torchrun may each send them. Only a second Ctrl-C, without torchrun, has its usual effect.
    """
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    if previous[signal.SIGHUP] is signal.SIG_IGN:
        del previous[signal.SIGHUP]

    def note(number: int, _frame: object) -> None:
        received.append(number)
        if distributed.is_main and len(received) == 1:
            at_once = b"; Ctrl-C stops at once, without what came after the last snapshot"
            advice = at_once if number == signal.SIGINT and distributed.size == 1 else b""
            # prints may be under way
            os.write(2, b"\nstopping after this step, with everything saved" + advice + b"\n")
        if number == signal.SIGINT and distributed.size == 1:
            signal.signal(number, previous[signal.SIGINT])

    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
