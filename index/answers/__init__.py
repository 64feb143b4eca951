"""Answers for people and programs: their words, JSON and CSV records, and sheets of pictures."""
