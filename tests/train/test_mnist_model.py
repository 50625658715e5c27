"""From the images of MNIST to a program: trained, saved, loaded, shown, exported; right on raw pixels as reported."""

import ctypes
import json
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tpsolve import load_model
from tpsolve.cli import app

ROOT = Path(os.environ.get("TPSOLVE_DATA", "."))
SHAPE, BITS = (10_000, 28, 28), 8


def raw(name: str, header: int) -> np.ndarray:
    """The bytes of an idx file without its header, by no code of the package."""
    return np.frombuffer(lzma.decompress((ROOT / f"mnist_test_{name}.idx.xz").read_bytes()), np.uint8, offset=header)


@pytest.mark.data
@pytest.mark.skipif(not (ROOT / "mnist_train_images.idx.xz").exists(), reason="TPSOLVE_DATA holds no MNIST")
def test_mnist_from_images_to_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> str:
        done = CliRunner().invoke(app, line.split())
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    call(f"train mnist-mlp --data-root {ROOT} --epochs 1 --set widths=16 --name m")
    reported = json.loads(Path("runs/m/metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    images, labels = raw("images", 16).reshape(SHAPE), raw("labels", 8)
    predicted = load_model("runs/m").predict(images)
    right = int((predicted == labels).sum())
    assert abs(right / 10_000 - reported) < 0.001
    assert reported > 0.8
    np.savez("test.npz", images=images, digit=labels)
    assert f"{right} of 10000 right" in call("predict runs/m test.npz --target digit")
    assert f"test rows right: {right} of 10000" in call("show runs/m --picture m.png")
    np.save("some.npy", images[:500])
    for options in ("", " --float32"):
        onnxruntime = pytest.importorskip("onnxruntime")
        assert "are equal" in call(f"export runs/m m.onnx --table some.npy{options}")
        kind = np.float32 if options else np.float64
        session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": images.reshape(-1, 784).astype(kind)})[0]
        assert np.array_equal(found, predicted)
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no compiler of C")
    call("export runs/m m.c --table some.npy")
    subprocess.run([compiler, "-std=c99", "-O1", "-shared", "-fPIC", "m.c", "-o", "m.so"], check=True)
    predict = ctypes.CDLL(str(tmp_path / "m.so")).m_predict
    pixels = np.ascontiguousarray(images.reshape(-1, 784))
    by_c = [predict(row.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))) for row in pixels]
    assert np.array_equal(by_c, predicted)
