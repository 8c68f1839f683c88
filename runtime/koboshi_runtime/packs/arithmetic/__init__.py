"""Worded problems of one to three steps, solved with a calculator."""
