"""The ground that every room stands on: errors, files, seeds, logging, configuration, types."""
