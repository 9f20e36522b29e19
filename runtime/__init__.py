"""The native agent: an A2A server that runs inside a sandbox and reaches the world through one door."""

__version__ = "0.1.0"  # that of the control plane it came with
