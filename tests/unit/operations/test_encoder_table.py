"""Table of encoders, and the preflight of those that a configuration names."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from slide2rna.core import config
from slide2rna.features import encoder_specs, encoder_weights
from slide2rna.operations import encoder_table


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, nothing in the cache, and no package of an encoder."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(encoder_weights, "cached", lambda *_: None)
    monkeypatch.setattr(encoder_table, "find_spec", lambda _: None)


def test_every_row_is_a_line(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(repo / "scripts" / "encoders.py"))["main"]
    main([])
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[0]: line for line in lines if line}
    assert encoder_specs.encoders().keys() | encoder_specs.slide_encoders().keys() <= cells.keys()
    for name, words in (
        ("lite0", ("230", "any", "Apache-2.0", "open", "weights")),
        ("uni2", ("1536", "256 px at 0.5", "CC-BY-NC-ND-4.0", "request", "to download")),
        ("phikon", ("768", "no transformers")),
        ("musk", ("384 px", "no musk")),
        ("ctranspath", ("256 px at 1", "files only")),
        ("titan", ("768", "by conch15")),
    ):
        assert all(word in cells[name] for word in words), cells[name]
    main(["conch"])
    about = capsys.readouterr().out
    assert "https://huggingface.co/MahmoodLab/conch" in about
    assert "pip install git" in about


def found(encoder: Any, **features: Any) -> list[encoder_table.Finding]:
    own = {"features": {"encoder": encoder} | features}
    block = {"source": "sheet", "sheet": "a.tsv", "expression": "b.csv", "settings": own}
    return encoder_table.check_encoders(config.validate({"cohorts": {"mine": block}}))


@pytest.mark.parametrize(
    ("encoder", "features", "status", "words"),
    [
        ("lite0", {}, "ok", "no download"),
        ("uni", {}, "warn", "ask for access at https://huggingface.co/MahmoodLab/UNI and set HF_T"),
        ("uni", {"weights": "uni.bin"}, "ok", "uni.bin"),
        ("kaiko-vits8", {}, "ok", "to download"),
        ("phikon2", {}, "fail", "pip install 'slide2rna[transformers]'"),
        ("ctranspath", {}, "fail", "use encoder: files"),
        ("uni_v1", {}, "fail", "use encoder: uni"),
        ("virchow3", {}, "fail", "did you mean virchow or virchow2"),
    ],
)
def test_what_an_encoder_lacks(
    encoder: str, features: dict[str, Any], status: str, words: str
) -> None:
    finding = next(one for one in found(encoder, **features) if one.subject.startswith("encoder"))
    assert finding.status == status
    assert words in f"{finding.detail} -> {finding.remedy}"


def test_code_of_a_repository_needs_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_table, "find_spec", lambda _: object())
    assert found("hibou-b", revision="0" * 40)[0].status != "fail"
    assert found("hibou-b")[0].status == "fail"


def test_tiles_and_every_encoder_of_a_list() -> None:
    findings = found(["color", "virchow2"])
    assert [one.subject for one in findings] == [
        "encoder color",
        "encoder virchow2",
        "tiles of mine",
    ]
    assert "tile_px: 224" in findings[-1].remedy
    assert found("files", path="features") == []
