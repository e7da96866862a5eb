"""The published figures beside ours."""
