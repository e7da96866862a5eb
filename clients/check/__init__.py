"""What a site finds out before it joins: its data, its machine, its hub."""
