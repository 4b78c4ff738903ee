"""Costs: what benchmark files say, the formula by hand, and the tables that are printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from slide2rna.commands import costs as commands_costs
from slide2rna.core.errors import StageError
from slide2rna.features import bag_file
from slide2rna.operations import costs as operations_costs

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
SLIDES, TILES, CLUSTERS, FEATURES, GENES = 10, 50, 4, 8, 5


def job(folder: Path, name: str, seconds: object, rss_mib: object, cpu: object) -> None:
    row = [seconds, "0:00:00", rss_mib, *["0"] * 6, cpu]
    text = f"{HEAD}\n" + "\t".join(map(str, row)) + "\n"
    (folder / "benchmarks").mkdir(exist_ok=True)
    (folder / "benchmarks" / f"{name}.tsv").write_text(text)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Ten slides of fifty tiles, with jobs of whole hours and files of known size."""
    folder = tmp_path / "LUAD"
    for name in ("features/color", "bags", "logs", "draws/x"):
        (folder / name).mkdir(parents=True)
    ids = [f"S{i}" for i in range(SLIDES)]
    pl.DataFrame({"slide_id": ids}).write_parquet(folder / "slides.parquet")
    genes = {f"G{i}": [0.0] * SLIDES for i in range(GENES)}
    pl.DataFrame({"sample_id": ids} | genes).write_parquet(folder / "expression.parquet")
    counts = {"n_tiles": [TILES - 5] * 5, "n_rejected": [5, 5, 5, 5, None]}
    # The third is left of an earlier run with more shards.
    for shard, own in enumerate((ids[:5], ids[5:], ids[2:7])):
        table = pl.DataFrame({"slide_id": own} | counts)
        table.write_parquet(folder / f"features/color/shard-{shard}.parquet")
    means = np.zeros((SLIDES, CLUSTERS, FEATURES), np.float32)
    sizes, color = np.ones((SLIDES, CLUSTERS), np.float32), np.zeros((SLIDES, 6), np.float32)
    bags = bag_file.Bags(means, sizes, color, np.full(SLIDES, TILES), ids, "color", CLUSTERS)
    bag_file.save(bags, folder / "bags/color.safetensors")
    (folder / "draws/x/a").write_bytes(b"x" * 10**6)
    job(folder, "demo", 99, 99, 99)  # the generator's isn't a cost of the method
    job(folder, "features-color-0", 3600, 1000, 1800)
    job(folder, "features-color-1", 1800, 2000, 1800)
    job(folder, "train-color-flow-go-bp-0", 7200, 500, 3600)
    job(folder, "pathways-go-bp", 36, 100, 36)
    job(folder, "guard", 0.3, "NA", "NA")
    (folder / "logs/train-color-flow-go-bp-0.log").write_text("12:00:00 device: cuda (X)\n")
    record = "no driver where Snakemake was started, device: cuda asks for a GPU"
    (folder / "logs/features-color-0.log").write_text(f"12:00:00 device: cpu (cpu; {record})\n")
    return folder


def test_measured_costs_are_summed_by_stage(cohort: Path) -> None:
    found = operations_costs.measure(cohort)
    assert (found.slides, found.tiles) == (SLIDES, TILES - 1)
    assert found.bag_gb == CLUSTERS * FEATURES * 4 / 1e9
    assert found.profile_gb == GENES * 4 / 1e9
    assert "demo" not in found.stages
    features, train = found.stages["features"], found.stages["train"]
    assert (features.jobs, features.cpu, features.gpu) == (2, 1.0, 0.0)
    assert features.memory == 2000 * 2**20 / 1e9
    assert (train.cpu, train.gpu) == (1.0, 2.0)
    assert (found.stages["guard"].cpu, found.stages["guard"].memory) == (0.0, 0.0)
    assert operations_costs.cost(found.stages["sample"], "disk") == 0.001


