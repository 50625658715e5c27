"""The data sets: tiny files in every layout, damaged ones, and the batches made of them."""

import gzip
import lzma
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tpsolve.errors import ArgumentError, FileFormatError, ShapeError, TpsolveError
from tpsolve.train.data import (
    Folders,
    Images,
    Resident,
    load_cifar10,
    load_digits,
    load_fashion_mnist,
    load_mnist,
)
from tpsolve.train.data._idx import ORIGINAL

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


# --- idx files --------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def four_arrays() -> list[np.ndarray]:
    return [
        RANDOM.integers(0, 256, (7, 5, 4)),
        RANDOM.integers(0, 10, 7),
        RANDOM.integers(0, 256, (3, 5, 4)),
        RANDOM.integers(0, 10, 3),
    ]


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
@pytest.mark.parametrize("place", ["", "MNIST/raw"])
def test_idx_files_under_their_original_names(tmp_path: Path, ending: str, place: str):
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[ending]
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    arrays = four_arrays()
    for name, array in zip(ORIGINAL, arrays, strict=True):
        (tmp_path / place / (name + ending)).write_bytes(pack(idx(array)))
    read = load_mnist(tmp_path)
    found = (read.inputs[:, 0], read.labels, read.test_inputs[:, 0], read.test_labels)
    assert all(np.array_equal(tensor.numpy(), array) for tensor, array in zip(found, arrays, strict=True))


def test_idx_names_of_the_set_come_before_the_original_ones(tmp_path: Path):
    for name in ORIGINAL:
        (tmp_path / name).write_bytes(b"another set")
    for name, array in zip(("train_images", "train_labels", "test_images", "test_labels"), four_arrays(), strict=True):
        (tmp_path / f"fashion_{name}.idx.xz").write_bytes(lzma.compress(idx(array)))
    assert load_fashion_mnist(tmp_path).shape == (1, 5, 4)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"\x1f\x8b" + b, lambda b: b[:5], lambda b: b"", lambda b: b[:3] + b"\x01"]
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, damage):
    for name, array in zip(ORIGINAL, four_arrays(), strict=True):
        (tmp_path / name).write_bytes(idx(array))
    path = tmp_path / ORIGINAL[2]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match=ORIGINAL[2]):
        load_mnist(tmp_path)


def test_a_damaged_archive_is_named(tmp_path: Path):
    for name, array in zip(ORIGINAL, four_arrays(), strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array))[:-12])
    with pytest.raises(FileFormatError, match=f"{ORIGINAL[0]}.gz"):
        load_mnist(tmp_path)


def test_missing_files_are_named_and_not_downloaded(tmp_path: Path):
    with pytest.raises(FileFormatError, match=r"train-images-idx3-ubyte.*nothing is downloaded"):
        load_mnist(tmp_path)
    with pytest.raises(FileFormatError, match=r"data_batch_1 to 5.*nothing is downloaded"):
        load_cifar10(tmp_path)


