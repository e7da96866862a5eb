"""Where a model looked: Grad-CAM maps, their pictures, and how much of a map is inside the lesion."""
