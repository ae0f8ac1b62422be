"""Composition roots: read Settings, build the adapters, own signals and exit codes."""
