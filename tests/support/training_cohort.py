"""The cohort and the device that training is tested on."""

from __future__ import annotations

import flow_cohort
import pytest
import torch

CPU = torch.device("cpu")
PARTS = {"train": 14, "val": 4, "cal": 2, "test": 4}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> flow_cohort.FlowCohort:
    return flow_cohort.make(tmp_path_factory.mktemp("cohort"), PARTS)
