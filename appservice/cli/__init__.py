"""`opsroom` on the command line."""
