"""Files of latents from anyone."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from model.config import GeneratorConfig
from model.errors import InputError
from model.latents.files import MAX_BYTES, parse_latent, read_latent_file, write_latent_file
from model.latents.latent import Latent, pack_floats

CONFIG = GeneratorConfig(resolution=16, z_dim=2, w_dim=3, mapping_layers=1)  # seven styles
W, WS, Z = np.arange(3.0), np.arange(21.0).reshape(1, 7, 3), np.arange(2.0)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """An npy file that claims a shape and has no values."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "latent"),
    [
        (npy(W), Latent(w=pack_floats(W))),
        (npy(WS.astype(np.float16)), Latent(w=pack_floats(WS))),
        (npy(np.asfortranarray(WS[0])), Latent(w=pack_floats(WS))),
        (npy(W.astype(">f8")), Latent(w=pack_floats(W))),
        (npy(Z), Latent(z=pack_floats(Z))),
        (npz(w=WS), Latent(w=pack_floats(WS))),  # StyleGAN2-ADA's projected_w.npz
        (npz(z=Z, other=W), Latent(z=pack_floats(Z))),
        (npz(z=Z, w=W), Latent(w=pack_floats(W))),
        (npz(anything=W), Latent(w=pack_floats(W))),
        (save({"w": WS.astype(np.float32)}), Latent(w=pack_floats(WS))),
        (save({"z": Z.astype(np.float16)}, {"note": "by hand"}), Latent(z=pack_floats(Z))),
    ],
)
def test_read(content: bytes, latent: Latent) -> None:
    assert parse_latent(content, CONFIG) == latent


def test_the_number_of_styles_is_told() -> None:
    with pytest.raises(InputError, match=r"^latent: is of a network with 5 styles; this model has 7$"):
        parse_latent(npz(w=WS[:, :5]), CONFIG)


def test_z_has_a_class() -> None:
    assert parse_latent(npy(Z), GeneratorConfig(16, 2, 3, 5, 1), class_index=4).class_index == 4
    with pytest.raises(InputError, match=r"^class_index: "):
        parse_latent(npy(Z), GeneratorConfig(16, 2, 3, 5, 1))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04 and more",
        b"a picture",
        b"\x80\x04N.",  # a pickle
        npy(np.array([{}], object)),
        npy(np.arange(3)),
        npy(np.arange(3) * 1j),
        npy(np.arange(4.0)),
        npy(np.zeros((7, 4))),
        npy(np.zeros((2, 7, 3))),
        npy(np.array([1, np.nan, 1])),
        npy(np.array([1, 1e300, 1])),  # infinite as float32
        npy(W)[:-1],
        header((3,)),
        header((1 << 40,)),
        header((1 << 40, 1 << 40)),
        header((3,), "|O"),
        npz(),
        npz(a=W, b=W),
        npz(**{f"w{i}": W for i in range(17)}),
        zipped(w=npz(w=W)),  # a zip within a zip
        zipped(w=b"\0" * (MAX_BYTES + 1)),  # 16 kB of zip
        b"\0" * (MAX_BYTES + 1),
        save({"w": np.arange(3)}),
        save({"w": np.zeros((1024, 1025), np.float32)}),
        save({"w": W})[:-1],
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 60) + json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode(),
    ],
    ids=range(29),
)
def test_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^latent: "):
        parse_latent(content, CONFIG)


def test_written_files_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "projected_w.npz"
    write_latent_file(path, WS[0].astype(np.float32))
    assert np.load(path)["w"].shape == (1, 7, 3)
    assert read_latent_file(path, CONFIG) == Latent(w=pack_floats(WS))
