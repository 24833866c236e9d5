"""Measures: how good a decoded picture is for machines and for people, and what it cost."""
