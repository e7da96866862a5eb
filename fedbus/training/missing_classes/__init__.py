"""What a site's loss does with the classes that it has no training rows of: one policy per file."""
