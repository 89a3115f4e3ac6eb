"""Cohorts: from a dataset of recordings to tables of features with intervals."""
