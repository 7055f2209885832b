"""Helpers of the server of the stand-in."""
