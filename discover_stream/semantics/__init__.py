"""Semantics: task -> label set -> regions -> tracks."""
