"""Older ways into pip."""
