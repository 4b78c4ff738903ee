"""External validation: fold models of one cohort, scored on another."""
