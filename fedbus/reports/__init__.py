"""Reports for readers: tables, figures and pages."""
