"""One step of training: each network once against the other, the penalties that are due, and the running means.

Random numbers are drawn for the whole batch, of which every process takes its share and works on it in parts
(microbatches), so what a step does depends on neither. Shapes are those of one part of a process's share, N pictures.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import overload

import torch
from torch import Tensor

from model.training.ada import NUMBERS as ADA_NUMBERS
from model.training.ada import ada, adjust_probability
from model.training.diffaugment import NUMBERS as DIFFAUGMENT_NUMBERS
from model.training.diffaugment import diffaugment
from model.training.losses import path_length, r3gan, stylegan2
from model.training.losses.gradient_penalty import gradient_penalty
from model.training.processes import Processes
from model.training.state import TrainingState
from model.training.synthesis import TrainingSynthesis

W_AVERAGE_DECAY = 0.998
"""Decay of the mean style for each batch (StyleGAN2)."""

ADA_INTERVAL = 4
"""Steps between adjustments of ADA's probability (Karras et al. 2020, arXiv:2006.06676, section 3)."""

GRADIENT_BOUND = 1e5
"""What an infinite gradient becomes, so that one overflow in fp16 does not poison the weights (as in the original)."""

Scalars = dict[str, Tensor]
"""Values without axes by name, for the report."""


class TrainingStep:
    """Calling it takes a step and moves the state on.

    Args:
        state: networks, optimisers and running means, which every call changes.
        processes: those that share the batch.
    """

    def __init__(self, state: TrainingState, processes: Processes) -> None:
        config = state.config
        self._state, self._config, self._processes = state, config, processes
        share = config.batch // processes.size
        self._parts = share // (config.microbatch or share)
        synthesis = state.generator.synthesis
        self._synthesize = TrainingSynthesis(synthesis, config.precision, config.chunk_pixels, config.compile)
        self._synthesize_exactly = TrainingSynthesis(synthesis, "fp32", config.chunk_pixels)
        self._discriminate = torch.compile(state.discriminator) if config.compile else state.discriminator

    def __call__(self, real: Tensor, label: Tensor | None) -> Scalars:
        """Takes one step.

        Args:
            real: this process's share of the pictures, [batch / processes, 3, R, R] in −1 … 1.
            label: their one-hot classes [batch / processes, classes], or None.

        Returns:
            Scalars of this process for the report.
        """
        state, config = self._state, self._config
        scalars = self._train_generator(real, label)
        if config.path_length_weight and state.steps % config.path_length_interval == 0:
            scalars |= self._penalize_path_length(label)
        scalars |= self._train_discriminator(real, label)
        state.images += config.batch
        state.steps += 1
        self._update_average()
        if config.augmentation == "ada":
            scalars |= self._adjust_augmentation(scalars["sign_real"])
        return scalars

    def _train_generator(self, real: Tensor, label: Tensor | None) -> Scalars:
        state, relative = self._state, self._config.loss == "r3gan"
        self._let_learn(state.discriminator, ())
        mean_w, losses = [], []
        fake_numbers, real_numbers = self._draw_numbers(), self._draw_numbers() if relative else None
        for part, z in enumerate(self._draw_z()):
            classes = self._part(label, part)
            w = state.generator.mapping(z, classes)
            mean_w.append(w.detach().mean(dim=0))
            fake = self._augment(self._synthesize(self._spread(w)), self._part(fake_numbers, part))
            fake_logits = self._judge(fake, classes)
            if relative:
                shown = self._augment(self._part(real, part), self._part(real_numbers, part))
                loss = r3gan.generator_loss(self._judge(shown, classes), fake_logits)
            else:
                loss = stylegan2.generator_loss(fake_logits)
            losses.append(self._backward(loss))
        self._descend(state.generator_optimizer)
        self._let_learn(state.discriminator, state.learning_discriminator())
        batch_mean = self._processes.average(_mean(mean_w))
        state.generator.mapping.w_avg.lerp_(batch_mean, 1 - W_AVERAGE_DECAY)
        return {"loss_generator": _mean(losses)}

    def _penalize_path_length(self, label: Tensor | None) -> Scalars:
        """The penalty of the first pictures of every process's share; see losses/path_length.py for its gradient."""
        state, config, processes = self._state, self._config, self._processes
        count = max(1, config.batch // processes.size // path_length.BATCH_SHRINK)
        side = config.generator.resolution
        parts = min(self._parts, count)
        z = processes.share(self._normal(count * processes.size, config.generator.z_dim))
        noise = processes.share(self._normal(count * processes.size, 3, side, side))
        label = None if label is None else label[:count]

        def spread(part: int) -> Tensor:
            return self._spread(state.generator.mapping(z[part::parts], None if label is None else label[part::parts]))

        with torch.no_grad():
            ws = [spread(part) for part in range(parts)]
        gradients = [
            path_length.path_gradient(self._synthesize_exactly, w, noise[part::parts]) for part, w in enumerate(ws)
        ]
        batch_mean = processes.average(path_length.path_lengths(torch.cat(gradients)).mean())
        state.path_length_mean = state.path_length_mean.lerp(batch_mean, path_length.DECAY)
        penalties = []
        for part, gradient in enumerate(gradients):
            penalty, direction = path_length.path_penalty(gradient, state.path_length_mean, count)
            penalties.append(penalty)
            surrogate = path_length.path_surrogate(
                self._synthesize_exactly, spread(part), noise[part::parts], direction
            )
            # Times the interval: a rare step counts for all those that it stands for.
            torch.autograd.backward(surrogate * (config.path_length_weight * config.path_length_interval))
        self._descend(state.generator_optimizer)
        return {"path_length": batch_mean, "path_length_penalty": torch.stack(penalties).sum()}

    def _train_discriminator(self, real: Tensor, label: Tensor | None) -> Scalars:
        state, config = self._state, self._config
        adversarial = r3gan if config.loss == "r3gan" else stylegan2
        fakes, losses, real_signs, fake_signs = [], [], [], []
        fake_numbers, real_numbers = self._draw_numbers(), self._draw_numbers()
        for part, z in enumerate(self._draw_z()):
            classes = self._part(label, part)
            with torch.no_grad():
                fake = self._synthesize(self._spread(state.generator.mapping(z, classes)))
            fakes.append(fake)
            # Apart, because the minibatch deviation must not compare real pictures with drawn ones.
            fake_logits = self._judge(self._augment(fake, self._part(fake_numbers, part)), classes)
            shown = self._augment(self._part(real, part), self._part(real_numbers, part))
            real_logits = self._judge(shown, classes)
            losses.append(self._backward(adversarial.discriminator_loss(real_logits, fake_logits)))
            real_signs.append(real_logits.detach().sign().mean())
            fake_signs.append(fake_logits.detach().sign().mean())
        due = bool(config.gamma) and state.steps % config.r1_interval == 0
        if not due or config.r1_interval > 1:  # else the penalties share the step
            self._descend(state.discriminator_optimizer)
        penalties = {}
        if due:
            penalties["r1_penalty"] = self._penalize((self._part(real, part) for part in range(self._parts)), label)
            if config.loss == "r3gan":
                penalties["r2_penalty"] = self._penalize(fakes, label)
            self._descend(state.discriminator_optimizer)
        signs = {"sign_real": _mean(real_signs), "sign_fake": _mean(fake_signs)}
        return {"loss_discriminator": _mean(losses), **signs, **penalties}

    def _penalize(self, parts: Iterable[Tensor], label: Tensor | None) -> Tensor:
        """Adds the gradient of the penalty on pictures, in fp32, with respect to them before they are augmented."""
        config, penalties = self._config, []
        numbers = self._draw_numbers()
        for part, images in enumerate(parts):
            images = images.detach().requires_grad_(True)
            logits = self._state.discriminator(
                self._augment(images, self._part(numbers, part)), self._part(label, part)
            )
            penalty = gradient_penalty(images, logits)
            self._backward(penalty * (config.gamma * config.r1_interval))
            penalties.append(penalty.detach())
        return _mean(penalties)

    @torch.no_grad()
    def _update_average(self) -> None:
        state, config = self._state, self._config
        half_life = config.ema_kimg * 1000
        if config.ema_rampup:
            half_life = min(half_life, config.ema_rampup * state.images)
        decay = 0.5 ** (config.batch / max(half_life, 1e-8))
        for average, parameter in zip(state.average.parameters(), state.generator.parameters(), strict=True):
            average.lerp_(parameter, 1 - decay)
        for copied, buffer in zip(state.average.buffers(), state.generator.buffers(), strict=True):
            copied.copy_(buffer)

    def _adjust_augmentation(self, sign_real: Tensor) -> Scalars:
        state, config = self._state, self._config
        state.sign_sum = state.sign_sum + self._processes.average(sign_real)
        if state.steps % ADA_INTERVAL == 0:
            mean_sign = state.sign_sum / ADA_INTERVAL
            images = config.batch * ADA_INTERVAL
            state.augment_p = adjust_probability(state.augment_p, mean_sign, config.ada_target, images, config.ada_kimg)
            state.sign_sum = torch.zeros_like(state.sign_sum)
        return {"augment_p": state.augment_p}

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._state.random, device=self._state.device)

    def _draw_z(self) -> Iterator[Tensor]:
        """Normal latents [N, z_dim] of each part."""
        z = self._processes.share(self._normal(self._config.batch, self._config.generator.z_dim))
        return (z[part :: self._parts] for part in range(self._parts))

    def _draw_numbers(self) -> Tensor | None:
        """Random numbers for one augmentation of this process's share."""
        counts = {"none": 0, "diffaugment": DIFFAUGMENT_NUMBERS, "ada": ADA_NUMBERS}
        count = counts[self._config.augmentation]
        if not count:
            return None
        shape = (self._config.batch, count)
        return self._processes.share(torch.rand(shape, generator=self._state.random, device=self._state.device))

    @overload
    def _part(self, share: Tensor, part: int) -> Tensor: ...

    @overload
    def _part(self, share: Tensor | None, part: int) -> Tensor | None: ...

    def _part(self, share: Tensor | None, part: int) -> Tensor | None:
        """One part of this process's share. Its pictures lie as far apart as the minibatch deviation groups them."""
        return None if share is None else share[part :: self._parts]

    def _spread(self, w: Tensor) -> Tensor:
        """w [N, w_dim] for every layer, [N, num_ws, w_dim]."""
        return self._state.generator.mapping.truncate(w, self._config.generator.num_ws)

    def _augment(self, images: Tensor, numbers: Tensor | None) -> Tensor:
        if numbers is None:
            return images
        if self._config.augmentation == "ada":
            return ada(images, numbers, self._state.augment_p)
        return diffaugment(images, numbers)

    def _judge(self, images: Tensor, label: Tensor | None) -> Tensor:
        """The discriminator's logits [N] in the recipe's precision."""
        with self._autocast():
            logits: Tensor = self._discriminate(images, label, half=self._config.precision == "fp16")
        return logits

    def _autocast(self) -> AbstractContextManager[None]:
        enabled = self._config.precision == "bf16"
        return torch.autocast(self._state.device.type, torch.bfloat16, enabled=enabled)

    def _backward(self, loss: Tensor) -> Tensor:
        """Adds the gradient of one part's mean loss to that of the share; returns the loss without its graph."""
        torch.autograd.backward(loss / self._parts)
        return loss.detach()

    def _descend(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of an optimiser along the gradient of the whole batch's loss, which is forgotten."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._processes.average_gradients(parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                torch.nan_to_num(
                    parameter.grad, nan=0.0, posinf=GRADIENT_BOUND, neginf=-GRADIENT_BOUND, out=parameter.grad
                )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _let_learn(network: torch.nn.Module, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Gradients reach these parameters of a network and no other."""
        network.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)