def test_fewer_labels_than_images(tmp_path: Path):
    arrays = four_arrays()
    arrays[1] = arrays[1][:-1]
    for name, array in zip(ORIGINAL, arrays, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(FileFormatError, match="7 images but 6 labels"):
        load_mnist(tmp_path)


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------

BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def write_python(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    for k, name in enumerate(BATCHES):
        content = {b"data": pixels[k].reshape(len(pixels[k]), -1), b"labels": labels[k].tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_binary(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    for k, name in enumerate(BATCHES):
        rows = np.concatenate([labels[k][:, None], pixels[k].reshape(len(pixels[k]), -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.astype(np.uint8).tobytes())


@pytest.fixture
def cifar() -> tuple[np.ndarray, np.ndarray]:
    return RANDOM.integers(0, 256, (6, 4, 3, 32, 32)).astype(np.uint8), RANDOM.integers(0, 10, (6, 4))


@pytest.mark.parametrize(("write", "place"), [(write_python, "cifar-10-batches-py"), (write_binary, "")])
def test_cifar10_layouts(tmp_path: Path, cifar: tuple[np.ndarray, np.ndarray], write, place: str):
    (tmp_path / place).mkdir(exist_ok=True)
    write(tmp_path / place, *cifar)
    read = load_cifar10(tmp_path)
    pixels, labels = cifar
    assert np.array_equal(read.inputs.numpy(), pixels[:5].reshape(-1, 3, 32, 32))
    assert np.array_equal(read.labels.numpy(), labels[:5].reshape(-1))
    assert np.array_equal(read.test_inputs.numpy(), pixels[5])
    assert np.array_equal(read.test_labels.numpy(), labels[5])


@pytest.mark.slow
def test_cifar10_mosaics(tmp_path: Path):
    # A colour an image and a pattern, which are compressed quicker than noise.
    colours = RANDOM.integers(0, 256, (2, 100, 100, 3, 1, 1))
    pixels = (colours + np.arange(32 * 32).reshape(32, 32)).astype(np.uint8)
    for k, name in enumerate(("cifar10_train_1", "cifar10_test")):
        mosaic = pixels[k].transpose(0, 3, 1, 4, 2).reshape(3200, 3200, 3)
        Image.fromarray(mosaic).save(tmp_path / f"{name}.webp", lossless=True, quality=0, method=0)
    for i in range(2, 6):
        shutil.copy(tmp_path / "cifar10_train_1.webp", tmp_path / f"cifar10_train_{i}.webp")
    labels = RANDOM.integers(0, 10, 60000).astype(np.uint8)
    np.savez(tmp_path / "cifar10_labels.npz", train=labels[:50000], test=labels[50000:])
    read = load_cifar10(tmp_path)
    assert np.array_equal(read.inputs[:10000].numpy(), pixels[0].reshape(-1, 3, 32, 32))
    assert np.array_equal(read.test_inputs.numpy(), pixels[1].reshape(-1, 3, 32, 32))
    assert np.array_equal(read.labels.numpy(), labels[:50000])
    assert np.array_equal(read.test_labels.numpy(), labels[50000:])


@pytest.mark.parametrize("write", [write_python, write_binary])
@pytest.mark.parametrize("what", ["missing", "torn", "label"])
def test_a_damaged_cifar10_file_is_named(tmp_path: Path, cifar: tuple[np.ndarray, np.ndarray], write, what: str):
    pixels, labels = cifar
    labels[2, 0] = 10 if what == "label" else labels[2, 0]
    write(tmp_path, pixels, labels)
    path = next(tmp_path.glob("data_batch_3*"))
    if what == "missing":
        path.unlink()
    elif what == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match="data_batch_3"):
        load_cifar10(tmp_path)


def test_a_pickle_runs_nothing(tmp_path: Path, cifar: tuple[np.ndarray, np.ndarray]):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    write_python(tmp_path, *cifar)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    with pytest.raises(FileFormatError, match="data_batch_1"):
        load_cifar10(tmp_path)
    assert not (tmp_path / "ran").exists()


# --- image folders ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 2)):
        for k, name in enumerate(("ape", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                colour = (k * 200, 10 * i, 0)
                Image.new("RGB", (300 + i, 260), colour).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_image_folders(folders: Path):
    source = Folders(folders, CPU, batch=2, workers=0)
    assert (source.classes, source.steps, source.shape) == (2, 3, (3, 224, 224))
    batches = list(source.train(seed=1))
    assert sorted(torch.cat([y for _, y in batches]).tolist()) == [0, 0, 0, 1, 1, 1]
    for x, y in [*batches, *source.test()]:
        assert x.shape[1:] == (3, 224, 224)
        # The images are of one colour each, which cutting leaves as it is; red tells the classes.
        assert torch.allclose(x[:, 0] * 58.395 + 123.675, 200.0 * y[:, None, None], atol=1e-3)
    again = list(Folders(folders, CPU, batch=2, workers=0).train(seed=1))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, again, strict=True))


def test_image_folders_hold_out_and_refuse(folders: Path):
    source = Folders(folders, CPU, batch=2, workers=0, validation=1 / 3)
    held = source.validation()
    assert held is not None
    assert sum(len(y) for _, y in held) == 2
    assert sum(len(y) for _, y in source.train(0)) == 4
    (folders / "train" / "ape" / "0.png").write_bytes(b"no image")
    with pytest.raises(FileFormatError, match=r"ape.0\.png"):
        list(Folders(folders, CPU, batch=2, workers=0).train(0))
    shutil.rmtree(folders / "val" / "bee")
    with pytest.raises(FileFormatError, match="classes of train and val differ: bee"):
        Folders(folders, CPU, batch=2)
    with pytest.raises(FileFormatError, match="nothing is downloaded"):
        Folders(folders / "train", CPU, batch=2)


# --- batches ----------------------------------------------------------------------------------------------------------


def numbered(count: int = 23, side: int = 6) -> Images:
    """Images whose pixels say which image they are of, and which column."""
    pixels = torch.arange(count)[:, None, None, None] + 100 * (torch.arange(side) % 2)[None, None, None]
    inputs = pixels.expand(count, 1, side, side).to(torch.uint8)
    return Images(inputs, torch.arange(count), inputs[:5], torch.arange(5), count, mean=(0.0,), std=(1.0,))


def test_an_epoch_is_whole_batches_of_a_random_order():
    source = Resident(numbered(), CPU, batch=5)
    labels = torch.cat([y for _, y in source.train(seed=3)])
    assert source.steps == 4
    assert len(set(labels.tolist())) == 20
    assert labels.tolist() != sorted(labels.tolist())
    assert torch.equal(labels, torch.cat([y for _, y in source.train(seed=3)]))
    assert not torch.equal(labels, torch.cat([y for _, y in source.train(seed=4)]))
    for x, y in source.train(seed=3):
        assert torch.equal(x[:, 0, 0, 0].long() % 100, y)


def test_batches_go_on_where_they_were_left():
    source = Resident(numbered(), CPU, batch=5, crop=2, flip=True)
    for (x, y), (a, b) in zip(list(source.train(7))[2:], source.train(7, first=2), strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)


def test_processes_share_each_batch():
    whole = list(Resident(numbered(), CPU, batch=6, crop=1, flip=True).train(0))
    parts = [list(Resident(numbered(), CPU, batch=6, crop=1, flip=True, rank=r, world=3).train(0)) for r in range(3)]
    for k, (x, y) in enumerate(whole):
        assert torch.equal(x, torch.cat([part[k][0] for part in parts]))
        assert torch.equal(y, torch.cat([part[k][1] for part in parts]))
    tests = [torch.cat([y for _, y in Resident(numbered(), CPU, 6, rank=r, world=3).test()]) for r in range(3)]
    assert sorted(torch.cat(tests).tolist()) == [0, 1, 2, 3, 4]


def test_crops_are_windows_of_the_bordered_image_and_flips_mirror_it():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(1, 256, (40, 2, 5, 4), dtype=torch.uint8, generator=generator)
    images = Images(inputs, torch.arange(40), inputs, torch.arange(40), 40, (0.0, 0.0), (1.0, 1.0))
    bordered = torch.nn.functional.pad(inputs, (2, 2, 2, 2)).float()
    seen = set()
    for x, y in Resident(images, CPU, batch=40, crop=2, flip=True).train(1):
        for image, number in zip(x, y.tolist(), strict=True):
            places = [
                (down, right, flip)
                for down in range(5)
                for right in range(5)
                for flip in (False, True)
                if torch.equal(
                    image.flip(2) if flip else image,
                    bordered[number, :, down : down + 5, right : right + 4],
                )
            ]
            assert len(places) == 1
            seen.add(places[0])
    assert {flip for _, _, flip in seen} == {False, True}
    assert len({(down, right) for down, right, _ in seen}) > 10


def test_what_is_held_out_is_not_trained_on():
    images = numbered().hold_out(0.3, seed=5)
    assert images.validation_labels is not None
    held, kept = set(images.validation_labels.tolist()), set(images.labels.tolist())
    assert len(held) == 7
    assert held | kept == set(range(23))
    assert not held & kept
    again, other = numbered().hold_out(0.3, seed=5), numbered().hold_out(0.3, seed=6)
    assert torch.equal(again.labels, images.labels)
    assert not torch.equal(other.labels, images.labels)


def test_a_limit_draws_images_of_the_training_set():
    images = numbered()
    limited = images.limit(9, seed=5)
    assert len(limited.labels) == 9
    places = [int((images.inputs == one).flatten(1).all(1).nonzero()[0]) for one in limited.inputs]
    assert sorted(set(places)) == places
    assert torch.equal(limited.labels, images.labels[places])
    assert torch.equal(limited.test_labels, images.test_labels)
    assert not torch.equal(images.limit(9, seed=6).inputs, limited.inputs)
    with pytest.raises(ArgumentError, match="at most 23"):
        images.limit(24, seed=0)


def test_channels_are_normalised():
    images = load_digits()
    assert (len(images.labels), len(images.test_labels), images.classes) == (1437, 360, 10)
    (x, _), *_ = Resident(images, CPU, batch=1437).train(0)
    assert (float(x.min()), float(x.max())) == (-1.0, 1.0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ArgumentError, match="at most 23"):
        Resident(numbered(), CPU, batch=24)
    with pytest.raises(ArgumentError, match="validation"):
        numbered().hold_out(1.0, seed=0)
    x = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ShapeError, match="2 labels"):
        Images(x, torch.zeros(2, dtype=torch.int64), x, torch.zeros(3, dtype=torch.int64), 2, (0.0,), (1.0,))
    with pytest.raises(TpsolveError, match="labels: got 0 to 2"):
        Images(x, torch.arange(3), x, torch.arange(3), 2, (0.0,), (1.0,))
