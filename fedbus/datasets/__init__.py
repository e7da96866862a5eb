"""A folder of images to a manifest."""
