"""Rows of the registry against a second transcription; names of other tools; tiles that differ."""

from __future__ import annotations

import pytest
from slide2rna.core.errors import ConfigError
from slide2rna.features import encoder_specs
from slide2rna.features.stated_facts import encoder_name

# Name, length of the vector, edge of the tiles, resolution, red of the mean, access on request.
ROWS = """
resnet50 2048 256 0.5 0.485 no
uni 1024 256 0.5 0.485 yes
uni2 1536 256 0.5 0.485 yes
conch 512 512 0.5 0.481 yes
conch15 768 512 0.5 0.485 yes
virchow 2560 224 0.5 0.485 yes
virchow2 2560 224 0.5 0.485 yes
hoptimus0 1536 224 0.5 0.707 no
hoptimus1 1536 224 0.5 0.707 yes
h0-mini 768 224 0.5 0.707 yes
gigapath 1536 256 0.5 0.485 yes
phikon 768 224 0.5 0.485 no
phikon2 1024 224 0.5 0.485 no
midnight 3072 224 0.5 0.5 no
openmidnight 1536 224 0.5 0.485 yes
hibou-b 768 224 0.5 0.707 yes
hibou-l 1024 224 0.5 0.707 yes
gpfm 1024 224 0.5 0.485 no
genbio-pathfm 4608 224 0.5 0.697 no
kaiko-vits8 384 256 0.5 0.5 no
kaiko-vits16 384 256 0.5 0.5 no
kaiko-vitb8 768 256 0.5 0.5 no
kaiko-vitb16 768 256 0.5 0.5 no
kaiko-vitl14 1024 256 0.5 0.5 no
lunit-vits8 384 224 0.5 0.703 no
lunit-vits16 384 224 0.5 0.703 no
lunit-bt 2048 224 0.5 0.703 no
lunit-swav 2048 224 0.5 0.703 no
lunit-mocov2 2048 224 0.5 0.703 no
ctranspath 768 256 1 0.485 no
mstar 1024 256 0.5 0.485 no
pathorchestra 1024 224 0.5 0.485 yes
musk 1024 384 0.5 0.5 yes
keep 768 256 0.5 0.485 no
plip 512 224 0.5 0.481 no
"""
TRIDENT = (
    *("conch_v1", "conch_v15", "uni_v1", "uni_v2", "ctranspath", "phikon", "phikon_v2", "resnet50"),
    *("keep", "gigapath", "virchow", "virchow2", "hoptimus0", "hoptimus1", "h0-mini", "musk"),
    *("openmidnight", "gpfm", "hibou_l", "kaiko-vitb8", "kaiko-vitb16", "kaiko-vits8"),
    *("kaiko-vits16", "kaiko-vitl14", "lunit-vits8", "midnight12k", "genbio-pathfm"),
)
STAMP = (
    *("ctranspath", "chief-ctranspath", "conch", "conch1_5", "uni", "uni2", "gigapath", "musk"),
    *("h-optimus-0", "h-optimus-1", "virchow", "virchow-full", "virchow2", "mstar", "plip", "keep"),
)


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_rows(row: str) -> None:
    name, dim, tile_px, mpp, red, gated = row.split()
    spec = encoder_specs.find(name)
    assert (spec.dim, spec.tile_px, spec.mpp) == (int(dim), int(tile_px), float(mpp))
    assert spec.mean[0] == pytest.approx(float(red), abs=1e-3)
    assert spec.gated == (gated == "yes")
    assert spec.licence
    assert spec.url is None or spec.url.startswith("https://")


def test_every_row_is_transcribed() -> None:
    written = {row.split()[0] for row in ROWS.strip().splitlines()}
    assert encoder_specs.encoders().keys() - written == {"lite0", "color", "alhena"}


@pytest.mark.parametrize("stated", [*TRIDENT, *STAMP])
def test_names_of_trident_and_stamp_are_rows(stated: str) -> None:
    assert encoder_name(stated) in encoder_specs.encoders()


def test_names_of_slide_encoders() -> None:
    for stated, name in (
        ("TITAN", "titan"),
        ("gigapath", "gigapath-slide"),
        ("feather_uni_v2", "feather-uni2"),
        ("prism", "prism"),
    ):
        assert encoder_name(stated, "slide") == name
        assert encoder_specs.slide_encoders()[name].tiles in encoder_specs.encoders()
    assert encoder_name("gigapath") == "gigapath"


def test_no_name_has_two_rows() -> None:
    for table in (encoder_specs.encoders(), encoder_specs.slide_encoders()):
        names = [name for spec in table.values() for name in (spec.name, *spec.aliases)]
        assert len(names) == len(set(names))
        assert all(name == name.lower() for name in names)


def test_tiles_that_differ_from_those_of_the_training() -> None:
    assert encoder_specs.tile_warning("uni", 256, 0.5) is None
    assert encoder_specs.tile_warning("uni", 256, 0.51) is None
    assert encoder_specs.tile_warning("lite0", 96, 4) is None
    assert encoder_specs.tile_warning("resnet18", 96, 4) is None
    for name, tile_px, mpp, right in (
        ("virchow2", 256, 0.5, "tile_px: 224, mpp: 0.5"),
        ("ctranspath", 256, 0.5, "tile_px: 256, mpp: 1"),
        ("uni", 256, 0.25, "tile_px: 256, mpp: 0.5"),
    ):
        assert right in str(encoder_specs.tile_warning(name, tile_px, mpp))


def test_names_of_other_tools_and_of_the_hub() -> None:
    for name in ("uni_v1", "hf-hub:MahmoodLab/uni", "hf-hub:mahmoodlab/UNI"):
        with pytest.raises(ConfigError, match="use encoder: uni"):
            encoder_specs.find(name)
    for name in ("hf-hub:a", "hf-hub:a/b@main"):
        with pytest.raises(ConfigError, match="OWNER/NAME"):
            encoder_specs.find(name)
    assert encoder_specs.find("hf-hub:lab/net").hub == "lab/net"
    assert encoder_specs.find("resnet18").url == "https://huggingface.co/timm/resnet18"
    assert "virchow2" in encoder_specs.similar("virchow3")
