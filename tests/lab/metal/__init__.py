"""Tests of the metal lab."""
