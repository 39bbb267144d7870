"""Beyond the basics, lesson 16: likelihood, straight paths, learned variance and schedule."""
