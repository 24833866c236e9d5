"""Thin Ray actors around the library: who does what."""
