"""Beyond the basics, as in lesson 16: likelihoods, straight paths, learned variances and noise schedules."""
