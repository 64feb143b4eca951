"""One module a command; what they need is imported when they run."""
