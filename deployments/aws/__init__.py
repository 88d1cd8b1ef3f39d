"""Boat on AWS: one CloudFormation template, what it costs, and how it gets there."""
