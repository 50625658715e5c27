"""One file format for problems and results: .npz without pickle, with a versioned JSON header."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import FileFormatError

FORMAT = "tpsolve"
VERSION = 1
# What numpy, zipfile, zlib and json raise on bytes that are not theirs.
_DAMAGE = (ValueError, KeyError, EOFError, AttributeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def write_archive(
    path: str | PathLike[str], kind: str, tensors: dict[str, Tensor | None], header: dict[str, Any]
) -> None:
    """Save `tensors` (those that are not None) and a JSON `header` as `kind`.

    Raises:
        FolderError: the folder does not exist or can't be written.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
    text = json.dumps({"format": FORMAT, "version": VERSION, "kind": kind, "arrays": sorted(arrays), **header})
    # A file object: given a path, numpy would append ".npz" to it.
    write_whole(path, lambda stream: np.savez_compressed(stream, allow_pickle=False, header=np.array(text), **arrays))


def read_archive(
    path: str | PathLike[str],
    kind: str,
    required: tuple[str, ...],
    fields: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file written by `write_archive`.

    Args:
        required, optional: names of the arrays that must and may be in it.
        fields: names that the header must hold.

    Raises:
        FileFormatError: missing, truncated, foreign, of another kind or version.
    """
    path = Path(path)
    arrays, header = _open(path)
    if header.get("kind") != kind:
        raise FileFormatError(f"{path}: holds a {header.get('kind')}, not a {kind}.")
    missing = [name for name in required if name not in arrays] + [name for name in fields if name not in header]
    missing += [name for name in header.get("arrays", []) if name not in arrays]
    allowed = {*required, *optional}
    added = [name for name in arrays if name not in allowed]
    if missing or added:
        what = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(added)} besides"
        raise FileFormatError(f"{path}: {what}; the file is damaged. Write it again.")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, header


def read_kind(path: str | PathLike[str]) -> str:
    """The kind of the file at `path`, such as "layer-problem".

    Raises:
        FileFormatError: missing, truncated, foreign, or of another version.
    """
    return str(_open(Path(path))[1].get("kind"))


def _open(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with path.open("rb") as stream:
            return _read(path, stream)
    except OSError as error:
        raise FileFormatError(f"{path}: can't be read ({error.strerror}).") from error


def _read(path: Path, stream: IO[bytes]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    foreign = f"{path}: not a tpsolve file, or truncated. Expected an .npz written by tpsolve."
    try:
        archive = np.load(stream, allow_pickle=False)
        arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop("header")))
    except (*_DAMAGE, OSError) as error:
        raise FileFormatError(foreign) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError(foreign)
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"{path}: written in version {header.get('version')} of the format, this tpsolve reads version {VERSION}. "
            "Write it again with this version."
        )
    return arrays, header


def digest(header: list[Any], tensors: Mapping[str, Tensor | None]) -> str:
    """A hash of plain values and of tensors by name, the same on every device."""
    hashed = hashlib.sha256(json.dumps(header).encode())
    for name, tensor in tensors.items():
        if tensor is not None:
            array = tensor.detach().cpu().contiguous().numpy()
            hashed.update(f"{name}{array.shape}{array.dtype}".encode() + array.tobytes())
    return hashed.hexdigest()
