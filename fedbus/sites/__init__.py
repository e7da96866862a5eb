"""A manifest to a site: near-duplicate groups, split, pixel cache, inspection."""
