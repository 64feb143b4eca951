"""What is done to an index that is there: copied, backed up, and freed of points. No Ray, and no picture is read.

Imports the rest of :mod:`index` and :mod:`model`.
"""
