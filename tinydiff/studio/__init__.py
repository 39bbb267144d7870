"""Live hands: sliders, an easel and a plane for notebooks, whose pictures the package computes."""
