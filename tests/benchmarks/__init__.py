"""The benchmark: `poe bench`. Not part of the suite; `tests/test_benchmarks.py` tries it out."""
