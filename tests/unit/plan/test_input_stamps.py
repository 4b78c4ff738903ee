"""Stamps of inputs as parameters of a plan's jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import at, plan
from slide2rna.core.files import sha256sum, write_json
from slide2rna.plan.input_stamps import InputStamps
from slide2rna.plan.inputs import Inputs


@pytest.mark.parametrize("block", [{}, {"manifest": "manifests/list.tsv"}])
def test_an_edited_manifest_is_noticed_wherever_it_is(
    block: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = plan(source="gdc", project="TCGA-LUAD", **block)
    path = Path(block.get("manifest", "manifests/mine.tsv"))

    def stamp() -> str:
        return InputStamps(made, Inputs(made)).manifest(at())

    assert stamp() == ""
    path.parent.mkdir()
    path.write_text("as frozen\n")
    assert stamp() == sha256sum(path)  # not frozen by this run: it is an input
    write_json({"sha256": sha256sum(path)}, made.paths.frozen_manifest.format(cohort="mine"))
    assert stamp() == ""
    path.write_text("edited\n")
    assert stamp() == sha256sum(path)


def test_each_of_several_weights_files_counts(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.bin" for name in ("lite0", "uni2")}
    for path in files.values():
        path.write_text("weights\n")
    weights = {name: str(path) for name, path in files.items()}
    both = {"encoder": ["lite0", "uni2"], "weights": weights}
    made = plan({"features": both})
    inputs, job = Inputs(made), at(encoder="lite0-uni2", shard="0")
    assert inputs.own_weights(job) == list(weights.values())
    contents = set[str]()
    for path in (None, *files.values()):
        if path:
            path.write_text("others\n")
        contents.add(InputStamps(made, inputs).tables(inputs.own_weights)(job))
    assert len(contents) == 3
