"""Images in a PACS: what DICOMweb and DIMSE servers hold, listed series by series and fetched instance by instance.

Knows dicomweb-client and pynetdicom, of the extra ``pacs``; imports :mod:`model.errors` and nothing else of this
program. Both libraries are imported when a PACS is first asked.
"""
