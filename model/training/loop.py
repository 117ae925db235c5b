"""The training loop, to be read from top to bottom."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from model.checkpoint import save_checkpoint
from model.generator import Generator
from model.training.augment import diffaugment
from model.training.config import TrainingConfig
from model.training.dataset import ImageDataset, ShuffledBatches
from model.training.losses import discriminator_loss, generator_loss, r1_penalty
from model.training.reporting import Reporter, draw_samples, save_grid, to_uint8
from model.training.state import TrainingState

W_AVERAGE_DECAY = 0.998
"""Decay of the mean style for each batch (StyleGAN2)."""

GRID = (8, 6)
"""Columns and rows of the sample grids."""

GRID_SEED = 0


def train(config: TrainingConfig, data: Path, outdir: Path, device: torch.device, workers: int) -> Path:
    """Trains until ``config.total_kimg``, going on from the state in ``outdir`` if there is one.

    Writes into ``outdir``: ``checkpoint-<pictures>.safetensors`` (the averaged generator, ready to be served),
    ``grid-<pictures>.png``, ``state-<pictures>.pt``, ``metrics.jsonl`` and TensorBoard's events. SIGTERM and SIGINT
    end the run after the step in hand, with everything saved.

    Returns:
        The last checkpoint.

    Raises:
        InputError: data, recipe and folder do not fit together.
    """
    dataset = ImageDataset(data, config.generator.resolution, config.mirror)
    state = TrainingState.resume(outdir, config, device) or TrainingState(config, device)
    outdir.mkdir(parents=True, exist_ok=True)
    total = round(config.total_kimg * 1000)
    batches = _batches(dataset, state, workers)
    grid_z, grid_label = _grid_latents(config, dataset, device)
    with Reporter(outdir, state.images, total) as reporter, _stop_on_signals() as stop:
        if state.images == 0:
            _save_data_grid(outdir, dataset)
        while state.images < total and not stop:
            real, label = next(batches)
            train_step(state, real, label, reporter)
            reporter.step(config.batch)
            if _passes(state.images, config.batch, config.log_kimg):
                reporter.write(state.images)
            if _passes(state.images, config.batch, config.snapshot_kimg):
                _save_snapshot(outdir, state, grid_z, grid_label)
        path = _checkpoint_path(outdir, state)
        if not path.exists():
            _save_snapshot(outdir, state, grid_z, grid_label)
        reporter.message(f"{'stopped' if stop else 'finished'} at {state.images / 1000:.1f} kimg: {path}")
    return path


def train_step(state: TrainingState, real: Tensor, label: Tensor | None, reporter: Reporter) -> None:
    """One step of the generator, one of the discriminator (lazily with R1), and the averages.

    Args:
        real: pictures [N, 3, R, R] in −1 … 1.
        label: one-hot classes [N, classes], or None.
    """
    config = state.config
    _generator_step(state, label, reporter)
    _discriminator_step(state, real, label, reporter)
    if state.steps % config.r1_interval == 0 and config.gamma:
        _regularization_step(state, real, label, reporter)
    state.images += config.batch
    state.steps += 1
    _update_average(state)


def _generator_step(state: TrainingState, label: Tensor | None, reporter: Reporter) -> None:
    generator = state.generator
    state.discriminator.requires_grad_(False)
    w = generator.mapping(_draw_z(state), label)
    generator.mapping.w_avg.lerp_(w.detach().mean(dim=0), 1 - W_AVERAGE_DECAY)
    with _precision(state):
        fake = _synthesize(generator, w)
        loss = generator_loss(state.discriminator(_augment(state, fake), label))
    _optimize(state.generator_optimizer, loss)
    state.discriminator.requires_grad_(True)
    reporter.add(loss_generator=loss.detach())


def _discriminator_step(state: TrainingState, real: Tensor, label: Tensor | None, reporter: Reporter) -> None:
    with torch.no_grad():
        w = state.generator.mapping(_draw_z(state), label)
        with _precision(state):
            fake = _synthesize(state.generator, w)
    with _precision(state):
        # Apart, because the minibatch deviation must not compare real pictures with drawn ones.
        fake_logits = state.discriminator(_augment(state, fake), label)
        real_logits = state.discriminator(_augment(state, real), label)
        loss = discriminator_loss(real_logits, fake_logits)
    _optimize(state.discriminator_optimizer, loss)
    reporter.add(
        loss_discriminator=loss.detach(),
        sign_real=real_logits.detach().sign().mean(),
        sign_fake=fake_logits.detach().sign().mean(),
    )


def _regularization_step(state: TrainingState, real: Tensor, label: Tensor | None, reporter: Reporter) -> None:
    config = state.config
    images = _augment(state, real).detach().requires_grad_(True)
    penalty = r1_penalty(images, state.discriminator(images, label))
    # Times the interval: a rare step counts for all those that it stands for.
    _optimize(state.discriminator_optimizer, penalty * (config.gamma * config.r1_interval))
    reporter.add(r1_penalty=penalty.detach())


@torch.no_grad()
def _update_average(state: TrainingState) -> None:
    config = state.config
    half_life = min(config.ema_kimg * 1000, config.ema_rampup * state.images)
    decay = 0.5 ** (config.batch / max(half_life, 1e-8))
    for average, parameter in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        average.lerp_(parameter, 1 - decay)
    for copied, buffer in zip(state.average.buffers(), state.generator.buffers(), strict=True):
        copied.copy_(buffer)


def _synthesize(generator: Generator, w: Tensor) -> Tensor:
    ws = generator.mapping.truncate(w, generator.config.num_ws)
    positions = torch.linspace(0.0, 1.0, generator.config.resolution, dtype=torch.float64, device=w.device)
    images: Tensor = generator.synthesis(ws, positions, positions)
    return images.float()


def _draw_z(state: TrainingState) -> Tensor:
    return torch.randn(state.config.batch, state.config.generator.z_dim, device=state.device)


def _augment(state: TrainingState, images: Tensor) -> Tensor:
    return diffaugment(images) if state.config.augmentation == "diffaugment" else images


def _optimize(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                # One overflow must not poison the weights for ever (as the original does).
                torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)
    optimizer.step()


def _precision(state: TrainingState) -> AbstractContextManager[None]:
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.config.precision == "bf16")


def _batches(dataset: ImageDataset, state: TrainingState, workers: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Real pictures [N, 3, R, R] in −1 … 1 on the device, with their one-hot classes, without end."""
    config = state.config
    sampler = ShuffledBatches(len(dataset), config.batch, config.seed, start=state.images)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=state.device.type == "cuda",
        generator=torch.Generator(),  # else it would draw from the random numbers that resuming restores
    )
    for images, labels in loader:
        real = images.to(state.device, non_blocking=True).float() / 127.5 - 1
        yield real, _one_hot(labels.to(state.device), config.generator.classes)


