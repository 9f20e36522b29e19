"""Measurements that the README and the closing notes quote; each is a program of its own."""
