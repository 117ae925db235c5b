"""Feature extractors of torch-fidelity for the metrics. Nothing is ever downloaded."""

import hashlib
import importlib
import io
import pkgutil
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.errors import InputError
from model.util.text import error_text


@dataclass(frozen=True)
class Extractor:
    """A feature extractor of torch-fidelity.

    Attributes:
        name: its name in torch-fidelity.
        layer: the layer whose output [N, features] is compared.
        option: command-line option of its weights, for error messages.
        metrics: metrics that use it.
        address: module:attribute of torch-fidelity or torchvision that holds the URL of the weights.
    """

    name: str
    layer: str
    option: str
    metrics: tuple[str, ...]
    address: str

    @property
    def url(self) -> str:
        """URL of the weights."""
        return str(pkgutil.resolve_name(self.address))

    def load(self, path: Path | None, device: torch.device) -> nn.Module:
        """The network: uint8 [N, 3, H, W] → a tuple of one tensor [N, features]. Leaves torch's random state unchanged.

        Raises:
            InputError: torch-fidelity is not installed, or the file is missing or invalid.
        """
        fidelity = import_fidelity("utils")
        if path is None:
            without = f"without it there is no {', '.join(self.metrics)}"
            raise InputError(self.option, f"download {self.url} and pass the file with --{self.option}; {without}")
        copy = io.BytesIO()
        # torch-fidelity unpickles its input, which may run code. So it gets tensors that were read safely here, never
        # the file itself, which could change in between.
        torch.save(self._read(path), copy)
        copy.seek(0)
        with torch.random.fork_rng(devices=[]):
            try:
                network: nn.Module = fidelity.create_feature_extractor(
                    self.name, [self.layer], cuda=False, feature_extractor_weights_path=copy, verbose=False
                )
            except RuntimeError:  # of load_state_dict, a page long
                raise InputError(self.option, f"{path} does not hold the weights of {self.url}") from None
        return network.to(device)

    def _read(self, path: Path) -> dict[str, Tensor]:
        """The tensors of the file. Files that would run code are refused."""
        if not path.is_file():
            raise InputError(self.option, f"{path} is not a file; download {self.url}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file may raise an error of any type
            raise InputError(self.option, f"{path} cannot be read as weights alone: {error_text(error)}") from None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise InputError(self.option, f"{path} does not hold the tensors of {self.url}")
        if not all(tensor.isfinite().all() for tensor in state.values()):
            raise InputError(self.option, f"{path} holds values that are not finite")
        return dict(state)

    def digest(self, path: Path) -> str:
        """SHA-256 of the file, 64 hex digits. Prints a warning on stderr if it is not the published file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        published = re.search(r"-([0-9a-f]{8})\.pth$", self.url)  # the name ends in the first digits of the digest
        if published and not digest.startswith(published[1]):
            print(f"warning: {path} is not {self.url}: its SHA-256 begins with {digest[:8]}", file=sys.stderr)
        return digest


INCEPTION = Extractor(
    "inception-v3-compat",
    layer="2048",
    option="inception-weights",
    metrics=("fid", "kid"),
    address="torch_fidelity.feature_extractor_inceptionv3:URL_INCEPTION_V3",
)
"""The Inception network of 2015 that FID was defined with, not torchvision's."""

VGG16 = Extractor(
    "vgg16",
    layer="fc2_relu",
    option="vgg-weights",
    metrics=("pr",),
    address="torchvision.models:VGG16_Weights.IMAGENET1K_V1.url",
)
"""The network of precision and recall (Kynkäänniemi et al. 2019)."""


def import_fidelity(module: str) -> Any:
    """Import a module of torch_fidelity.

    Raises:
        InputError: it is not installed, or its torchvision is missing or built for another torch.
    """
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError as error:
        raise InputError("metrics", f"{error}; pip install 'creps-serve[evaluate]' installs what is missing") from None
    except RuntimeError as error:  # torchvision works only with the build of torch it was compiled for
        raise InputError(
            "metrics",
            f"torchvision does not work with torch {torch.__version__} ({error}); install the torchvision of the same "
            "build: pip install --force-reinstall --no-deps torchvision --index-url URL, the index of that torch",
        ) from None
