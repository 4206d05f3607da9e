"""llmops: one command-line tool and one YAML file for the whole life of a model."""

__version__ = "0.1.0"
