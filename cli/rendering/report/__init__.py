"""Evaluation reports: one self-contained HTML page, a Markdown twin, and JSON and CSV beside."""
