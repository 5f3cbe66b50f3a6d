"""The run: stages in order, each resumable, each committing finished units as it goes.

cache -> records -> explain -> score -> report. `run_pipeline` drives them; a stage is one file.
"""
