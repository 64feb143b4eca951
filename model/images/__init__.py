"""Any image file into grey frames: where its bytes lie, what format they are, and how its pixels are shown.

Knows pydicom, Pillow, tifffile and the decoders; imports :mod:`model.errors` and nothing else of this program. pydicom
takes 0.3 s to import, so :mod:`model.images.reading` imports what needs it when it is needed.
"""
