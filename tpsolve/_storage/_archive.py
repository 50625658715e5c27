"""One file format for problems and results: .npz without pickle, with a versioned JSON header."""

import hashlib
import io
import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from os import PathLike
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from tpsolve._storage._documents import check_shape, parse_json
from tpsolve._storage._limits import FilePart, check_bytes, max_bytes, opened
from tpsolve._storage._write_whole import write_whole
from tpsolve.errors import FileFormatError, TpsolveError

FORMAT = "tpsolve"
VERSION = 1
NUMBERS = ("bool", "int8", "uint8", "int16", "int32", "int64", "float32", "float64")
"""Types of the arrays of a file, in the byte order of the machine."""
# What zipfile, zlib and numpy raise on bytes that are not theirs.
_DAMAGE = (
    *(ValueError, KeyError, EOFError, TypeError, AttributeError, NotImplementedError, RuntimeError, SyntaxError),
    *(OSError, OverflowError, RecursionError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_NPY = b"\x93NUMPY"
"""The first bytes of an .npy file."""
_FOREIGN = "not a tpsolve file, or truncated. Expected an .npz written by tpsolve."
_FOREIGN_ARRAYS = (
    "no arrays of numbers, or truncated. Expected a file that numpy.save, savez or savez_compressed wrote."
)
_MAX_RATIO = 1040
"""Deflate packs no more than 1032 bytes into one."""
_MAX_NAMES = 2**22
"""Bytes of a zip file's table of contents: 40,000 members."""
_PIECE = 2**18
_LITTLE = 2**13
"""Bytes of all arrays that are stored as they are."""
_Known = Callable[[tuple[int, ...], np.dtype[Any]], bool]
"""Whether an array of this shape and type may be in a file."""


def write_archive(
    path: str | PathLike[str], kind: str, tensors: dict[str, Tensor | None], header: dict[str, Any]
) -> None:
    """Save `tensors` (those that are not None) and a JSON `header` as `kind`.

    Raises:
        FolderError: the folder does not exist or can't be written.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
    text = json.dumps({"format": FORMAT, "version": VERSION, "kind": kind, "arrays": sorted(arrays), **header})
    parts = {"header": np.array(text), **arrays}
    if sum(array.nbytes for array in arrays.values()) > _LITTLE:
        # A file object: given a path, numpy would append ".npz" to it.
        write_whole(path, lambda stream: np.savez_compressed(stream, allow_pickle=False, **parts))
        return
    # Packing little gains nothing, and takes most of the time, as do the many writes of parts.
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **parts)
    write_whole(path, lambda stream: stream.write(content.getbuffer()))


def read_archive(
    path: str | PathLike[str],
    kind: str,
    shape: Any,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file written by `write_archive`.

    Sizes are compared with each other and with the limit before memory is taken for them.

    Args:
        shape: the type of the header, a TypedDict; see `parse_json`.
        required, optional: names of the arrays that must and may be in it.

    Raises:
        FileFormatError: missing, truncated, foreign, of another kind or version.
        TooLargeError: more than `max_bytes()`.
    """
    with _Archive(path) as archive:
        header = archive.header()
        if header["kind"] != kind:
            raise FileFormatError(f"{path}: holds a {header['kind']}, not a {kind}.")
        check_shape(header, path, shape)
        missing = [name for name in (*required, *header["arrays"]) if name not in archive.members]
        allowed = {*required, *optional, "header"}
        added = [name for name in archive.members if name not in allowed]
        if missing or added:
            what = f"lacks {', '.join(missing[:5])}" if missing else f"holds {', '.join(added[:5])} besides"
            raise FileFormatError(f"{path}: {what}; the file is damaged. Write it again.")
        return {name: archive.tensor(name) for name in archive.members if name != "header"}, header


def read_arrays(path: str | PathLike[str], names: tuple[str, ...]) -> dict[str, Tensor]:
    """The arrays of these names of an .npz file that has no header; errors as those of `read_archive`."""
    with _Archive(path, _FOREIGN_ARRAYS) as archive:
        return {name: archive.tensor(name) for name in names}


def read_any_arrays(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of numbers or texts that numpy has saved: of an .npz by name, that of an .npy under "".

    Raises:
        FileFormatError: missing, truncated, foreign, or of objects.
        TooLargeError: more than `max_bytes()`.
    """
    with opened(path) as stream:
        single = _guarded(path, _FOREIGN_ARRAYS, stream.read, len(_NPY)) == _NPY
        if single:
            size = stream.seek(0, io.SEEK_END)
            check_bytes(path, size)
            stream.seek(0)
            return {"": _guarded(path, _FOREIGN_ARRAYS, _read_npy, stream, size, _is_plain)}
    with _Archive(path, _FOREIGN_ARRAYS) as archive:
        return {name: archive.array(name) for name in archive.members}


def read_kind(path: str | PathLike[str]) -> str:
    """The kind of the file at `path`, such as "layer-problem", of which no more than the header is read.

    Raises:
        FileFormatError: missing, truncated, foreign, or of another version.
        TooLargeError: more than `max_bytes()`.
    """
    with _Archive(path) as archive:
        return archive.header()["kind"]


class _Bounded(io.BufferedReader):
    """A file of which little is read at once: zipfile reads a table of contents of whatever size it is said to have."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _MAX_NAMES + 1 if size is None or size < 0 else size
        content = super().read(min(wanted, _MAX_NAMES + 1))
        if len(content) > _MAX_NAMES:
            raise zipfile.BadZipFile("too large a part")
        return content


def _raw(path: str | PathLike[str]) -> Any:
    return io.BytesIO(path.read()) if isinstance(path, FilePart) else io.FileIO(path, "rb")


class _Archive:
    """A file that was opened, with the sizes of its parts compared.

    Attributes:
        members: of the zip file, by name without ".npy".
    """

    members: dict[str, zipfile.ZipInfo]

    def __init__(self, path: str | PathLike[str], foreign: str = _FOREIGN) -> None:
        self.path, self._foreign = path, foreign
        self._opened = opened(path, lambda path, mode: _Bounded(_raw(path)))

    def __enter__(self) -> "_Archive":
        stream = self._opened.__enter__()
        try:
            self._zip = _guarded(self.path, self._foreign, zipfile.ZipFile, stream)
            self.members = _guarded(self.path, self._foreign, self._listed, stream)
        except BaseException:
            stream.close()
            raise
        return self

    def __exit__(self, *reason: Any) -> None:
        self._zip.close()
        self._opened.__exit__(*reason)

    def header(self) -> dict[str, Any]:
        """The header, of this format and version."""
        header = parse_json(_guarded(self.path, self._foreign, self._header_text), self.path)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise FileFormatError(f"{self.path}: {self._foreign}")
        if header.get("version") != VERSION:
            raise FileFormatError(
                f"{self.path}: written in version {str(header.get('version'))[:40]} of the format, this tpsolve reads "
                f"version {VERSION}. Write it again with this version."
            )
        names, kind = header.get("arrays", []), header.get("kind")
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(kind, str)):
            raise FileFormatError(f"{self.path}: {self._foreign}")
        return {**header, "arrays": names}

    def tensor(self, name: str) -> Tensor:
        """The array of this name."""
        return torch.from_numpy(_guarded(self.path, self._foreign, self._array, name, _is_number))

    def array(self, name: str) -> np.ndarray:
        """The array of this name, of numbers or texts in any order of bytes."""
        return _guarded(self.path, self._foreign, self._array, name, _is_plain)

    def _listed(self, stream: IO[bytes]) -> dict[str, zipfile.ZipInfo]:
        size = stream.seek(0, io.SEEK_END)
        infos = self._zip.infolist()
        members = {info.filename.removesuffix(".npy"): info for info in infos if info.filename.endswith(".npy")}
        sound = (
            len(members) == len(infos)
            and sum(info.compress_size for info in infos) <= size
            and all(info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos)
            and not any(info.flag_bits & 1 for info in infos)
        )
        if not sound:
            raise zipfile.BadZipFile("not as numpy writes it")
        check_bytes(self.path, sum(info.file_size for info in infos))
        if any(info.file_size > _MAX_RATIO * info.compress_size + 64 for info in infos):
            raise zipfile.BadZipFile("larger than what is packed")
        return members

    def _header_text(self) -> str:
        array = self._array("header", _is_text)
        check_bytes(self.path, array.nbytes, max_bytes() // 4)
        return str(array)

    def _array(self, name: str, is_known: _Known) -> np.ndarray:
        info = self.members[name]
        with self._zip.open(info) as stream:
            return _read_npy(stream, info.file_size, is_known)


def _guarded(path: str | PathLike[str], foreign: str, read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` gives; what it raises at bytes that are not its own becomes a FileFormatError."""
    try:
        return read(*arguments)
    except TpsolveError:
        raise
    except _DAMAGE as error:
        strerror = getattr(error, "strerror", None)
        raise FileFormatError(f"{path}: " + (f"can't be read ({strerror})." if strerror else foreign)) from error


def _read_npy(stream: IO[bytes], file_size: int, is_known: _Known) -> np.ndarray:
    """The array of an .npy file of so many bytes, whose type and shape are known ones."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version}")
    first = version == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    try:
        shape, by_columns, dtype = read_header(stream)
    except MemoryError as error:  # Of Python's parser, whose stack deep brackets fill.
        raise ValueError("too deep a header") from error
    size = math.prod(shape) * dtype.itemsize
    if not (is_known(shape, dtype) and all(n >= 0 for n in shape) and size == file_size - stream.tell()):
        raise ValueError(f"{shape} {dtype}")
    content = bytearray(size)
    place = 0
    while piece := stream.read(_PIECE):
        content[place : place + len(piece)] = piece
        place += len(piece)
    if place != size:
        raise ValueError("truncated")
    array = np.frombuffer(content, dtype=dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _is_number(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype.name in NUMBERS and dtype.isnative


def _is_text(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "U" and shape == () and dtype.isnative


def _is_plain(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufU" and dtype.itemsize > 0


def digest(header: list[Any], tensors: Mapping[str, Tensor | None]) -> str:
    """A hash of plain values and of tensors by name, the same on every device."""
    hashed = hashlib.sha256(json.dumps(header).encode())
    for name, tensor in tensors.items():
        if tensor is not None:
            array = tensor.detach().cpu().contiguous().numpy()
            hashed.update(f"{name}{array.shape}{array.dtype}".encode() + array.tobytes())
    return hashed.hexdigest()
