"""One training step: the generator, the discriminator, the penalties that are due, and the running means.

Random numbers are drawn for the whole batch, in the same order in every process. A process works on its share of the
batch in microbatches, whose gradients add up, so neither their number nor that of the processes changes the result.
Shapes are those of one microbatch of N images at resolution R.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.pyramid import Patch
from model.training.augment.ada import BLITTING_NUMBERS, ada, adjust_probability, move_centers
from model.training.augment.ada import NUMBERS as ADA_NUMBERS
from model.training.augment.diffaugment import NUMBERS as DIFFAUGMENT_NUMBERS
from model.training.augment.diffaugment import diffaugment
from model.training.device import to_device
from model.training.distributed import Distributed
from model.training.losses import path_length, r3gan, stylegan2
from model.training.losses.gradient_penalty import gradient_penalty
from model.training.patches import draw_patches, place_of
from model.training.state import TrainingState
from model.training.synthesis import TrainingSynthesis

W_AVG_DECAY = 0.998
"""Decay per step of the running mean of w (original ``w_avg_beta``)."""

ADA_INTERVAL = 4
"""Steps between two adjustments of ADA's probability (Karras et al. 2020, arXiv:2006.06676, section 3)."""

MAX_GRADIENT = 1e5
"""Replaces infinite gradients, so that one overflow in fp16 does not destroy the weights (as in the original)."""

AUGMENTATION_NUMBERS = {"none": 0, "diffaugment": DIFFAUGMENT_NUMBERS, "ada": ADA_NUMBERS}
"""Uniform random numbers that each augmentation takes for one image."""

Scalars = dict[str, Tensor]
"""Scalar tensors by name, for the log."""


@dataclass(frozen=True)
class Condition:
    """What the real and the generated image of each row of a batch have in common.

    Attributes:
        label: one-hot classes [N, classes]; no columns for an unconditional network.
        patches: the part of the image that is shown.
        place: the same as the discriminator is told, [N, 3].
    """

    label: Tensor
    patches: Sequence[Patch]
    place: Tensor

    def __getitem__(self, rows: slice) -> "Condition":
        return Condition(self.label[rows], self.patches[rows], self.place[rows])


