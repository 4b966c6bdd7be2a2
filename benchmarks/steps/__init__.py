"""The steps of benchmarks/way_home.py, each in a file of its own."""
