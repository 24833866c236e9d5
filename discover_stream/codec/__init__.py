"""Codec: picture <-> atoms of bits."""
