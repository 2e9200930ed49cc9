"""openMosixanalyzer: load and memory of hours and days."""