def _one_hot(labels: Tensor, classes: int) -> Tensor | None:
    return F.one_hot(labels, classes).float() if classes else None


def _passes(images: int, batch: int, every_kimg: float) -> bool:
    """Whether the step of ``batch`` pictures that ended at ``images`` passed a multiple of ``every_kimg``."""
    return images // (every_kimg * 1000) > (images - batch) // (every_kimg * 1000)


def _grid_latents(config: TrainingConfig, dataset: ImageDataset, device: torch.device) -> tuple[Tensor, Tensor | None]:
    count = GRID[0] * GRID[1]
    z = torch.randn(count, config.generator.z_dim, generator=torch.Generator().manual_seed(GRID_SEED)).to(device)
    labels = torch.tensor([dataset.labels[i % len(dataset.labels)] for i in range(count)], device=device)
    return z, _one_hot(labels, config.generator.classes)


def _save_data_grid(outdir: Path, dataset: ImageDataset) -> None:
    order = torch.randperm(len(dataset.names), generator=torch.Generator().manual_seed(GRID_SEED)).tolist()
    pictures = torch.stack([dataset[i][0] for i in order[: GRID[0] * GRID[1]]])
    save_grid(outdir / "data.png", to_uint8(pictures.float() / 127.5 - 1), GRID[0])


def _checkpoint_path(outdir: Path, state: TrainingState) -> Path:
    return outdir / f"checkpoint-{state.images:09d}.safetensors"


def _save_snapshot(outdir: Path, state: TrainingState, z: Tensor, label: Tensor | None) -> None:
    save_grid(outdir / f"grid-{state.images:09d}.png", draw_samples(state.average, z, label), GRID[0])
    info = {"images": state.images, "training": state.config.to_dict()}
    save_checkpoint(_checkpoint_path(outdir, state), state.average, info)
    state.save(outdir)


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
