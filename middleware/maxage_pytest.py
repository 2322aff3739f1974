"""The pytest plugin: fixtures for tests of applications with a cache.

pytest imports it in every run of an environment that has maxage, so it lies beside the package and
imports nothing of it: `import maxage` takes 0.4 s. What it needs is in `maxage.testing`.
"""