def test_the_formula(cohort: Path) -> None:
    found = operations_costs.measure(cohort)
    made = operations_costs.extrapolate(found, 30, tiles=2 * found.tiles)
    start, shards = operations_costs.START_S["features"] / 3600, 1  # 30 slides fill no second one
    assert made["features"].cpu == pytest.approx(shards * start + 3 * 2 * (1.0 - 2 * start))
    assert operations_costs.extrapolate(found, 65)["features"].jobs == 2
    start = operations_costs.START_S["train"] / 3600
    assert made["train"].cpu == pytest.approx(start + 3 * (1.0 - start))
    # Of a job that was hardly measured, nothing is left to grow.
    assert made["guard"].cpu == pytest.approx(operations_costs.START_S["guard"] / 3600)
    assert made["train"].gpu == pytest.approx(6.0)
    assert made["pathways"].cpu == found.stages["pathways"].cpu
    assert operations_costs.cost(made["sample"], "disk") == pytest.approx(0.003)
    bags, profiles = operations_costs.MEMORY_SHARES["train"]
    more = 20 * (bags * found.bag_gb + profiles * found.profile_gb)
    assert made["train"].memory == pytest.approx(found.stages["train"].memory + more)
    assert made["features"].memory == found.stages["features"].memory
    # Fewer slides than measured aren't said to need less memory.
    assert operations_costs.extrapolate(found, 1)["train"].memory == found.stages["train"].memory
    assert operations_costs.extrapolate(found, SLIDES)["train"].cpu == pytest.approx(1.0)


def test_resampled_bags_are_on_disk_and_in_the_memory_of_training(cohort: Path) -> None:
    before = operations_costs.measure(cohort)
    for number in (3, 10):
        path = cohort / f"bags/color/resamples-{number}-0.5.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * number * 10**6)
    found = operations_costs.measure(cohort)
    assert (before.resamples, found.resamples) == (0, 10)
    grown = found.stages["bags"].disk["bags"] - before.stages["bags"].disk["bags"]
    assert grown == pytest.approx(0.013)
    few, many = (operations_costs.extrapolate(each, 30)["train"] for each in (before, found))
    more = 20 * 10 * operations_costs.RESAMPLED_SHARE * found.bag_gb
    assert many.memory - few.memory == pytest.approx(more)


def test_tables(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "costs.tsv"
    commands_costs.main(
        [str(cohort), "--slides", "1000", "100000", "--tiles", "98", "--out", str(out)]
    )
    text = capsys.readouterr().out
    assert text.startswith(f"{cohort}: 10 slides of 49 tiles; extrapolated to 98\n")
    assert all(f"\n{title}" in text for title in operations_costs.QUANTITIES.values())
    line = next(line for line in text.splitlines() if line.strip().startswith("features"))
    assert line.split() == ["features", "tiles", "1.0", "200", "19,951"]
    table = pl.read_csv(out, separator="\t")
    assert table.columns == ["stage", "grows_with", "slides", "tiles", "quantity", "value"]
    assert table["slides"].unique(maintain_order=True).to_list() == [10, 1000, 100_000]
    cpu = table.filter(pl.col("quantity") == "cpu", pl.col("slides") == 1000)
    assert f"{cpu['value'].sum():,.0f}" in next(
        line for line in text.splitlines() if line.strip().startswith("together")
    )


def test_a_thousand_slides_the_published_cohorts_and_an_archive(
    cohort: Path, tmp_path: Path
) -> None:
    commands_costs.main([str(cohort), "--out", str(tmp_path / "costs.tsv")])
    table = pl.read_csv(tmp_path / "costs.tsv", separator="\t")
    assert table["slides"].unique(maintain_order=True).to_list() == [10, 1000, 2121, 100_000]


def test_without_a_gpu_the_table_says_so(cohort: Path) -> None:
    (cohort / "logs/train-color-flow-go-bp-0.log").unlink()
    found = operations_costs.measure(cohort)
    assert "GPU, hours: none" in operations_costs.format_costs(
        cohort, found, operations_costs.cost_table(found, [100])
    )


def test_refusals(tmp_path: Path, cohort: Path) -> None:
    with pytest.raises(StageError, match=r"slides\.parquet"):
        operations_costs.measure(tmp_path)
    for path in (cohort / "benchmarks").iterdir():
        path.unlink()
    with pytest.raises(StageError, match="benchmark files"):
        operations_costs.measure(cohort)


def test_every_rule_with_a_benchmark_has_a_stage(repo: Path) -> None:
    named = set()
    for path in (repo / "workflow/rules").glob("*.smk"):
        for line in path.read_text().splitlines():
            if found := re.search(r'benchmark\("(\w+)', line):
                named.add(found[1])
    assert named - {"demo"} == set(operations_costs.STAGES)
