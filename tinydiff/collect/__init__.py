"""Whatever pictures people have on disk, found, described, and made ready for training."""
