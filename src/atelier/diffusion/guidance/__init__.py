"""Guidance: combinators that turn the predictions of several conditionings into one."""
