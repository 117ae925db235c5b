"""The training loop, to be read from top to bottom."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from model.checkpoint import save_checkpoint
from model.errors import InputError
from model.generator import Generator
from model.training.config import TrainingConfig
from model.training.curves import draw_curves
from model.training.dataset import ImageDataset, ShuffledBatches
from model.training.grids import SampleSheets, one_hot, save_data_sheet
from model.training.processes import Processes
from model.training.record import check_same_data, write_record
from model.training.reporting import Reporter
from model.training.scalars import Scalars
from model.training.state import TrainingState, read_newest
from model.training.step import TrainingStep
from model.training.transfer import Source

Judge = Callable[[Generator], dict[str, float]]
"""Quality metrics of the averaged generator by name."""


def train(
    config: TrainingConfig,
    dataset: ImageDataset,
    outdir: Path,
    device: torch.device,
    workers: int = 0,
    *,
    processes: Processes | None = None,
    transfer: Path | None = None,
    judge: Judge | None = None,
) -> Path:
    """Trains until ``config.total_kimg``, going on from the state in ``outdir`` if there is one.

    Writes into ``outdir``: ``checkpoint-<pictures>.safetensors`` (the averaged generator, ready to be served),
    ``grid-<pictures>.png`` and ``grid4x-<pictures>.png``, ``state-<pictures>.pt``, ``metrics.jsonl``, TensorBoard's
    events, ``run.json``, and at the end ``curves.png``. SIGTERM and SIGINT end the run after the step in hand, with
    everything saved; so does a picture that cannot be read.

    Args:
        dataset: pictures of the generator's resolution.
        workers: processes that read pictures.
        processes: those that share the work; by default this one alone.
        transfer: checkpoint or training state to begin with.
        judge: metrics to compute at every snapshot, in the first process.

    Returns:
        The last checkpoint.

    Raises:
        InputError: data, recipe and folder do not fit together, or a loss is not a number.
        OSError: a file cannot be written; what was saved before is whole.
    """
    processes = processes or Processes()
    config.check_processes(processes.size)
    _check_classes(config, dataset)
    check_same_data(outdir, dataset)
    state = _begin(config, outdir, device, processes, transfer)
    run = _Run(outdir, dataset, state, processes, judge)
    if processes.first:
        write_record(outdir, config, dataset, device, processes.size, transfer)
        if state.images == 0:
            save_data_sheet(outdir, dataset)
            run.sheets.save(state.average, outdir, 0)
    with _stop_on_signals() as stop:
        error = run.go(_read_batches(dataset, state, workers, processes), stop)
    if error is not None:
        raise error
    return run.checkpoint_path


class _Run:
    """What a run has in hand between two steps."""

    def __init__(
        self, outdir: Path, dataset: ImageDataset, state: TrainingState, processes: Processes, judge: Judge | None
    ) -> None:
        self.sheets = SampleSheets(state.config.generator, dataset, state.device)
        self._outdir, self._state, self._processes, self._judge = outdir, state, processes, judge
        self._scalars = Scalars()
        self._reporter: Reporter | None = None

    @property
    def checkpoint_path(self) -> Path:
        return self._outdir / f"checkpoint-{self._state.images:09d}.safetensors"

    def go(self, batches: "Iterator[Batch | InputError]", stop: list[int]) -> InputError | None:
        """Steps until the end or a reason to stop; saves; returns the error of this process's data, if any."""
        state, config, processes = self._state, self._state.config, self._processes
        total = round(config.total_kimg * 1000)
        step = TrainingStep(state, processes)
        reporter = Reporter(self._outdir, state.images, total, state.device) if processes.first else None
        with reporter or nullcontext():
            self._reporter, error = reporter, None
            saved = state.images  # what a resumed run begins with has been saved before
            while state.images < total:
                batch = next(batches)
                error = batch if isinstance(batch, InputError) else None
                if processes.any(bool(stop) or error is not None):
                    break
                assert not isinstance(batch, InputError)  # noqa: S101 - told above
                self._scalars.add(state.steps, step(*batch))
                if reporter:
                    reporter.step(config.batch)
                snapshot = _passes(state.images, config.batch, config.snapshot_kimg)
                if snapshot or _passes(state.images, config.batch, config.log_kimg):
                    self._report(judged=snapshot)
                if snapshot:
                    self._save()
                    saved = state.images
            if saved != state.images or not self.checkpoint_path.exists():
                self._report(judged=state.images >= total)
                self._save()
            if reporter:
                draw_curves(self._outdir, self._outdir / "curves.png")
                done = "finished" if state.images >= total else "stopped"
                result = self.checkpoint_path if self.checkpoint_path.exists() else self._outdir
                reporter.message(f"{done} at {state.images / 1000:.1f} kimg: {result}")
        return error

    def _report(self, judged: bool) -> None:
        """Writes the means since the last report, with the metrics where a snapshot follows."""
        means = self._scalars.take_means(self._processes)
        if self._reporter is None:
            return
        if judged and self._judge is not None:
            means |= self._judge(self._state.average)
        if means:
            self._reporter.write(self._state.images, means)

    def _save(self) -> None:
        """A checkpoint, the sheets and, last, the state: whatever fails before it leaves the run where it was saved."""
        if not self._processes.first:
            return
        state = self._state
        self.sheets.save(state.average, self._outdir, state.images)
        info = {"images": state.images, "training": state.config.to_dict()}
        try:
            save_checkpoint(self.checkpoint_path, state.average, info)
        except ModuleNotFoundError:
            text = "no checkpoint: safetensors is not installed; where it is, the same command writes the last one"
            print(text, file=sys.stderr)
        state.save(self._outdir)


