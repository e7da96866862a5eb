"""Model card and reporting checklists of a finished run."""
