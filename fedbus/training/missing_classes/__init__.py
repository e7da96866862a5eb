"""What a site's loss does with the classes that the site lacks: one policy per file."""
