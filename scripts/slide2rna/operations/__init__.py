"""Operations: preflight checks and the costs of a run."""
