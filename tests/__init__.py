"""Tests of Opsroom."""
