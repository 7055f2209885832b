"""Tests of the ComfyUI stand-in."""
