"""Bytes to meaning and back, pure: one file per dialect, which speaks both directions."""
