"""YAML files: keys that aren't text, numbers that aren't, encodings, and aliases without end."""

from __future__ import annotations

from pathlib import Path

import pytest
from slide2rna.core import config, yaml_file
from slide2rna.core.errors import ConfigError


@pytest.mark.parametrize("key", ["NO", "on", "2024", "1.5", "null", "2024-09-07"])
def test_a_key_that_yaml_does_not_read_as_text(tmp_path: Path, key: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"cohorts:\n  {key}: {{source: demo}}\n")
    with pytest.raises(ConfigError) as caught:
        yaml_file.check_keys(path)
    assert caught.value.where == f"{path} line 2"
    assert f'"{key}"' in caught.value.remedy
    path.write_text(f'cohorts:\n  "{key}": {{source: demo}}\n')
    yaml_file.check_keys(path)


def test_a_cohort_whose_name_is_no_text(tmp_path: Path) -> None:
    """As Snakemake's --config gives it."""
    with pytest.raises(ConfigError, match="2024"):
        config.validate({"cohorts": {2024: {"source": "demo"}}})


@pytest.mark.parametrize("number", ["1e-4", "5E3", "-2e+1"])
def test_an_exponent_without_a_decimal_point(tmp_path: Path, number: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"cohorts:\n  a: {{source: demo}}\ntrain:\n  learning_rate: {number}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert "decimal point" in caught.value.cause
    assert f"{float(number):g}" in caught.value.remedy


@pytest.mark.parametrize("content", [b"# M\xfcnchen\ncohorts: {}\n", b"\xff\xfea: 1\n"])
def test_other_encodings_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(tmp_path / "c.yaml")


@pytest.mark.timeout(60)
def test_aliases_are_visited_once(tmp_path: Path) -> None:
    """Each line doubles the one before: 2^60 nodes, if aliases were followed."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    yaml_file.check_keys(tmp_path / "c.yaml")
