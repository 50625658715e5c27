"""Certificates and their checks in exact arithmetic; nothing here trusts a learner."""
