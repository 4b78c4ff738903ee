"""References of a run: this software, the method, the encoder, gene sets, data and networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slide2rna import __version__


@dataclass(frozen=True)
class Reference:
    """A work to cite.

    Attributes
    ----------
    key : key of the BibTeX entry.
    role : part of the run that the work is cited for.
    kind : BibTeX type.
    fields : fields of the entry, in order, under BibTeX's names.
    """

    key: str
    role: str
    kind: str
    fields: dict[str, str]

    @property
    def link(self) -> str:
        """Address of the work, or an empty string."""
        doi = self.fields.get("doi")
        return f"https://doi.org/{doi}" if doi else self.fields.get("url", "")

    @property
    def text(self) -> str:
        """Authors, title, place and year, in one line."""
        names = self.fields["author"].split(" and ")
        first = [name.partition(", ")[0].strip("{}") for name in names]
        others = names[-1] == "others" or len(names) > 2
        authors = f"{first[0]} et al." if others else " and ".join(first)
        place = self.fields.get("journal") or self.fields.get("booktitle")
        parts = [self.fields["title"].replace("{", "").replace("}", ""), place]
        return f"{authors}: {'. '.join(part for part in parts if part)}, {self.fields['year']}"

    @property
    def bibtex(self) -> str:
        rows = [f"  {name} = {{{value}}}" for name, value in self.fields.items()]
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(rows) + "\n}"


def _article(
    key: str, role: str, author: str, title: str, journal: str, year: int, doi: str
) -> Reference:
    fields = {"author": author, "title": title, "journal": journal, "year": str(year), "doi": doi}
    return Reference(key, role, "article", fields)


def _paper(
    key: str, role: str, author: str, title: str, booktitle: str, year: int, url: str
) -> Reference:
    fields = {"author": author, "title": title, "booktitle": booktitle}
    return Reference(key, role, "inproceedings", fields | {"year": str(year), "url": url})


NATURE = "Nature"
COMMUNICATIONS = "Nature Communications"
ICML = "International Conference on Machine Learning"
TCGA = "{The Cancer Genome Atlas Research Network}"
ATLAS = "{The Cancer Genome Atlas Network}"

OURS = Reference(
    "slide2rna",
    "this software",
    "software",
    {
        "author": "{The slide2rna authors}",
        "title": "{slide2rna}: gene expression from H&E whole-slide images, with uncertainty",
        "version": __version__,
        "year": "2026",
    },
)
NETWORKS = {
    "flow": _paper(
        "song2026rnafm", "the model flow", "Song, Yaxuan and Fan, Jianan and Wang, Tianyi and "
        "Hu, Qiuyue and Chang, Hang and Huang, Heng and Cai, Weidong",
        "{RNA-FM}: Flow-Matching Generative Model for Genome-wide {RNA-Seq} Prediction",
        ICML, 2026, "https://github.com/YXSong000/RNA-FM",
    ),
    "he2rna": _article(
        "schmauch2020he2rna", "the model he2rna", "Schmauch, Benoît and others",
        "A deep learning model to predict {RNA-Seq} expression of tumours from whole slide images",
        COMMUNICATIONS, 2020, "10.1038/s41467-020-17678-4",
    ),
    "trnasformer": _article(
        "alsaafin2023trnasformer", "the model trnasformer", "Alsaafin, Areej and others",
        "Learning to predict {RNA} sequence expressions from whole slide images with applications "
        "for search and classification",
        "Communications Biology", 2023, "10.1038/s42003-023-04583-x",
    ),
    "sequoia": _article(
        "pizurica2024sequoia", "the model sequoia", "Pizurica, Marija and others",
        "Digital profiling of gene expression from histology images with linearized attention",
        COMMUNICATIONS, 2024, "10.1038/s41467-024-54182-5",
    ),
    "abmil": _paper(
        "ilse2018abmil", "the model abmil", "Ilse, Maximilian and Tomczak, Jakub M. and Welling, "
        "Max", "Attention-based Deep Multiple Instance Learning",
        ICML, 2018, "https://arxiv.org/abs/1802.04712",
    ),
}  # fmt: skip
UNI = _article(
    "chen2024uni", "the encoder", "Chen, Richard J. and others",
    "Towards a general-purpose foundation model for computational pathology",
    "Nature Medicine", 2024, "10.1038/s41591-024-02857-3",
)  # fmt: skip
ENCODERS = {
    "lite0": _paper(
        "tan2019efficientnet", "the encoder", "Tan, Mingxing and Le, Quoc V.",
        "{EfficientNet}: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML, 2019, "https://arxiv.org/abs/1905.11946",
    ),
    "resnet50": _paper(
        "he2016resnet", "the encoder",
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "Deep Residual Learning for Image Recognition",
        "IEEE Conference on Computer Vision and Pattern Recognition", 2016,
        "https://doi.org/10.1109/CVPR.2016.90",
    ),
    "uni": UNI,
    "uni2": UNI,
}  # fmt: skip
ONTOLOGY = (
    _article(
        "ashburner2000go", "the gene sets", "Ashburner, Michael and others",
        "Gene Ontology: tool for the unification of biology", "Nature Genetics", 2000,
        "10.1038/75556",
    ),
    _article(
        "go2021", "the gene sets", "{The Gene Ontology Consortium}",
        "The Gene Ontology resource: enriching a {GOld} mine", "Nucleic Acids Research", 2021,
        "10.1093/nar/gkaa1113",
    ),
)  # fmt: skip
PROJECTS = {
    "TCGA-LUAD": _article(
        "tcga2014luad", "the data", TCGA, "Comprehensive molecular profiling of lung "
        "adenocarcinoma", NATURE, 2014, "10.1038/nature13385",
    ),
    "TCGA-BRCA": _article(
        "tcga2012brca", "the data", ATLAS, "Comprehensive molecular portraits of human breast "
        "tumours", NATURE, 2012, "10.1038/nature11412",
    ),
    "TCGA-COAD": _article(
        "tcga2012coad", "the data", ATLAS, "Comprehensive molecular characterization of human "
        "colon and rectal cancer", NATURE, 2012, "10.1038/nature11252",
    ),
}  # fmt: skip
GDC = _article(
    "grossman2016gdc", "where the data come from", "Grossman, Robert L. and others",
    "Toward a Shared Vision for Cancer Genomic Data", "New England Journal of Medicine", 2016,
    "10.1056/NEJMp1607591",
)  # fmt: skip
TCIA = _article(
    "clark2013tcia", "where the slides come from", "Clark, Kenneth and others",
    "The Cancer Imaging Archive ({TCIA}): Maintaining and Operating a Public Information "
    "Repository", "Journal of Digital Imaging", 2013, "10.1007/s10278-013-9622-7",
)  # fmt: skip
HER2ST = _article(
    "andersson2021her2st", "the data", "Andersson, Alma and others",
    "Spatial deconvolution of {HER2}-positive breast cancer delineates tumor-associated cell type "
    "interactions", COMMUNICATIONS, 2021, "10.1038/s41467-021-26271-2",
)  # fmt: skip


def references(
    cohort: dict[str, Any], models: list[str], encoder: str, pathway_set: str
) -> list[Reference]:
    """Return the works that a run builds on, each once, this software first.

    Parameters
    ----------
    cohort : cohort.json.
    models : all models on the page; a variant (`flow.seed-2`) counts as its base.
    encoder, pathway_set : names of the features and of the gene sets.
    """
    works = [OURS]
    bases = dict.fromkeys(name.partition(".")[0] for name in models)
    works += [NETWORKS[name] for name in bases if name in NETWORKS]
    if encoder in ENCODERS:
        works.append(ENCODERS[encoder])
    if pathway_set.startswith("go-"):
        works += ONTOLOGY
    works += _data(cohort)
    return list({work.key: work for work in works}.values())


def _data(cohort: dict[str, Any]) -> list[Reference]:
    """Choose by source and cohort name; for GDC only the name identifies the project."""
    source, name = str(cohort.get("source", "")), str(cohort.get("name", "")).upper()
    if source == "her2st":
        return [HER2ST]
    if source != "gdc":
        return []
    works = [work for project, work in PROJECTS.items() if name in (project, project[5:])]
    return [*works, *[TCIA] * ("CPTAC" in name), GDC]
