"""The preflight: a good machine passes, each missing thing is one line with its remedy."""

from __future__ import annotations

import re
import runpy
import threading
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from slide2rna.core import config
from slide2rna.operations import doctor, doctor_config
from slide2rna.operations.doctor_config import Finding


def test_this_machine_passes(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(repo / "scripts" / "doctor.py"))["main"]
    monkeypatch.chdir(repo)
    main([])  # config.yaml of the folder
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"(ok  |warn)  \S[^:]*: \S", line) for line in lines)
    seen = ("config", "Python", "Snakemake", "disk", "memory", "network", "lite0", "OpenSlide")
    for what in (*seen, "device"):
        assert sum(line[6:].startswith(what) for line in lines) == 1
    with pytest.raises(SystemExit) as stop:
        main(["--config", "none.yaml"])
    assert stop.value.code == 1
    assert "fail  config: none.yaml" in capsys.readouterr().out


def test_an_openslide_that_reads_black_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import openslide
    from PIL import Image

    black = Image.new("RGBA", (64, 64))
    monkeypatch.setattr(openslide.OpenSlide, "read_region", lambda *_: black)
    finding = doctor.check_openslide()
    assert (finding.status, finding.remedy != "") == ("fail", True)
    assert "wrong pixels" in finding.detail


def test_missing_weights_and_another_python_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    from slide2rna.features import lite0

    monkeypatch.setattr(lite0, "find_spec", lambda _: None)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 13, 0))
    assert doctor.check_python().status == "warn"
    monkeypatch.setattr(doctor.sys, "version_info", (3, 14, 0))
    for finding in (doctor.check_weights(), doctor.check_python()):
        assert finding.status == "fail"
        assert " -> " in finding.line()


def test_a_missing_package_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "zarr":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "polars" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    lines = [finding.line() for finding in doctor.check_packages() if finding.status == "fail"]
    assert len(lines) == 2
    assert any("package zarr: " in line for line in lines)
    assert any("package polars: 0.1 " in line for line in lines)


def test_a_native_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.import_module

    def load(name: str) -> object:
        if name == "faiss":
            raise ImportError("libgomp.so.1: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(doctor, "import_module", load)
    (finding,) = [found for found in doctor.check_packages() if found.status == "fail"]
    assert "libgomp" in finding.detail


def test_cuda_without_a_gpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.check_device("cuda").status == "fail"
    assert doctor.check_device("auto").status == "ok"


def test_a_gpu_without_its_driver_command_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The Snakefile goes by the command, so its jobs would compute on the CPU."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**34, 2**35))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_device("auto").status == "warn"
    assert doctor.check_device("cuda").status == "ok"


def test_a_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(1, 1, 10**9))
    finding = doctor.check_disk(tmp_path / "not" / "yet")
    assert finding.status == "warn"
    assert " -> " in finding.line()


def test_files_that_a_config_names_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("cohorts: {mine: {source: sheet, sheet: no.tsv, expression: no.csv}}\n")
    finding = doctor_config.check_config(path)
    assert finding.status == "fail"
    assert "cohorts.mine.sheet: no.tsv " in finding.detail


def own_config(**own: object) -> config.Settings:
    return config.validate({"cohorts": {"mine": own}, "features": {"encoder": "lite0"}})


def test_shards_are_proposed_from_the_sheet(tmp_path: Path) -> None:
    sheet = tmp_path / "slides.tsv"
    rows = [f"S{i}\tP{i}\t" for i in range(300)]
    sheet.write_text("\n".join(["slide_id\tpatient_id\tslide", *rows]))
    block = {"source": "sheet", "sheet": str(sheet), "expression": "x"}
    (finding,) = doctor_config.check_shards(own_config(**block))
    assert finding.status == "warn"
    assert finding.detail == "300 in 1 shard"
    assert "set cohorts.mine.shards: 5" in finding.line()
    (finding,) = doctor_config.check_shards(own_config(**block, shards=5))
    assert finding.line() == "ok    slides of mine: 300 in 5 shards"
    (tmp_path / "rna.csv").touch()
    config_file, block = tmp_path / "config.yaml", block | {"expression": str(tmp_path / "rna.csv")}
    config_file.write_text(yaml.safe_dump({"cohorts": {"mine": block}}))
    record = [finding.line() for finding in doctor.examine(config_file, "cpu")]
    assert sum("set cohorts.mine.shards: 5" in line for line in record) == 1
    sheet.write_text("")
    (finding,) = doctor_config.check_shards(own_config(**block))
    assert (finding.status, "empty" in finding.detail) == ("fail", True)


def test_shards_of_a_frozen_manifest_count_the_slides_that_are_kept(tmp_path: Path) -> None:
    manifest = tmp_path / "LUAD.tsv"
    rows = ["slide\t"] * 100 + ["slide\tno expression"] * 50 + ["expression\t"] * 100
    manifest.write_text("\n".join(["kind\tleft_at", *rows]))
    block = {"source": "gdc", "project": "TCGA-LUAD", "manifest": str(manifest), "shards": 2}
    (finding,) = doctor_config.check_shards(own_config(**block))
    assert finding.line() == "ok    slides of mine: 100 in 2 shards"


def test_only_what_a_run_needs_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    asked = []

    def head(url: str, **_: object) -> None:
        asked.append(url)
        if "hugging" in url:
            raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", head)
    quiet = own_config(source="sheet", sheet="s", expression="e")
    assert doctor_config.check_network(quiet).status == "ok"
    assert not asked
    uni = {"features": {"encoder": "uni"}}
    gdc = {"source": "gdc", "project": "TCGA-LUAD", "api": "https://mirror.example/gdc"}
    assert doctor_config.check_network(own_config(**gdc)).status == "ok"
    assert asked == ["https://mirror.example/gdc"]
    finding = doctor_config.check_network(own_config(**gdc, settings=uni))
    assert finding.status == "warn"
    assert "https://huggingface.co (weights of uni)" in finding.detail
    assert "mirror" not in finding.detail
    local = {"features": {"encoder": "uni", "weights": "uni.bin"}}
    assert doctor_config.check_network(own_config(**gdc, settings=local)).status == "ok"


def test_a_silent_server_costs_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    answer = threading.Event()
    monkeypatch.setattr(doctor_config, "NETWORK_S", 0.2)
    monkeypatch.setattr(requests, "head", lambda *_, **__: answer.wait())
    assert doctor_config.check_network(None).status == "warn"  # without waiting for an answer
    answer.set()


def test_lines_show_a_remedy_only_when_it_is_needed() -> None:
    assert Finding("ok", "disk", "5 GB", "free some").line() == "ok    disk: 5 GB"
    assert Finding("warn", "disk", "0 GB", "free some").line() == "warn  disk: 0 GB -> free some"
