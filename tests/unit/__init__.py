"""Rooms of comfygov on their own: real files, real git, real processes."""
