"""What a site checks before it joins: its images, its machine, its hub."""
