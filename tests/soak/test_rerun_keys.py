"""Every key of the schema: what Snakemake plans after a change of it is what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
import rerun_changes
from rerun_table import compare


@pytest.mark.timeout(3600)
def test_every_key_reruns_what_the_page_says(tmp_path: Path) -> None:
    wanted = {key: (base, changed) for key, base, changed in rerun_changes.changes()}
    assert len(wanted) >= 169
    assert compare(tmp_path, wanted) == {}
