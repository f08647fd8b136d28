"""Tests. A package, so that tests.chain can be imported by the demo and by the benchmarks."""
