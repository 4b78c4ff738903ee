"""Storage: tables, tensors and folds with checksums that are compared, and stamps of inputs."""
