"""Settings: YAML files, the command line, and checked frozen dataclasses."""
