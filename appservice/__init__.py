"""Opsroom's control plane: a Matrix application service that runs teams of AI agents."""

__version__ = "0.1.0"
