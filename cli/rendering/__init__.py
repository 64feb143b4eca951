"""How results look: tables, sheets, thumbnails and progress."""
