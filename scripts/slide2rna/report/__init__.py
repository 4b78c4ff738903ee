"""Reports: the page of a run, the page of an external validation, and the MultiQC table."""
