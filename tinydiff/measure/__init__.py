"""How good is it? Metrics, baselines to beat, classifiers of images, and one table of it all."""
