"""How good is it? Metrics, baselines to beat, the classifiers that judge, and one table that puts it all together."""
