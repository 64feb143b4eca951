"""The command line: one Typer app, one module a command, and rendering. The only package that prints.

Imports ``workers``, ``index`` and ``model``, inside its commands: ``cbmir --help`` loads none of ray, torch or pydicom.
"""