Batch = tuple[Tensor, Tensor | None]
"""Real pictures [N, 3, R, R] in −1 … 1 and one-hot classes [N, classes], this process's share."""


def _begin(
    config: TrainingConfig, outdir: Path, device: torch.device, processes: Processes, transfer: Path | None
) -> TrainingState:
    """The newest state of the folder, or a new one; the first process reads it for all."""
    values = processes.from_first(read_newest(outdir, config) if processes.first else None)
    source = None if values or transfer is None else Source(transfer)
    if source is not None:
        source.check(config)
    state = TrainingState(config, device)
    if values is not None:
        state.restore(values)
    elif source is not None:
        source.load(state)
    return state


def _check_classes(config: TrainingConfig, dataset: ImageDataset) -> None:
    classes = config.generator.classes
    if classes and not dataset.classes:
        raise InputError("data", "has no classes, so it cannot train a conditional network")
    if classes and dataset.classes > classes:
        raise InputError("classes", f"the data has {dataset.classes} classes, not {classes}")


def _read_batches(
    dataset: ImageDataset, state: TrainingState, workers: int, processes: Processes
) -> "Iterator[Batch | InputError]":
    """This process's share of every batch on the device, without end; in its place the error of a bad picture."""
    config = state.config
    batches = ShuffledBatches(len(dataset), config.batch, config.seed, start=state.images)
    loader = DataLoader(
        _Reading(dataset),
        batch_sampler=(batch[processes.rank :: processes.size] for batch in batches),
        collate_fn=_collate,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_run,
        pin_memory=state.device.type == "cuda",
        generator=torch.Generator(),  # of its own, so that reading takes nothing from the global one
    )
    for batch in loader:
        if isinstance(batch, InputError):
            yield batch
            continue
        images, labels = batch
        real = images.to(state.device, non_blocking=True).float() / 127.5 - 1
        yield real, one_hot(labels.to(state.device), config.generator.classes)


def _leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, and a run that ends its step still needs its readers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Reading(Dataset["tuple[Tensor, int] | InputError"]):
    """A data set that gives the error in place of a bad picture: raised in a worker, it would arrive as another."""

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> "tuple[Tensor, int] | InputError":
        try:
            return self._dataset[index]
        except InputError as error:
            return error


def _collate(samples: "list[tuple[Tensor, int] | InputError]") -> "list[Tensor] | InputError":
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    batch: list[Tensor] = default_collate(samples)
    return batch


def _passes(images: int, batch: int, every_kimg: float) -> bool:
    """Whether the step of ``batch`` pictures that ended at ``images`` passed a multiple of ``every_kimg``."""
    return images // (every_kimg * 1000) > (images - batch) // (every_kimg * 1000)


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """A list that is empty until SIGTERM or SIGINT comes. A second signal has its usual effect."""
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
