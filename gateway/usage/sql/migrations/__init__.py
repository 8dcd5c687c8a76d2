"""Migrations: older tables brought up to date at the start.

steps    what the steps are, and what each must keep to
runner   takes those that are missing, each whole or not at all
"""