class TrainingStep:
    """Takes one training step per call and updates the state.

    Args:
        on_pass: is told after each backward pass how many are done, and how many the step has.
    """

    def __init__(
        self, state: TrainingState, distributed: Distributed, on_pass: Callable[[int, int], None] | None = None
    ) -> None:
        config = state.config
        self._on_pass, self._passes = on_pass, 0
        self._state, self._config, self._distributed = state, config, distributed
        share = config.batch // distributed.size
        self._microbatches = _strided_slices(share // (config.microbatch or share))
        synthesis = state.generator.synthesis
        self._synthesize = TrainingSynthesis(synthesis, config.precision, config.chunk_pixels, config.compile)
        self._synthesize_fp32 = TrainingSynthesis(synthesis, "fp32", config.chunk_pixels)
        self._discriminator = torch.compile(state.discriminator) if config.compile else state.discriminator

    def __call__(self, real: Tensor, label: Tensor, patches: Sequence[Patch] = ()) -> Scalars:
        """Takes one step.

        Args:
            real: this process's share of the images, [batch / processes, 3, R, R] in −1 … 1.
            label: their one-hot classes, [batch / processes, classes]; no columns for an unconditional network.
            patches: what they show of their images, if the run has patches.

        Returns:
            Scalars of this process for the log.
        """
        state, config = self._state, self._config
        side = config.generator.resolution
        patches = patches or [Patch(side, 0, 0)] * len(real)
        condition = Condition(label, patches, to_device(torch.from_numpy(place_of(patches, side)), state.device))
        self._passes = 0
        scalars = self._train_generator(real, condition)
        if self._path_length_due():
            scalars |= self._regularize_path_length(label)
        scalars |= self._train_discriminator(real, condition)
        state.images += config.batch
        state.steps += 1
        self._update_ema()
        if config.augmentation == "ada":
            scalars |= self._adjust_augmentation(scalars["sign_real"])
        return scalars

    def _train_generator(self, real: Tensor, condition: Condition) -> Scalars:
        state, relativistic = self._state, self._config.loss == "r3gan"
        state.discriminator.requires_grad_(False)
        fake_numbers = self._draw_augmentation()
        real_numbers = self._draw_augmentation() if relativistic else fake_numbers
        z = self._draw_z()
        means_of_w, losses = [], []
        for mb in self._microbatches:
            w = state.generator.mapping(z[mb], condition.label[mb])  # [N, w_dim]
            means_of_w.append(w.detach().mean(dim=0))
            fake = self._draw(w, condition[mb])  # [N, 3, R, R]
            fake_logits = self._run_discriminator(fake, condition[mb], fake_numbers[mb])  # [N]
            if relativistic:
                real_logits = self._run_discriminator(real[mb], condition[mb], real_numbers[mb])  # [N]
                loss = r3gan.generator_loss(real_logits, fake_logits)
            else:
                loss = stylegan2.generator_loss(fake_logits)
            losses.append(self._backward(loss))
        self._optimizer_step(state.generator_optimizer)
        for parameter in state.trainable_discriminator_parameters():
            parameter.requires_grad_(True)
        batch_mean = self._distributed.all_reduce_mean(_mean(means_of_w))  # [w_dim]
        state.generator.mapping.w_avg.lerp_(batch_mean, 1 - W_AVG_DECAY)
        return {"loss_generator": _mean(losses)}

    def _regularize_path_length(self, label: Tensor) -> Scalars:
        """Path length penalty on a part of the batch; losses/path_length.py explains how its gradient is computed.

        Its images are whole, with one sample a pixel.
        """
        state, config, distributed = self._state, self._config, self._distributed
        count = self._path_length_count()
        side = config.generator.resolution
        microbatches = _strided_slices(min(len(self._microbatches), count))
        z = distributed.shard(self._randn(count * distributed.size, config.generator.z_dim))
        noise = distributed.shard(self._randn(count * distributed.size, 3, side, side))
        label = label[:count]

        gradients = []
        for mb in microbatches:
            with torch.no_grad():
                ws = self._to_ws(state.generator.mapping(z[mb], label[mb]))  # [N, num_ws, w_dim]
            gradients.append(path_length.path_gradient(self._synthesize_fp32, ws, noise[mb]))  # [N, num_ws, w_dim]
        batch_mean = distributed.all_reduce_mean(path_length.path_lengths(torch.cat(gradients)).mean())
        state.path_length_mean = state.path_length_mean.lerp(batch_mean, path_length.DECAY)

        penalties = []
        for mb, gradient in zip(microbatches, gradients, strict=True):
            penalty, direction = path_length.path_penalty(gradient, state.path_length_mean, count)
            penalties.append(penalty)
            ws = self._to_ws(state.generator.mapping(z[mb], label[mb]))
            surrogate = path_length.path_surrogate(self._synthesize_fp32, ws, noise[mb], direction)
            # Lazy regularization (StyleGAN2, appendix B): times the interval for the steps without the penalty.
            torch.autograd.backward(surrogate * (config.path_length_weight * config.path_length_interval))
            self._tell_pass()
        self._optimizer_step(state.generator_optimizer)
        return {"path_length": batch_mean, "path_length_penalty": torch.stack(penalties).sum()}

    def _train_discriminator(self, real: Tensor, condition: Condition) -> Scalars:
        state, config = self._state, self._config
        adversarial = r3gan if config.loss == "r3gan" else stylegan2
        fake_numbers, real_numbers = self._draw_augmentation(), self._draw_augmentation()
        z = self._draw_z()
        fakes, losses, real_signs, fake_signs, patch_signs = [], [], [], [], []
        patches = (condition.place[:, 0] > 0).float() * (
            config.batch / max(1, config.batch - config.whole_images)
        )  # [N]
        for mb in self._microbatches:
            with torch.no_grad():
                fake = self._draw(state.generator.mapping(z[mb], condition.label[mb]), condition[mb])  # [N, 3, R, R]
            fakes.append(fake)
            # Two passes, because the minibatch standard deviation must not mix real and generated images.
            fake_logits = self._run_discriminator(fake, condition[mb], fake_numbers[mb])  # [N]
            real_logits = self._run_discriminator(real[mb], condition[mb], real_numbers[mb])  # [N]
            losses.append(self._backward(adversarial.discriminator_loss(real_logits, fake_logits)))
            real_signs.append(real_logits.detach().sign().mean())
            fake_signs.append(fake_logits.detach().sign().mean())
            patch_signs.append((real_logits.detach().sign() * patches[mb]).mean())
        penalties_due = self._gradient_penalties_due()
        if not penalties_due or config.r1_interval > 1:  # at an interval of 1 the penalties share the loss's step
            self._optimizer_step(state.discriminator_optimizer)
        penalties = {}
        if penalties_due:
            penalties["r1_penalty"] = self._penalize_gradients([real[mb] for mb in self._microbatches], condition)
            if config.loss == "r3gan":
                penalties["r2_penalty"] = self._penalize_gradients(fakes, condition)
            self._optimizer_step(state.discriminator_optimizer)
        signs = {"sign_real": _mean(real_signs), "sign_fake": _mean(fake_signs)}
        if config.patches:
            signs["sign_real_patches"] = _mean(patch_signs)
        return {"loss_discriminator": _mean(losses), **signs, **penalties}

    def _penalize_gradients(self, images: Iterable[Tensor], condition: Condition) -> Tensor:
        """Backward pass of γ · the gradient penalty in fp32, for microbatches [N, 3, R, R] before augmentation."""
        config, penalties = self._config, []
        numbers = self._draw_augmentation()
        for mb, x in zip(self._microbatches, images, strict=True):
            x = x.detach().requires_grad_(True)
            part = condition[mb]
            place = self._augment_place(part.place, numbers[mb])
            logits = self._state.discriminator(self._augment(x, numbers[mb]), part.label, place)  # [N]
            penalty = gradient_penalty(x, logits)
            self._backward(penalty * (config.gamma * config.r1_interval))
            penalties.append(penalty.detach())
        return _mean(penalties)

    @torch.no_grad()
    def _update_ema(self) -> None:
        state, config = self._state, self._config
        half_life = config.ema_kimg * 1000
        if config.ema_rampup:
            half_life = min(half_life, config.ema_rampup * state.images)
        decay = 0.5 ** (config.batch / max(half_life, 1e-8))
        for ema, parameter in zip(state.generator_ema.parameters(), state.generator.parameters(), strict=True):
            ema.lerp_(parameter, 1 - decay)
        for copy, buffer in zip(state.generator_ema.buffers(), state.generator.buffers(), strict=True):
            copy.copy_(buffer)

    def _adjust_augmentation(self, sign_real: Tensor) -> Scalars:
        state, config = self._state, self._config
        state.sign_sum = state.sign_sum + self._distributed.all_reduce_mean(sign_real)
        if state.steps % ADA_INTERVAL == 0:
            mean_sign = state.sign_sum / ADA_INTERVAL  # r_t of ADA, equation 1
            images = config.batch * ADA_INTERVAL
            if not config.ada_p:
                state.augment_p = adjust_probability(
                    state.augment_p, mean_sign, config.ada_target, images, config.ada_kimg
                )
            state.sign_sum = torch.zeros_like(state.sign_sum)
        return {"augment_p": state.augment_p}

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._state.random, device=self._state.device)

    def _draw_z(self) -> Tensor:
        """Normal latents of this process's share, [batch / processes, z_dim]."""
        return self._distributed.shard(self._randn(self._config.batch, self._config.generator.z_dim))

    def _draw_augmentation(self) -> Tensor:
        """Uniform numbers for one augmentation of this process's share, [batch / processes, numbers]."""
        shape = (self._config.batch, AUGMENTATION_NUMBERS[self._config.augmentation])
        return self._distributed.shard(torch.rand(shape, generator=self._state.random, device=self._state.device))

    def _to_ws(self, w: Tensor) -> Tensor:
        """Repeats w [N, w_dim] for every layer: [N, num_ws, w_dim]."""
        return self._state.generator.mapping.truncate(w, self._config.generator.num_ws)

    def _draw(self, w: Tensor, condition: Condition) -> Tensor:
        """w [N, w_dim] → the part of each image that the condition says, [N, 3, R, R]."""
        ws = self._to_ws(w)
        if not self._config.patches:
            return self._synthesize(ws)
        return draw_patches(self._synthesize, ws, condition.patches, self._config)

    def _augment(self, images: Tensor, numbers: Tensor) -> Tensor:
        """[N, 3, R, R] → [N, 3, R, R]."""
        if self._config.augmentation == "ada":
            return ada(images, numbers, self._state.augment_p, self._config.ada_kinds)
        return diffaugment(images, numbers) if self._config.augmentation == "diffaugment" else images

    def _augment_place(self, place: Tensor, numbers: Tensor) -> Tensor:
        """[N, 3] → [N, 3]: flips and quarter turns of the image also move the centre of what it shows."""
        if self._config.augmentation != "ada" or "b" not in self._config.ada_kinds:
            return place
        centers = move_centers(place[:, 1:], numbers[:, :BLITTING_NUMBERS], self._state.augment_p)  # [N, 2]
        return torch.cat([place[:, :1], centers], dim=1)

    def _run_discriminator(self, images: Tensor, condition: Condition, numbers: Tensor) -> Tensor:
        """Logits [N] of augmented images [N, 3, R, R] in the configured precision."""
        images, precision = self._augment(images, numbers), self._config.precision
        place = self._augment_place(condition.place, numbers)
        with torch.autocast(self._state.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits: Tensor = self._discriminator(images, condition.label, place, half=precision == "fp16")
        return logits

    def _backward(self, loss: Tensor) -> Tensor:
        """Backpropagates a microbatch's mean loss as its part of the share's mean; returns the loss, detached."""
        torch.autograd.backward(loss / len(self._microbatches))
        self._tell_pass()
        return loss.detach()

    def _path_length_due(self) -> bool:
        return bool(self._config.path_length_weight) and self._state.steps % self._config.path_length_interval == 0

    def _gradient_penalties_due(self) -> bool:
        return bool(self._config.gamma) and self._state.steps % self._config.r1_interval == 0

    def _tell_pass(self) -> None:
        self._passes += 1
        if self._on_pass is None:
            return
        config, microbatches = self._config, len(self._microbatches)
        total = 2 * microbatches
        if self._path_length_due():
            total += min(microbatches, self._path_length_count())
        if self._gradient_penalties_due():
            total += (2 if config.loss == "r3gan" else 1) * microbatches
        self._on_pass(self._passes, total)

    def _path_length_count(self) -> int:
        """Images of this process's share that have the path length penalty."""
        return max(1, self._config.batch // self._distributed.size // path_length.BATCH_SHRINK)

    def _optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Averages gradients over the processes, replaces NaN and infinity, updates parameters, clears gradients."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._distributed.all_reduce_gradients(parameters)
        for parameter in parameters:
            if (grad := parameter.grad) is not None:
                torch.nan_to_num(grad, nan=0.0, posinf=MAX_GRADIENT, neginf=-MAX_GRADIENT, out=grad)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _strided_slices(count: int) -> list[slice]:
    """Slices of a process's share, one for each microbatch: i, i + count, … as the minibatch std groups images."""
    return [slice(i, None, count) for i in range(count)]


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)
