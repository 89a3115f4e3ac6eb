"""Cohorts: a dataset of recordings in, tables of features with intervals out."""
