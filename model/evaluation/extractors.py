"""The networks in whose features pictures are compared, as torch-fidelity builds them. Nothing is ever downloaded."""

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


@dataclass(frozen=True)
class Extractor:
    """One of torch-fidelity's feature extractors.

    Attributes:
        name: as torch-fidelity calls it.
        layer: whose output, [N, features], pictures are compared by.
        option: what gives the path of its weights, as the errors name it.
        metrics: that are measured in it.
        address: where torch-fidelity or torchvision keeps the address of the weights, as module:attribute.
    """

    name: str
    layer: str
    option: str
    metrics: tuple[str, ...]
    address: str

    @property
    def url(self) -> str:
        """Address of the weights."""
        return str(pkgutil.resolve_name(self.address))

    def load(self, path: Path | None, device: torch.device) -> nn.Module:
        """The network, uint8 [N, 3, H, W] → a tuple of one tensor [N, features].

        Leaves torch's random numbers as they were.

        Raises:
            InputError: torch-fidelity is not there, or the file is not, or it is not what it should be.
        """
        fidelity = import_fidelity("utils")
        if path is None:
            without = f"without it there is no {', '.join(self.metrics)}"
            raise InputError(self.option, f"fetch {self.url} and give the file's path by --{self.option}; {without}")
        copy = io.BytesIO()
        # torch-fidelity unpickles what it is given, and whatever code that brings with it. So it is given what was read
        # here, never the file, which might change in between or be read in another way.
        torch.save(self._read(path), copy)
        copy.seek(0)
        with torch.random.fork_rng(devices=[]):
            try:
                network: nn.Module = fidelity.create_feature_extractor(
                    self.name, [self.layer], cuda=False, feature_extractor_weights_path=copy, verbose=False
                )
            except RuntimeError:  # of load_state_dict, with a page of names
                raise InputError(self.option, f"{path} holds other weights than {self.url}") from None
        return network.to(device)

    def _read(self, path: Path) -> dict[str, Tensor]:
        """The file's tensors. Refuses files that would run code."""
        if not path.is_file():
            raise InputError(self.option, f"{path} is not a file; {self.url} is what is needed")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a file of any content can make of a reader
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(self.option, f"{path} cannot be read as weights alone: {reason}") from None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise InputError(self.option, f"{path} holds something else than the tensors of {self.url}")
        if not all(tensor.isfinite().all() for tensor in state.values()):
            raise InputError(self.option, f"{path} holds values that are not finite")
        return dict(state)

    def digest(self, path: Path) -> str:
        """sha256 of the weights' file, 64 hex digits. Says so on stderr where it is not the published one."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        published = re.search(r"-([0-9a-f]{8})\.pth$", self.url)  # such names end in the first digits of the digest
        if published and not digest.startswith(published[1]):
            print(f"{path} is not {self.url}: its sha256 begins with {digest[:8]}", file=sys.stderr)
        return digest


INCEPTION = Extractor(
    "inception-v3-compat",
    layer="2048",
    option="inception-weights",
    metrics=("fid", "kid"),
    address="torch_fidelity.feature_extractor_inceptionv3:URL_INCEPTION_V3",
)
"""The Inception of 2015 that FID was defined with, not torchvision's."""

VGG16 = Extractor(
    "vgg16",
    layer="fc2_relu",
    option="vgg-weights",
    metrics=("pr",),
    address="torchvision.models:VGG16_Weights.IMAGENET1K_V1.url",
)
"""What Kynkäänniemi et al. (2019) measure precision and recall in."""


def import_fidelity(module: str) -> Any:
    """torch_fidelity's module of that name.

    Raises:
        InputError: it, or the torchvision that it needs, is not installed or does not fit torch.
    """
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError as error:
        raise InputError("metrics", f"{error}; pip install 'creps-serve[evaluate]' installs what is missing") from None
    except RuntimeError as error:  # torchvision's operators are built for one build of torch
        raise InputError(
            "metrics",
            f"torchvision does not work with torch {torch.__version__} ({error}); install the torchvision of the same "
            "build: pip install 'creps-serve[evaluate]', with the --index-url that torch was installed from",
        ) from None
