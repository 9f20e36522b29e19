"""The native agent: an A2A server that runs inside a sandbox and reaches the world through one door."""
