"""Six hundred flipped bits in the files of a finished run: none is read as data.

python -m pytest tests/soak/test_bit_flips.py -s
"""

from __future__ import annotations

import shutil
from pathlib import Path

import bit_flips
import pytest
from slide2rna.operations.verify import verify

FLIPS, SEED = 602, 24


@pytest.mark.timeout(3600)
def test_no_flipped_bit_is_read_as_data(quiet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(quiet / "results/demo", folder)
    before = verify(folder)
    assert before.damaged == []
    outcomes = bit_flips.try_flips(folder, FLIPS, SEED)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} {outcome}")
    wrong = bit_flips.wrong(outcomes)
    print(f"{outcomes.total()} flips, wrong accepted: {len(wrong)}")
    assert not wrong
    assert outcomes.total() == FLIPS
    assert all(outcomes[f"{kind} {bit_flips.NOTICED}"] > 0 for kind in bit_flips.KINDS)
    assert verify(folder) == before
