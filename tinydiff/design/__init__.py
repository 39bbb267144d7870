"""What designers do with a trained model: draw on request, edit, restore, restyle, recolour."""
